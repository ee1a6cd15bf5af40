"""Reading: every kind of bad file, trees of data sets, the store, the face crop."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.datasets import preparation
from pixelsleuth.datasets.layouts import altered_parts, names_of_root, origin_of
from pixelsleuth.datasets.preparation import prepare_images
from pixelsleuth.datasets.store import Store, near_duplicates
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.records import Face
from pixelsleuth.sources import faces, images
from pixelsleuth.sources.images import decode, read_picture
from pixelsleuth.synthesis.anomalies import copy_move, feature_swap, partner_mask
from tests.badfiles import BAD, ODD, write_bad_files
from tests.conftest import shape_picture, write_shapes


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    write_bad_files(folder)
    return folder


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_files_give_a_reason(name: str, bad_files: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_picture(bad_files / name)
    assert caught.value.code == BAD[name]
    assert "\n" not in caught.value.sentence
    assert len(caught.value.sentence) > 20


@pytest.mark.parametrize("name", sorted(ODD))
def test_odd_files_are_read_and_the_change_is_noted(name: str, bad_files: Path) -> None:
    picture = read_picture(bad_files / name)
    assert picture.pixels.max() > 100, "never black"
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape[2] == 3
    assert any(ODD[name] in note.sentence for note in picture.notes) or ODD[name] == ""


def test_exif_rotation_is_undone() -> None:
    upright = shape_picture(3)[:, :48]
    turned = Image.fromarray(np.rot90(upright, 1).copy())
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(buffer, "PNG", exif=exif)
    assert np.array_equal(decode(buffer.getvalue()).pixels, upright)


def test_sixteen_bits_keep_their_brightness() -> None:
    ramp = np.tile(np.arange(0, 65536, 1024, dtype=np.uint16), (64, 1))
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    assert np.array_equal(decode(buffer.getvalue()).pixels[0, :, 0], np.arange(0, 256, 4))


def test_names_and_folders_of_known_trees() -> None:
    assert altered_parts("mid_12_1001") == ("mid", ("left_eye", "mouth"))
    assert altered_parts("real_00012") is None
    origin = origin_of(Path("training_fake/easy_3_0110.jpg"))
    assert (origin.label, origin.level, origin.parts, origin.split) == (
        "anomalous",
        "easy",
        ("right_eye", "nose"),
        "test",
    )
    assert origin_of(Path("training_real/real_00001.jpg")).label == "normal"
    assert origin_of(Path("images1024x1024/12000/12345.png")).split == "train"
    assert origin_of(Path("images1024x1024/58000/58001.png")).split == "calib"
    assert origin_of(Path("images1024x1024/65000/65001.png")).split == "val"
    assert origin_of(Path("train/real/a.jpg")).split == "train"
    assert origin_of(Path("a.jpg"), names_of_root(Path("/x/val/fake"))).split == "val"
    assert origin_of(Path("a.jpg"), names_of_root(Path("/x/val/fake"))).label == "anomalous"
    # Without a folder that tells, a group is never torn apart.
    drawn = {origin_of(Path(f"person7/{i}.jpg"), group_by_folder=True).split for i in range(50)}
    assert len(drawn) == 1


def test_a_store_drops_duplicates_skips_bad_files_and_keeps_the_bytes(tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "train/real", 6, 0)
    (folder / "copy.png").write_bytes((folder / "00002.png").read_bytes())
    (folder / "broken.png").write_bytes((folder / "00003.png").read_bytes()[:300])
    (folder / "empty.jpg").write_bytes(b"")
    summary = prepare_images([tmp_path], tmp_path / "s.h5", size=64, crop="none", workers=1)
    assert (summary.stored, summary.duplicates) == (6, 1)
    assert dict(summary.reasons()) == {"truncated": 1, "empty": 1}
    with Store(tmp_path / "s.h5") as store:
        row = store.table["path"].tolist().index("train/real/00004.png")
        assert store.encoded(row) == (folder / "00004.png").read_bytes()
        assert np.array_equal(store.pixels([row])[0], shape_picture(4))
        assert set(store.table["label"]) == {"normal"}
        with pytest.raises(PixelsleuthError, match="was made of other files or settings"):
            prepare_images([tmp_path], tmp_path / "s.h5", size=32, crop="none", workers=1)


def test_prepare_counts_what_calibrates(tmp_path: Path) -> None:
    """Pictures that are known to be altered stand in the split, too, and calibrate nothing."""
    for number, place in enumerate(("train/real", *["calib/real"] * 3, *["calib/fake"] * 99)):
        path = tmp_path / "in" / place / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number, 90, 200 - number)).save(path)
    call = ["prepare", "images", str(tmp_path / "in"), str(tmp_path / "s.h5"), "--crop", "none", "--size", "32"]
    told = CliRunner().invoke(app, [*call, "--workers", "1"])
    assert told.exit_code == 0
    assert "and 99 for a rate of 0.01; there are 3." in told.output


def test_near_duplicates_across_splits_are_reported(tmp_path: Path) -> None:
    write_shapes(tmp_path / "train/real", 5, 0)
    folder = write_shapes(tmp_path / "calib/real", 5, 50)
    Image.fromarray(shape_picture(1)).save(folder / "again.jpg", quality=90)
    summary = prepare_images([tmp_path], tmp_path / "s.h5", size=64, crop="none", workers=1)
    assert ("calib/real/again.jpg", "train/real/00001.png") in summary.near
    hashes = np.array([0, 0b1111, 0b11111], np.uint64)
    assert near_duplicates(hashes, np.array(["a", "b", "b"])) == (1, [(0, 1)])


def test_a_killed_prepare_resumes_to_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shapes(tmp_path / "in/train/real", 30, 0)
    monkeypatch.setattr(preparation, "PART", 8)
    prepare_images([tmp_path / "in"], tmp_path / "whole.h5", size=64, crop="none", workers=1)
    calls = 0
    real_read = preparation._read_image

    def dying(job, **how):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return real_read(job, **how)

    monkeypatch.setattr(preparation, "_read_image", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare_images([tmp_path / "in"], tmp_path / "resumed.h5", size=64, crop="none", workers=1)
    assert not (tmp_path / "resumed.h5").exists()
    again = []
    monkeypatch.setattr(preparation, "_read_image", lambda job, **how: again.append(job) or real_read(job, **how))
    prepare_images([tmp_path / "in"], tmp_path / "resumed.h5", size=64, crop="none", workers=1)
    assert len(again) == 14, "the two finished parts of 8 are not read again"
    with h5py.File(tmp_path / "whole.h5") as a, h5py.File(tmp_path / "resumed.h5") as b:
        for name in ("pixels", "encoded", "offset", "table/path", "table/sha256", "table/box"):
            assert np.array_equal(a[name][:], b[name][:]), name
    assert not (tmp_path / "resumed.h5.parts").exists()


def test_a_store_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(PixelsleuthError, match="does not exist"):
        Store(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(PixelsleuthError, match="is not a pixelsleuth store"):
        Store(tmp_path / "text.h5")


def test_a_face_is_cut_square_and_undistorted() -> None:
    photo = data.astronaut()
    face = faces.main_face(photo)
    assert face.box.width == face.box.height
    assert face.confidence >= faces.MIN_CONFIDENCE
    # Eileen Collins's eyes, by hand, within a few pixels.
    assert abs(face.landmarks[0][0] - 205) < 12
    assert abs(face.landmarks[1][0] - 244) < 12
    assert face.box.x0 < face.landmarks[0][0] < face.box.x1
    larger = np.asarray(Image.fromarray(photo).resize((1536, 1536), Image.Resampling.LANCZOS))
    again = faces.main_face(larger)
    assert abs(again.box.x0 / 3 - face.box.x0) < 8
    assert abs(again.box.width / 3 - face.box.width) < 12


def test_a_face_at_the_border_is_moved_not_padded() -> None:
    photo = data.astronaut()[:, 190:]
    found = faces.find_faces(photo)
    for face in found:
        assert face.box.x0 >= 0
        assert face.box.x1 <= photo.shape[1]
        assert face.box.width == face.box.height
    box = faces.square_inside(5, 90, 60, 100, 80)
    assert box.as_list() == [0, 40, 60, 100]
    assert faces.square_inside(50, 50, 500, 100, 80).width == 80


def test_no_face_and_a_small_face_are_reasons() -> None:
    with pytest.raises(InputError) as caught:
        faces.main_face(shape_picture(0))
    assert caught.value.code == "no_face"
    small = np.asarray(Image.fromarray(data.astronaut()).resize((256, 256)))
    with pytest.raises(InputError) as caught:
        faces.main_face(small)
    assert caught.value.code == "face_too_small"


def test_edits_touch_only_what_the_mask_says() -> None:
    photo = data.astronaut()
    face = faces.main_face(photo)
    mirrored = np.ascontiguousarray(photo[:, ::-1])
    donor = faces.main_face(mirrored)
    generator = np.random.default_rng(0)
    for edited in (
        feature_swap(photo, face, mirrored, donor, "mouth", True),
        feature_swap(photo, face, mirrored, donor, "left_eye", False),
        copy_move(photo, face, generator),
    ):
        assert edited.mask.any()
        assert np.array_equal(edited.pixels[~edited.mask], photo[~edited.mask])
        assert (edited.pixels[edited.mask] != photo[edited.mask]).any()
    mask = partner_mask(feature_swap(photo, face, mirrored, donor, "mouth", False).pixels, photo)
    assert mask is None or mask.mean() >= 0.02


def test_limits_hold_before_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.new("RGB", (2000, 2000)).save(tmp_path / "big.png")
    with pytest.raises(InputError) as caught:
        decode((tmp_path / "big.png").read_bytes(), max_pixels=1_000_000)
    assert caught.value.code == "too_many_pixels"
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "big.png")
    assert caught.value.code == "too_large"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything, so the permission is tested as another user")
def test_a_file_without_permission(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "locked.png")
    (tmp_path / "locked.png").chmod(0)
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "locked.png")
    assert caught.value.code == "unreadable"


def test_reading_needs_no_torch() -> None:
    code = "import sys, pixelsleuth.datasets.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_landmarks_travel_in_pixels_of_the_input() -> None:
    face = faces.main_face(data.astronaut())
    assert isinstance(face, Face)
    assert len(face.landmarks) == 5
    assert json.dumps(face.box.as_list())
