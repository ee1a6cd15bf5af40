"""Self-made forgeries: exact masks, no global shortcut, and a detective that learns from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pixelsleuth.datasets.preparation import prepare_images
from pixelsleuth.datasets.store import Store
from pixelsleuth.detector import Detector
from pixelsleuth.errors import ModelError
from pixelsleuth.models.checkpoint import load_model
from pixelsleuth.models.configuration import DetectiveConfig, find_model
from pixelsleuth.models.detective import MAP_STRIDE, Detective, local_detail
from pixelsleuth.records import Surprise
from pixelsleuth.scoring.complexity import jpeg_bytes, laplacian_variance
from pixelsleuth.scoring.scorer import Crops
from pixelsleuth.sources.images import encode_jpeg
from pixelsleuth.synthesis import anomalies
from pixelsleuth.synthesis.anomalies import KINDS
from pixelsleuth.training.forging import Forged, equally_sharp, forge
from pixelsleuth.training.pair_dataset import PairDataset, pair_dataset_of
from pixelsleuth.training.stages import detective_loss

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))


@pytest.mark.parametrize("kind", sorted(anomalies.OWN_KINDS))
def test_what_is_not_under_the_mask_is_untouched(kind: str) -> None:
    generator = np.random.default_rng(3)
    picture = generator.integers(0, 256, (150, 150, 3)).astype(np.uint8)
    alpha = anomalies.soft_blob(picture.shape, generator, 0.06)
    edited = anomalies.own_kind(picture, kind, alpha, generator)
    assert np.array_equal(edited.pixels[~edited.mask], picture[~edited.mask])
    assert (edited.pixels[edited.mask] != picture[edited.mask]).any()


def test_a_blob_covers_about_what_was_asked() -> None:
    generator = np.random.default_rng(0)
    shares = [float((anomalies.soft_blob((128, 128), generator, 0.06) > 0.5).mean()) for _ in range(200)]
    assert 0.045 < np.mean(shares) < 0.08
    assert min(shares) > 0


def test_matched_colours_match() -> None:
    generator = np.random.default_rng(0)
    under, over = (generator.normal(m, s, (40, 40, 3)).clip(0, 255) for m, s in ((90, 20), (150, 30)))
    alpha = np.ones((40, 40), np.float32)
    matched = anomalies.matched_colours(over, under, alpha)
    assert np.allclose(matched.mean((0, 1)), under.mean((0, 1)), atol=1)
    assert np.allclose(matched.std((0, 1)), under.std((0, 1)), atol=1)
    assert np.allclose(anomalies.matched_colours(over, under, alpha, 0.0), over)


@pytest.fixture(scope="module")
def forged(model_folder: Path, store: Path) -> tuple[Path, Forged, Forged]:
    model = load_model(model_folder)
    with Store(store) as opened:
        rows = opened.rows("train")[:40]
        one, other = (forge(model, opened, rows, KINDS, seed=5, scale=2, workers=n) for n in (2, 1))
    return model_folder, one, other


def test_forging_is_the_same_for_the_same_seed_and_keeps_to_its_mask(forged: tuple[Path, Forged, Forged]) -> None:
    _, one, other = forged
    assert np.array_equal(one.pixels, other.pixels)
    assert np.array_equal(one.mask, other.mask)
    assert len(set(one.kind)) > 6
    difference = np.abs(one.pixels[:, 0].astype(int) - one.pixels[:, 1]).mean(3)
    inside, outside = difference[one.mask].mean(), difference[~one.mask].mean()
    # Both pass the same JPEG, so that a little differs around the mask.
    assert inside > 5 * outside


def test_forging_at_twice_the_pixels_changes_nothing_at_once_the_pixels(
    forged: tuple[Path, Forged, Forged], store: Path
) -> None:
    folder, twice, _ = forged
    model = load_model(folder)
    with Store(store) as opened:
        rows = opened.rows("train")[:40]
        once = forge(model, opened, rows, KINDS, seed=5, workers=1)
        again = opened.pixels(rows, 2 * opened.size)
        assert np.array_equal(opened.pixels(rows, opened.size), opened.pixels(rows))
    assert once.close is None
    assert pair_dataset_of(model, once).close is None
    assert np.array_equal(once.pixels, twice.pixels)
    assert np.array_equal(once.mask, twice.mask)
    assert twice.close is not None
    # The pictures of the pairs went through a JPEG, the store's through none.
    assert np.abs(again.astype(int) - twice.close[:, 0]).mean() < 4


def test_an_unknown_kind_is_refused(model_folder: Path, store: Path) -> None:
    with Store(store) as opened, pytest.raises(ValueError, match="'magic'"):
        forge(load_model(model_folder), opened, opened.rows("train")[:2], ("magic",), seed=0)


def test_pairs_turn_everything_alike_and_come_back_from_disk(
    forged: tuple[Path, Forged, Forged], tmp_path: Path
) -> None:
    folder, pairs, _ = forged
    dataset = pair_dataset_of(load_model(folder), pairs)
    dataset.save(tmp_path)
    back = PairDataset.load(tmp_path)
    picked, straight, turned = np.array([3, 1]), np.array([False, False]), np.array([True, True])
    (image, made, surprise, close, _), mask = back.batch(picked, straight)
    mirrored, mirrored_mask = back.batch(picked, turned)
    assert close is not None
    assert close.shape == (4, 3, 2 * image.shape[2], 2 * image.shape[3])
    assert torch.equal(close.flip(3), mirrored[3])
    assert image.shape[0] == made.shape[0] == surprise.nll.shape[0] == 2 * len(mask)
    assert torch.equal(image.flip(3), mirrored[0])
    assert torch.equal(made.flip(3), mirrored[1])
    assert torch.equal(surprise.entropy.flip(2), mirrored[2].entropy)
    assert torch.equal(mask.flip(2), mirrored_mask)
    # Pictures first, then their forgeries, in the same order.
    assert torch.equal((image[:2] * 255).round().byte(), torch.from_numpy(pairs.pixels[[3, 1], 0]).permute(0, 3, 1, 2))


def test_a_detective_learns_a_planted_mark() -> None:
    torch.manual_seed(0)
    network = Detective(DetectiveConfig(width=16))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)

    def batch(count: int) -> tuple[torch.Tensor, Surprise, torch.Tensor]:
        real = torch.rand(count, 3, 64, 64, generator=generator) * 0.2 + 0.4
        fake, mask = real.clone(), torch.zeros(count, 16, 16)
        for i in range(count):
            y, x = torch.randint(0, 12, (2,), generator=generator).tolist()
            fake[i, :, 4 * y : 4 * y + 16, 4 * x : 4 * x + 16] += 0.2
            mask[i, y : y + 4, x : x + 4] = 1
        flat = torch.zeros(2 * count, 8, 8)
        return torch.cat([real, fake]), Surprise(flat, flat), mask

    for _ in range(40):
        image, surprise, mask = batch(8)
        loss, _ = detective_loss(*network(image, image * 0 + 0.5, surprise), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    image, surprise, mask = batch(32)
    with torch.no_grad():
        places, whole = network(image, image * 0 + 0.5, surprise)
    assert places.shape == (64, 64 // MAP_STRIDE, 64 // MAP_STRIDE)
    assert (whole[32:] > whole[:32]).float().mean() > 0.95
    assert roc_auc_score(mask.flatten() > 0.5, places[32:].flatten()) > 0.9


def test_what_a_detective_is_not_given_does_not_matter() -> None:
    network = Detective(DetectiveConfig(width=16, residual=False, surprise=False)).eval()
    image, flat = torch.rand(2, 3, 64, 64), torch.rand(2, 8, 8)
    with torch.no_grad():
        one = network(image, image, Surprise(flat, flat))
        other = network(image, image * 0, Surprise(flat * 9, flat * 9))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_detail_of_one_cell_by_hand() -> None:
    # Two cells of 2 x 2; rows repeat, so that nothing changes down, nor across of down.
    row = torch.tensor([0.0, 0.0, 0.0, 1.0])
    found = local_detail(row.repeat(2, 1)[None, None], 2)
    # Across, with the border repeated: 0, 0, 1, -1. Squared and averaged: 0 in the left cell, 1 in the right one.
    low, high = np.log(1e-6), np.log(1 + 1e-6)
    assert found.shape == (1, 3, 1, 2)
    assert found[0, 0, 0].tolist() == pytest.approx([(low - high) / 4, (high - low) / 4], abs=1e-5)
    assert found[0, 1:].abs().max() < 1e-6


def test_detail_of_colours_is_of_luma_and_of_two_differences() -> None:
    picture = torch.rand(2, 1, 16, 16).repeat(1, 3, 1, 1)
    found = local_detail(picture, 4)
    assert found.shape == (2, 9, 4, 4)
    grey = local_detail(picture[:, :1], 4)
    # Three kinds of change of three channels; of grey pictures the colour differences hold no detail at all.
    assert torch.allclose(found[:, ::3], grey, atol=1e-3)
    assert found[:, [1, 2, 4, 5, 7, 8]].abs().max() < 1e-3


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("detail", [False, True])
def test_shapes_of_a_detective(scale: int, channels: int, detail: bool) -> None:
    network = Detective(DetectiveConfig(width=8, scale=scale, channels=channels, detail=detail)).eval()
    image, flat = torch.rand(2, channels, 32, 48), torch.rand(2, 4, 6)
    close = torch.rand(2, channels, 32 * scale, 48 * scale)
    with torch.no_grad():
        places, whole = network(image, image, Surprise(flat, flat), close)
        alone, _ = network(image[:1], image[:1], Surprise(flat[:1], flat[:1]), close[:1])
    assert (places.shape, whole.shape) == ((2, 8, 12), (2,))
    assert torch.allclose(places[:1], alone, atol=1e-5)
    if scale == 2:
        with pytest.raises(ValueError, match="close: expected 2 times the image's 32 px, got 32"):
            network(image, image, Surprise(flat, flat))


def test_a_detective_of_an_impossible_build_is_refused() -> None:
    with pytest.raises(ValueError, match="scale: expected 1 or 2, got 3"):
        DetectiveConfig(scale=3)
    with pytest.raises(ValueError, match="channels: expected 1 or 3, got 4"):
        DetectiveConfig(channels=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 3}, "expected 1 or 2"),
        ({"channels": 1}, "1 channels, the VQ-VAE for 3"),
        ({"detail": False}, "fine.1.weight"),
        ({"sharpness": True}, "sharpness"),
    ],
)
def test_a_model_whose_detective_does_not_fit_is_not_loaded(
    model_folder: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    for path in model_folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tree = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    tree["detective"] |= change
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_findings_do_not_depend_on_the_batch(detector: Detector, shapes: Path) -> None:
    paths = sorted((shapes / "test/real").iterdir())[:7]
    assert detector.model.config.close_size == 2 * detector.scorer.size
    whole, ones = (list(detector.detect_many(paths, batch_size=n, max_false_alarm=0.05)) for n in (7, 1))
    for one, other in zip(whole, ones, strict=True):
        assert one.p_value == other.p_value
        assert one.scores["detective_logit"] == pytest.approx(other.scores["detective_logit"], abs=1e-4)
        assert np.abs(one.heatmap - other.heatmap).max() < 1e-3


def test_squares_of_the_wrong_size_are_refused(detector: Detector) -> None:
    size = detector.scorer.size
    with pytest.raises(ValueError, match=f"expected {2 * size} px crops, got {size} px"):
        detector.scorer.score([Crops(np.zeros((1, size, size, 3), np.uint8), ["0" * 64])])


def test_no_global_shortcut_tells_forgeries_of_faces_from_their_pictures(tmp_path: Path) -> None:
    source = SHARED / "data/faces_dfdc/train/real"
    if not source.is_dir():
        pytest.skip(f"{source} is not there; set PIXELSLEUTH_SHARED to the shared data")
    few = tmp_path / "train"
    few.mkdir()
    for path in sorted(source.iterdir())[:300]:
        (few / path.name).write_bytes(path.read_bytes())
    prepare_images([few], tmp_path / "few.h5", size=128, crop="face", group_by_folder=False, workers=2)
    with Store(tmp_path / "few.h5") as opened:
        pairs = forge(load_model(find_model("faces")[0]), opened, opened.rows("train"), KINDS, seed=7, scale=2)
    labels = np.tile([0, 1], len(pairs.pixels))
    assert pairs.close is not None
    for squares in (pairs.pixels, pairs.close):
        flat = squares.reshape(-1, *squares.shape[2:])
        for measure in (laplacian_variance, jpeg_bytes, lambda p: len(encode_jpeg(p, 60))):
            auroc = roc_auc_score(labels, [measure(p) for p in flat])
            assert abs(auroc - 0.5) <= 0.05


@pytest.mark.parametrize("order", [1, -1])
def test_the_sharper_of_two_is_blurred_to_the_softer(order: int) -> None:
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (120, 120, 3)).astype(np.uint8), (0, 0), 1)
    soft = anomalies.blurred(picture, 0.8)
    found = equally_sharp(*[picture, soft][::order])[::order]
    assert np.array_equal(found[1], soft)
    assert laplacian_variance(found[0]) == pytest.approx(laplacian_variance(soft), rel=0.1)


FORKED = """
import os
import cv2, numpy as np
from pixelsleuth.training.loop import one_thread_of_cv2
cv2.setNumThreads(4)
image = np.zeros((2000, 2000), np.float32)
cv2.GaussianBlur(image, (0, 0), 3)
with one_thread_of_cv2():
    child = os.fork()
    if not child:
        cv2.setNumThreads(1)
        cv2.GaussianBlur(image, (0, 0), 3)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
print(cv2.getNumThreads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_process_that_makes_batches_does_not_wait_for_threads_that_it_has_not() -> None:
    """Otherwise it waits for ever, and training with it."""
    ran = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=300, check=True)
    assert ran.stdout.split() == ["0", "4"]


def test_poisson_keeps_gradients_and_takes_colours() -> None:
    under = np.full((60, 60, 3), 90, np.uint8)
    over = np.full((60, 60, 3), 200, np.uint8)
    over[28:32, 28:32] = 230
    mask = np.zeros((60, 60), bool)
    mask[15:45, 15:45] = True
    edited = anomalies.poisson_blended(under, over, mask)
    assert np.array_equal(edited.pixels[~mask], under[~mask])
    assert abs(float(edited.pixels[20, 20, 0]) - 90) < 8
    assert abs(float(edited.pixels[30, 30, 0]) - 120) < 12
