"""Volumes: orientation, scale, slices and their way back, anomalies with masks, the store."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from pixelsleuth.datasets.store import Store
from pixelsleuth.datasets.volume_preparation import find_volumes, mask_of, prepare_volumes
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation.volumes import _matched_auroc
from pixelsleuth.scoring.atlas import BINS, Atlas, bin_of, fit_atlas, load_atlas, save_atlas
from pixelsleuth.scoring.combination import volume_scores
from pixelsleuth.scoring.maps import smoothed, top_of
from pixelsleuth.sources.scans import slices
from pixelsleuth.sources.scans.slices import MAX_Z, MIN_Z, SliceFraming, slices_of
from pixelsleuth.sources.scans.volumes import in_file_order, read_mask, read_volume, save_volume, stem_of
from pixelsleuth.synthesis.lesions import KINDS, SUBTLETIES, Lesion, drawn, graded, made_anomalous
from pixelsleuth.training.volume_forging import forge_slices
from tests.volumefiles import LPS, bad_volumes, head, write

AFFINES = {
    "RAS": np.eye(4),
    "LPS": LPS,
    "axes_swapped": np.array([[0, 0, 2.0, 5], [1.5, 0, 0, -3], [0, -1.0, 0, 0], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("name", AFFINES)
def test_any_orientation_reads_as_ras_and_maps_go_back(tmp_path: Path, name: str) -> None:
    values, _ = head(1)
    path = write(tmp_path / "a.nii.gz", values, AFFINES[name])
    volume = read_volume(path)
    assert np.array_equal(volume.values, values)
    save_volume(tmp_path / "map.nii.gz", in_file_order(volume.values * 2, volume), volume.affine)
    there, back = nibabel.load(path), nibabel.load(tmp_path / "map.nii.gz")
    assert np.allclose(back.affine, there.affine)
    assert np.array_equal(np.asarray(back.dataobj), 2 * np.asarray(there.dataobj))
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_bad_volumes_have_their_reasons(tmp_path: Path) -> None:
    for code, path in bad_volumes(tmp_path).items():
        with pytest.raises(InputError) as caught:
            read_volume(path)
        assert caught.value.code == code, path
        assert len(caught.value.sentence) > 10


def test_some_voxels_that_are_no_numbers_are_background(tmp_path: Path) -> None:
    values, _ = head(2)
    values[values == 0] = np.nan
    volume = read_volume(write(tmp_path / "a.nii", values))
    assert np.isfinite(volume.values).all()
    assert "no numbers" in volume.notes[0].sentence


def test_a_huge_header_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), LPS)
    image.header.set_data_shape((30_000, 30_000, 3_000))
    (tmp_path / "huge.nii").write_bytes(image.header.binaryblock + b"\0" * 400)
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path / "huge.nii")
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(("standard", "middle", "spread"), [("zscore", 5.5, 2.8723), ("robust", 5.5, 5 / 1.349)])
def test_standard_scores_by_hand(tmp_path: Path, standard: str, middle: float, spread: float) -> None:
    # Ten grey levels of tissue, each in as many voxels, in air.
    values = np.zeros((20, 20, 5), np.float32)
    values[5:15, 5:15] = np.arange(1, 11)[:, None, None]
    volume = read_volume(write(tmp_path / "a.nii", values))
    cut = slices_of(volume, SliceFraming(size=20, standard=standard, frame="stretch"))
    seen = cut.pixels[2, 10, 14, 0] / 255 * (MAX_Z - MIN_Z) + MIN_Z
    assert seen == pytest.approx((10 - middle) / spread, abs=0.02)


@pytest.mark.parametrize("frame", ["head", "whole", "stretch"])
def test_what_is_cut_is_drawn_back_where_it_was(tmp_path: Path, frame: str) -> None:
    values, blob = head(3, (60, 76, 8), lesion=True)
    volume = read_volume(write(tmp_path / "a.nii", values))
    cut = slices_of(volume, SliceFraming(size=96, frame=frame))
    back = cut.drawn_back(cut.cut(blob).astype(np.float32)) > 0.5
    overlap = 2 * (back & blob).sum() / (back.sum() + blob.sum())
    assert overlap > 0.93
    assert cut.inside[:, 0].sum() == 0 or frame != "head"
    assert cut.position[0] == pytest.approx(-0.5)
    assert cut.position[-1] == pytest.approx(0.5)


@pytest.mark.parametrize("frame", ["head", "whole"])
def test_long_and_narrow_slices_need_no_square_of_their_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: str
) -> None:
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, (600, 40, 4)), (8, 8, 0)).astype(np.float32)
    values = 100 + 40 * values / values.std()
    values[:20], values[-20:] = 0, 0
    volume = read_volume(write(tmp_path / "a.nii", np.maximum(values, 0)))
    maps = np.random.default_rng(1).random((4, 48, 48)).astype(np.float32)
    usual = slices_of(volume, SliceFraming(size=48, frame=frame, keep_empty=True))
    monkeypatch.setattr(slices, "MAX_BOX", 0)
    made = []
    real = np.full
    monkeypatch.setattr(slices.np, "full", lambda shape, *rest: made.append(shape) or real(shape, *rest))
    bounded = slices_of(volume, SliceFraming(size=48, frame=frame, keep_empty=True))
    assert set(made) == {(48, 48)}
    # Laid on whole pixels, so that a row may lie half a pixel off.
    assert abs(float(bounded.pixels.mean()) - float(usual.pixels.mean())) < 4
    assert (bounded.inside != usual.inside).mean() < 0.05
    drawn = bounded.drawn_back(maps)
    monkeypatch.undo()
    assert np.allclose(drawn, usual.drawn_back(maps), atol=1e-3)


def test_empty_slices_are_dropped_and_trimmed(tmp_path: Path) -> None:
    values, _ = head(4, (44, 52, 12))
    values[:, :, :3] = 0
    volume = read_volume(write(tmp_path / "a.nii", values))
    assert slices_of(volume, SliceFraming(size=48)).index.tolist() == list(range(3, 12))
    assert slices_of(volume, SliceFraming(size=48, trim=4)).index.tolist() == list(range(4, 8))
    assert len(slices_of(volume, SliceFraming(size=48, keep_empty=True)).index) == 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deep", [False, True])
def test_anomalies_change_their_mask_and_nothing_far_from_it(kind: str, deep: bool) -> None:
    values, _ = head(5, (64, 64, 9))
    inside, standard = values > 0, (values - 100) / 30
    donor = (head(6, (64, 64, 9))[0] - 100) / 30
    if not deep:
        values, inside, standard, donor = values[..., 4], inside[..., 4], standard[..., 4], donor[..., 4]
    lesion = graded(kind, "plain", np.random.default_rng(1))
    one, mask = made_anomalous(standard, inside, lesion, np.random.default_rng(2), donor, depth=0.3)
    again, same = made_anomalous(standard, inside, lesion, np.random.default_rng(2), donor, depth=0.3)
    assert np.array_equal(one, again)
    assert np.array_equal(mask, same)
    assert mask.any()
    assert not (mask & ~inside).any()
    assert np.array_equal(one[~inside], standard[~inside])
    change = np.abs(one - standard)
    assert change[mask].mean() > 10 * change[~mask].mean()
    assert (change > 1e-6).sum() < 4 * mask.sum()


def test_signs_and_grades() -> None:
    standard = np.zeros((64, 64), np.float32)
    inside = np.ones((64, 64), bool)
    for sign in (1, -1):
        for kind in ("shift", "constant"):
            lesion = drawn((kind,), np.random.default_rng(3), sign)
            found, mask = made_anomalous(standard, inside, lesion, np.random.default_rng(4))
            assert sign * float(found[mask].mean()) > 0.2
    means = []
    for subtlety in SUBTLETIES:
        lesion = graded("shift", subtlety, np.random.default_rng(5), 1)
        found, mask = made_anomalous(standard, inside, lesion, np.random.default_rng(6))
        means.append(float(found[mask].mean()))
    assert means == sorted(means, reverse=True)
    with pytest.raises(ValueError, match="no place"):
        made_anomalous(standard, np.zeros_like(inside), Lesion("noise", 1, 0.1), np.random.default_rng(0))
    with pytest.raises(ValueError, match="kind: expected one of"):
        graded("stroke", "plain", np.random.default_rng(0))


@pytest.mark.parametrize("strength", [0.4, 0.9])
@pytest.mark.parametrize("irregular", [False, True])
def test_tissue_moves_as_far_as_a_deformation_says_and_no_further(strength: float, irregular: bool) -> None:
    """Coordinates are deformed in a picture's place, so that what stands at a place says where it came from."""
    rows, columns = np.indices((200, 200), dtype=np.float32)
    inside = np.ones((200, 200), bool)
    furthest = []
    for seed in range(12):
        came_from = []
        for axis in (rows, columns):
            lesion = Lesion("deform", strength, 0.1, irregular=irregular)
            found, mask = made_anomalous(axis, inside, lesion, np.random.default_rng(seed))
            came_from.append(found)
        moved = np.hypot(came_from[0] - rows, came_from[1] - columns)
        assert moved[~mask].max() < 0.3 * strength * 20
        furthest.append(moved.max() / 20)
        if not irregular and seed in (0, 1, 2):
            # Hardly folded: the map's Jacobian stays near or above 0, where the code before had -.76.
            (a, b), (c, d) = (np.gradient(one) for one in came_from)
            assert (a * d - b * c).min() > -0.2
    assert max(furthest) <= 1.05 * strength
    assert min(furthest) > 0.6 * strength


def test_masks_are_found_beside_volumes(tmp_path: Path) -> None:
    values, blob = head(7, lesion=True)
    write(tmp_path / "train/flair/p1.nii.gz", values)
    write(tmp_path / "train/mask/p1.nii.gz", blob.astype(np.float32))
    write(tmp_path / "toy/t1.nii.gz", values)
    write(tmp_path / "toy_label/pixel/t1.nii.gz", blob.astype(np.float32))
    found = list(find_volumes(tmp_path))
    assert [p.relative_to(tmp_path).as_posix() for p in found] == ["toy/t1.nii.gz", "train/flair/p1.nii.gz"]
    for path in found:
        mask = mask_of(path, tmp_path)
        assert mask is not None
        assert np.array_equal(read_mask(mask, read_volume(path)), blob)
    assert stem_of("a/b.c.nii.gz") == "b.c"


def test_a_store_of_slices(tmp_path: Path) -> None:
    source = tmp_path / "set"
    for number in range(22):
        values, blob = head(number, lesion=number == 3)
        write(source / f"train/flair/p{number:02d}.nii.gz", values)
        write(source / f"train/mask/p{number:02d}.nii.gz", blob.astype(np.float32))
    values, _ = head(30)
    write(source / "test/flair/q.nii.gz", values)
    write(source / "test/flair/bad.nii.gz", np.zeros_like(values))
    framing = SliceFraming(size=48)
    summary = prepare_volumes([source], tmp_path / "s.h5", framing=framing, workers=1)
    assert [(path, code) for path, code, _ in summary.skipped] == [("test/flair/bad.nii.gz", "no_contrast")]
    assert summary.volumes == 23
    with Store(tmp_path / "s.h5") as store:
        assert store.holds_volumes
        table = store.table
        calibrating = set(table["group"][table["split"] == "calib"].tolist())
        assert len(calibrating) == 10
        assert not calibrating & set(table["group"][table["split"] == "train"].tolist())
        sick = np.flatnonzero(table["label"] == "anomalous")
        assert len(sick)
        assert store.lesion(sick).any((1, 2)).all()
        assert not store.lesion(store.rows("train", "calib", "test")).any()
        assert store.pixels(sick[:2]).shape == (2, 48, 48, 1)
        everything = {name: table[name].tolist() for name in table}
    # Asked for again it is read, not made; and a run that lost its end goes on to the same store.
    assert prepare_volumes([source], tmp_path / "s.h5", framing=framing, workers=1).stored == summary.stored
    with pytest.raises(PixelsleuthError, match="other files or settings"):
        prepare_volumes([source], tmp_path / "s.h5", framing=SliceFraming(size=32), workers=1)
    calls = 0

    def stopped(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_volumes([source], tmp_path / "t.h5", framing=framing, workers=1, progress=stopped)
    assert len(list((tmp_path / "t.h5.parts").glob("*.h5"))) == 5
    prepare_volumes([source], tmp_path / "t.h5", framing=framing, workers=1)
    with Store(tmp_path / "t.h5") as store:
        assert {name: store.table[name].tolist() for name in store.table} == everything


def test_an_atlas_by_hand(tmp_path: Path) -> None:
    # Healthy slices are .5 everywhere but for the left half, which is .2 or .4 in turn.
    position = np.linspace(-0.5, 0.5, 48)
    image = np.full((48, 8, 8), 0.5, np.float32)
    image[::2, :, :4], image[1::2, :, :4] = 0.2, 0.4
    felt = np.full((48, 2, 2), 1.5, np.float32)
    atlas = fit_atlas(lambda numbers: (image[numbers], felt[numbers]), position)
    assert np.allclose(atlas.mean[:, :, :2], 0.3)
    assert np.allclose(atlas.spread[:, :, 0], 0.1, atol=1e-3)
    assert bin_of(np.array([-0.5, 0.0, 0.5])).tolist() == [0, BINS // 2, BINS - 1]
    save_atlas(tmp_path, atlas)
    z = load_atlas(tmp_path).z(np.full((1, 8, 8), 0.6, np.float32), np.array([0.0]))
    assert z[0, 0, 0] == pytest.approx(3, abs=0.05)
    # Where healthy slices do not vary, the least spread counts.
    assert z[0, 0, 7] == pytest.approx(0.1 / 0.02, abs=0.1)


def test_pooling_stays_within_thin_stacks_and_reaches_through_thick_ones() -> None:
    values = np.zeros((8, 64, 64), np.float32)
    values[4, 20:44, 20:44] = 1
    thin = smoothed(values, "restoration")
    assert thin[4, 32, 32] == 1
    assert thin[[3, 5]].max() == 0
    thick = smoothed(np.repeat(values, 8, 0), "restoration")
    assert thick[35, 32, 32] == pytest.approx(6 / 7)
    assert thick[34, 32, 32] < 1


def test_scores_of_slices_and_volumes_by_hand() -> None:
    values = np.zeros((2, 10, 10))
    values[0, 0, 0] = 5
    assert top_of(values, np.ones((2, 10, 10), bool)).tolist() == [5.0, 0.0]
    found = volume_scores({"text_tail_sum": np.array([1.0, 2, 3, 4]), "map_top": np.array([1.0, 2, 3, 8])})
    assert found == {"text_tail_sum": 10.0, "map_top": 8.0}


def test_matched_levels_by_hand() -> None:
    # Within each level the anomalous slice is the lower one in the first, the higher one in the second; across
    # levels all would look right.
    scores = np.array([1.0, 2.0, 9.0, 8.0])
    labels = np.array([True, False, True, False])
    found = _matched_auroc(scores, labels, np.array([0, 0, 1, 1]), np.ones((1, 4)))
    assert found[0] == 0.5


def test_a_dicom_series_is_read_as_the_volume_it_was_written_from(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra dicom)")
    values, _ = head(3, shape=(20, 24, 6))
    # DICOM's axes run to the left and to the back; a file of its own for each slice.
    image = sitk.GetImageFromArray(values[::-1, ::-1].transpose(2, 1, 0).astype(np.int16))
    image.SetSpacing((1.5, 1.5, 4.0))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    folder = tmp_path / "series"
    folder.mkdir()
    common = {"0020|000e": "1.2.826.0.1.3680043.2.1125.1", "0020|000d": "1.2.826.0.1.3680043.2.1125.2"}
    for k in range(image.GetDepth()):
        one = image[:, :, k]
        place = image.TransformIndexToPhysicalPoint((0, 0, k))
        for key, value in (common | {
            "0008|0060": "MR", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0032": "\\".join(map(str, place)),
            "0020|0013": str(k), "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{k + 1}",
        }).items():  # fmt: skip
            one.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{image.GetDepth() - k:03d}.dcm"))
        writer.Execute(one)
    volume = read_volume(folder)
    assert np.array_equal(volume.values, values.astype(np.int16))
    assert np.allclose(np.abs(np.diag(volume.affine)[:3]), (1.5, 1.5, 4.0))
    assert [Path(p) for p in find_volumes(tmp_path)] == [folder]
    # A series of which a file is cut off, within its header or its pixels, or missing, is not taken for a whole one.
    whole = (folder / "002.dcm").read_bytes()
    for length, code in ((300, "truncated"), (len(whole) - 200, "truncated"), (0, "uneven_slices")):
        (folder / "002.dcm").write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            read_volume(folder)
        assert caught.value.code == code


def test_a_view_of_a_slice_is_compared_with_the_atlas_in_the_same_view(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / f"train/h{number:02d}.nii.gz", head(number)[0])
    prepare_volumes([tmp_path / "train"], tmp_path / "heads.h5", framing=SliceFraming(size=64), workers=1)
    with Store(tmp_path / "heads.h5") as store:
        rows = store.rows("train")[:1]
        itself = store.pixels(rows)[0, ..., 0].astype(np.float32) / 255
        # An atlas that knows this one slice: what is left of the comparison is light and anomaly, not the turn.
        small = itself.reshape(32, 2, 32, 2).mean((1, 3))
        atlas = Atlas(
            np.repeat(small[None], BINS, 0), np.full((BINS, 32, 32), 0.05, np.float32), np.zeros((BINS, 8, 8))
        )
        forged = forge_slices(store, rows, 6, ("constant",), seed=3, atlas=atlas)
    assert forged.usual is not None
    healthy, altered = forged.usual[:, 0, ..., 0].astype(np.float32), forged.usual[:, 1, ..., 0].astype(np.float32)
    assert np.abs(healthy).mean() < 0.7
    for one, other, mask in zip(healthy, altered, forged.mask, strict=True):
        assert np.abs(other - one)[mask].mean() > 5 * np.abs(other - one)[~mask].mean() + 0.5
