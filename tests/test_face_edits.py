"""Faces edited along their landmarks and treated as cameras treat them, and the pairs that a deep detective sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import load_file

from pixelsleuth.datasets.layouts import names_of_root, source_of
from pixelsleuth.datasets.preparation import prepare_images
from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.models.backbone import EfficientNetLite
from pixelsleuth.models.configuration import DetectiveConfig, PriorConfig, VQVAEConfig
from pixelsleuth.models.detective import DEEP_STRIDE, DeepDetective
from pixelsleuth.records import Box
from pixelsleuth.scoring.judgement import Judgement, Limits, PValues, judgement, limit_of
from pixelsleuth.scoring.measurements import near_scores
from pixelsleuth.scoring.networks import TorchNetworks, altered_map
from pixelsleuth.scoring.scorer import Crops, Scorer
from pixelsleuth.scoring.settings import settings_from_tree
from pixelsleuth.sources import faces
from pixelsleuth.sources.faces import Framing, Sizes, cut_views, main_face
from pixelsleuth.sources.images import encode_jpeg
from pixelsleuth.synthesis.camera import treated
from pixelsleuth.synthesis.face_edits import DONOR_EDITS, SHARES, Portrait, edited
from pixelsleuth.synthesis.landmarks import outlines
from pixelsleuth.training.data import Sampler
from pixelsleuth.training.fitting import fit_scores
from pixelsleuth.training.pairs import Numbered, PairSettings, PairSource
from pixelsleuth.training.presets import PRESETS, Stage
from pixelsleuth.training.run import train


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def portrait(photo: np.ndarray) -> Portrait:
    face = main_face(photo, Framing(level=True))
    crop = faces.patch(photo, face.box)
    return Portrait(np.ascontiguousarray(crop), faces.in_patch(np.array(face.landmarks), face.box))


@pytest.fixture(scope="module")
def face_store(photo: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve faces of two sources: one photograph under another light, at two sizes."""
    root = tmp_path_factory.mktemp("faces")
    for number in range(12):
        source = root / ("large" if number % 3 == 0 else "small") / "train/real"
        source.mkdir(parents=True, exist_ok=True)
        made = np.clip(photo[:320, 60:380] * (0.7 + 0.05 * number), 0, 255).astype(np.uint8)
        if number % 3 == 0:
            made = cv2.resize(made, (960, 960), interpolation=cv2.INTER_CUBIC)
        (source / f"{number}.jpg").write_bytes(encode_jpeg(made, 95))
    path = root / "faces.h5"
    prepare_images([root / "large/train", root / "small/train"], path, framing=Framing(level=True), workers=1)
    return path


def test_outlines_lie_around_their_landmarks(portrait: Portrait) -> None:
    found = outlines(portrait.five)
    for name, mark in (("left_eye", 0), ("right_eye", 1), ("nose", 2)):
        low, high = found[name].min(0), found[name].max(0)
        slack = 0.2 * portrait.span
        assert (portrait.five[mark] > low - slack).all(), name
        assert (portrait.five[mark] < high + slack).all(), name
    face = cv2.convexHull(found["face"])
    assert all(cv2.pointPolygonTest(face, tuple(map(float, p)), False) > 0 for p in portrait.five)


def test_outlines_turn_and_grow_with_the_face(portrait: Portrait) -> None:
    angle, scale = np.radians(30), 1.7
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = outlines((portrait.five @ turn + 11).astype(np.float32))
    for name, points in outlines(portrait.five).items():
        assert np.abs(points @ turn + 11 - moved[name]).max() < 0.05, name


@pytest.mark.parametrize("kind", SHARES)
def test_an_edit_keeps_to_its_mask_and_is_the_same_for_the_same_seed(portrait: Portrait, kind: str) -> None:
    donor = Portrait(np.clip(portrait.pixels[:, ::-1] * 0.8, 0, 255).astype(np.uint8).copy(), portrait.five)
    once, again = (edited(portrait, donor, kind, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(once.pixels, again.pixels)
    assert once.pixels.shape == portrait.pixels.shape
    assert once.pixels.dtype == np.uint8
    changed = np.abs(once.pixels.astype(int) - portrait.pixels).max(2)
    assert changed.max() > 3
    if kind not in ("self_blend", "liquified"):
        # A self-blend may restyle what surrounds the face in place of the face, and a shift by less than a pixel is not
        # marked.
        assert changed[~once.mask].max(initial=0) <= 14, "more than the foot of a soft rim"


def test_a_black_and_white_face_stays_black_and_white(portrait: Portrait) -> None:
    grey = np.repeat(portrait.pixels.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    for kind in ("donor_swap", "painted", "covered"):
        made = edited(Portrait(grey, portrait.five), portrait, kind, np.random.default_rng(1)).pixels
        assert (made == made[..., :1]).all(), kind


def test_a_kind_that_needs_a_donor_says_so(portrait: Portrait) -> None:
    for kind in DONOR_EDITS:
        with pytest.raises(ValueError, match="needs another face"):
            edited(portrait, None, kind, np.random.default_rng(0))
    with pytest.raises(ValueError, match="expected one of"):
        edited(portrait, None, "moustache", np.random.default_rng(0))


def test_both_pictures_of_a_pair_are_treated_alike(portrait: Portrait) -> None:
    other = np.full_like(portrait.pixels, 90)
    sizes = set()
    for seed in range(40):
        ours, theirs = treated(portrait.pixels, (seed,)), treated(other, (seed,))
        assert ours.shape == theirs.shape
        assert np.array_equal(ours, treated(portrait.pixels, (seed,)))
        # A flat picture tells of the tone alone; both must have been lit alike.
        sizes.add(ours.shape)
    assert len(sizes) > 5, "scaling leaves other sizes"


def test_a_level_face_is_level_and_its_landmarks_are_found_on_the_crop(photo: np.ndarray) -> None:
    height, width = photo.shape[:2]
    tilted = cv2.warpAffine(photo, cv2.getRotationMatrix2D((224, 118), -18, 1.0), (width, height))
    face = main_face(tilted, Framing(level=True))
    assert 12 < face.box.angle < 24
    marks = faces.in_patch(np.array(face.landmarks), face.box)
    left, right = marks[:2]
    assert abs(np.degrees(np.arctan2(*(right - left)[::-1]))) < 1e-3
    again = faces.find_faces(faces.patch(tilted, face.box))[0]
    assert np.abs(np.array(again.landmarks) - marks).max() < 0.06 * face.box.width
    assert main_face(photo, Framing(level=True)).box == main_face(photo).box, "an upright face is left as it is"


def test_a_store_knows_sources_and_landmarks(face_store: Path) -> None:
    with Store(face_store) as store:
        rows = store.rows("train")
        assert set(store.sources(rows)) == {"large", "small"}
        for row in rows[:4]:
            marks = store.landmarks(int(row))
            assert marks is not None
            side = store.box(int(row)).width
            assert (marks > 0).all()
            assert (marks < side).all()
    assert source_of("a/faces_world/calib/real/fairface") == "fairface"
    assert names_of_root(Path("/data/set/val/real/somewhere"))[:2] == ("val", "real")


def test_pairs_hang_on_their_number_alone(face_store: Path) -> None:
    with Store(face_store) as store:
        rows = store.rows("train")
    source = PairSource(face_store, rows, PairSettings(64, DEEP_STRIDE, SHARES))
    picked = np.array([[0, 0], [3, 1], [1, 2], [2, 3]])
    pixels, mask = source(picked)
    assert pixels.shape == (8, 64, 64, 3)
    assert mask.shape == (4, 8, 8)
    assert mask.min() >= 0
    assert 0 < mask.max() <= 1
    backwards, _ = source(picked[::-1])
    assert np.array_equal(backwards[:4], pixels[:4][::-1])
    assert not np.array_equal(pixels[0], pixels[4])
    other, _ = source(picked + np.array([0, 10]))
    assert not np.array_equal(other, pixels)
    with pytest.raises(ValueError, match="shares"):
        PairSource(face_store, rows, PairSettings(64, 8, {"moustache": 1}))


def test_untreated_pairs_differ_under_the_mask_alone(face_store: Path) -> None:
    with Store(face_store) as store:
        rows = store.rows("train")
    source = PairSource(face_store, rows, PairSettings(64, 8, {"liquified": 1, "patched": 1}, treat=False))
    for number in range(6):
        picture, forgery, mask, _ = source.pair(number, number)
        cells = np.abs(picture.astype(int) - forgery).max(2).reshape(8, 8, 8, 8).max((1, 3))
        assert cells[mask == 0].max(initial=0) <= 25, "cubic kernels reach into the next cell"


def test_sources_are_balanced_and_batches_numbered() -> None:
    sources = ["many"] * 900 + ["few"] * 100
    drawn = np.concatenate(
        [Sampler([""] * 1000, Stage(batch=50, balance=0.5), 0, sources).rows(step) for step in range(200)]
    )
    # Roots of 900 and 100 are 30 and 10.
    assert abs((drawn >= 900).mean() - 0.25) < 0.02
    plain = Sampler([""] * 1000, Stage(batch=50), 0, sources)
    assert len(np.unique(np.concatenate([plain.rows(step) for step in range(20)]))) == 1000
    assert Numbered(plain).rows(3)[:, 1].tolist() == list(range(150, 200))


def test_the_deep_detective_and_its_windows_agree() -> None:
    torch.manual_seed(0)
    network = DeepDetective(DetectiveConfig(kind="deep", size=64)).eval()
    image = torch.rand(2, 3, 64, 64)
    places, whole = network(image)
    assert places.shape == (2, 8, 8)
    assert whole.shape == (2,)
    near, windows = network.windows(torch.rand(3, 3, 128, 128))
    assert near.shape == (3, 16, 16)
    assert windows.shape == (3, 9)
    # A picture that repeats itself looks the same through every window, but for what its rim does.
    flat, same = network.windows(torch.full((1, 3, 128, 128), 0.5))
    alone = network(torch.full((1, 3, 64, 64), 0.5))[1]
    assert (same - alone).abs().max() < 0.5
    assert flat.std() < 1
    with pytest.raises(ValueError, match="multiple of 32"):
        DetectiveConfig(kind="deep", size=100)


def test_the_trunk_pads_as_tensorflow_does() -> None:
    """At stride 2 an even side has its zeros on the right and below alone: a shift by two pixels shifts by one."""
    torch.manual_seed(0)
    stem = EfficientNetLite().eval().stem
    image = torch.zeros(1, 3, 16, 16)
    image[..., 4, 4] = 1.0
    moved = torch.zeros(1, 3, 16, 16)
    moved[..., 6, 6] = 1.0
    assert torch.allclose(stem(image)[..., 1:6, 1:6], stem(moved)[..., 2:7, 2:7], atol=1e-6)
    corner = torch.nn.functional.conv2d(image, stem.conv.weight, stride=2)
    assert torch.allclose(stem.norm(corner).clamp(0, 6), stem(image)[..., :7, :7], atol=1e-6)


def test_a_large_face_is_looked_at_from_near(photo: np.ndarray) -> None:
    sizes = Sizes(128, 192, 384)
    small, large = Box(100, 20, 300, 220), Box(10, 10, 310, 310)
    assert cut_views(photo, small, sizes).near is None
    near = cut_views(photo, large, sizes).near
    assert near is not None
    assert near.shape == (384, 384, 3)
    assert cut_views(photo, small, sizes, near=True).near is not None
    assert cut_views(photo, large, Sizes(128, 128)).close is None


def judged(p_faces: list[float], reasons: list[dict[str, str] | None]) -> Judgement:
    return judgement({"calibration": PValues([[p] for p in p_faces], p_faces)}, 0.01, Limits(reasons))


def test_a_face_turned_away_or_blurred_is_not_judged_surely(photo: np.ndarray) -> None:
    face = main_face(photo)
    square = faces.cut(photo, face.box, 128)
    assert limit_of(face, square) is None
    left, right, *others = face.landmarks
    turned = replace(face, landmarks=(left, right, (right[0] + 0.5 * (right[0] - left[0]), right[1]), *others[1:]))
    reason = limit_of(turned, square)
    assert reason is not None
    assert reason["code"] == "turned_away"
    soft = limit_of(face, cv2.GaussianBlur(square, (0, 0), 12))
    assert soft is not None
    assert soft["code"] == "blurred"
    # A blurred bystander does not decide beside a sharp face, nor cost it a factor.
    beside = judged([0.4, 0.001], [None, soft])
    assert (beside.verdict, beside.p_value, beside.decisive) == ("normal", 0.4, 0)
    assert list(beside.verdicts) == ["normal", "unsure"]
    alone = judged([0.001], [soft])
    assert (alone.verdict, alone.reason) == ("unsure", soft)
    assert judged([0.004, 0.3], [None, None]).verdict == "anomalous"


def test_a_tiny_deep_model_is_trained_resumed_fitted_and_examined(face_store: Path, tmp_path: Path) -> None:
    stage = Stage(epochs=1, batch=4, precision="32-true")
    settings = replace(
        PRESETS["faces"], vqvae_stage=stage, prior_stage=stage,
        vqvae=VQVAEConfig(codes=32, dimensions=8, widths=(16, 16)),
        priors=(PriorConfig(codes=32, width=16, blocks=1, heads=2),),
        detective=DetectiveConfig(kind="deep", size=64, pretrained=False),
        detective_stage=replace(stage, epochs=0.7, augment="none"),
    )  # fmt: skip
    folder = tmp_path / "model"
    train(face_store, folder, settings, progress=False, say=lambda line: None)
    first = (folder / "detective.safetensors").read_bytes()
    (folder / "detective.safetensors").unlink()
    train(face_store, folder, settings, resume=True, progress=False, say=lambda line: None)
    assert (folder / "detective.safetensors").read_bytes() == first, "a resumed run gives the same weights"
    # Trained on from there at a rate of nothing, every network stays what it was.
    still = replace(stage, learning_rate=0.0)
    on = replace(
        settings, init=str(folder), seed=5, vqvae_stage=replace(stage, epochs=0), prior_stage=replace(stage, epochs=0),
        detective_stage=replace(still, epochs=0.4, augment="none"),
    )  # fmt: skip
    train(face_store, tmp_path / "on", on, progress=False, say=lambda line: None)
    before, after = (load_file(place / "detective.safetensors") for place in (folder, tmp_path / "on"))
    weights = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(before[name], after[name]) for name in weights), "it begins with the other's detective"
    from pixelsleuth.models.checkpoint import load_model
    from pixelsleuth.training.fitting import crops_of

    model = load_model(folder)
    networks = TorchNetworks(model, settings_from_tree(model.config.scoring))
    scorer = Scorer(networks)
    assert scorer.sizes == Sizes(128, 64, 128)
    with Store(face_store) as store:
        rows = store.rows("train")
        crops = crops_of(store, rows, scorer)
        assert crops.which is not None
        assert [source for source, row in zip(store.sources(rows), range(len(rows)), strict=True)
                if row in crops.which] == ["large"] * 4  # fmt: skip
        seen = networks.measure(crops)
        near = near_scores(seen).numpy()
        assert np.isfinite(near).sum() == 4
        shown = altered_map(seen, (128, 128))
        assert shown.shape == (12, 128, 128)
        alone = altered_map(networks.measure(Crops(crops.square, close=crops.close)), (128, 128))
        differ = (shown - alone).abs().amax((1, 2)) > 0
        assert differ.nonzero().flatten().tolist() == crops.which.tolist()
        assert fit_scores(model, store, rows, lambda done, total: None).views_spread == 0, "too few seen from near"


def test_a_deep_detective_wants_landmarks(shapes: Path, tmp_path: Path) -> None:
    store = tmp_path / "shapes.h5"
    small = tmp_path / "shapes/train/real"
    small.mkdir(parents=True)
    for path in sorted((shapes / "train/real").iterdir())[:6]:
        Image.open(path).resize((128, 128)).save(small / path.name)
    prepare_images([tmp_path / "shapes"], store, crop="none", workers=1)
    with pytest.raises(PixelsleuthError, match="judges faces"):
        train(store, tmp_path / "model", PRESETS["faces"], progress=False)
