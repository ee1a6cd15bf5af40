"""Calibration on a folder of one's own: the same figures as through a store, nothing counted twice, whole or not at
all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pixelsleuth.commands.train import _calibration_of, _known
from pixelsleuth.datasets.preparation import prepare_images
from pixelsleuth.demo import write_pictures
from pixelsleuth.detector import Detector
from pixelsleuth.errors import CalibrationError, ModelError, PixelsleuthError
from pixelsleuth.models.configuration import find_model
from pixelsleuth.scoring.calibration import Calibration, load_calibration
from pixelsleuth.sources.duplicates import TRAINED_ON, Hashes, load_hashes, near, of_file, perceptual_hash, save_hashes
from pixelsleuth.sources.faces import Framing, Sizes
from pixelsleuth.sources.samples import CropSettings
from pixelsleuth.training import own
from pixelsleuth.training.calibrating import calibrate
from pixelsleuth.training.run import train
from tests.conftest import tiny_settings, write_shapes
from tests.test_whole_run import run_cli


def copied(model_folder: Path, folder: Path) -> Path:
    return Path(shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("training")))


def calibration_of(folder: Path) -> Calibration:
    tree = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    return load_calibration(folder / "calibration.json", tree["model_sha256"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("own") / "my_photos", 60, 6000)


@pytest.fixture(scope="module")
def at_home(model_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "my_model"
    code, _, told = run_cli("calibrate", model_folder, "--normal", photos, "--out", out)
    assert code == 0
    assert f"on 60 images of {photos}" in told
    assert "--max-false-alarm 0.05: of untouched images like these " in told
    assert "--max-false-alarm 0.01: needs 99 images, 39 more" in told
    return out


def test_a_folder_gives_what_a_store_of_the_same_pictures_gives(
    model_folder: Path, at_home: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "calib/real")
    prepare_images([tmp_path / "calib"], tmp_path / "s.h5", size=64, crop="none", workers=1)
    through_store = copied(model_folder, tmp_path / "model")
    calibrate(through_store, tmp_path / "s.h5")
    one, other = calibration_of(at_home), calibration_of(through_store)
    assert one.count == other.count == 60
    for name, values in one.scores.items():
        assert np.allclose(values, other.scores[name], atol=1e-5), name
    assert np.allclose(one.largest, other.largest, rtol=1e-4)
    assert np.allclose(one.quantiles, other.quantiles, atol=1e-5)
    assert (one.sources, one.about["sources"]) == (("my_photos",), {"my_photos": 60})
    assert sorted(one.pictures) == sorted(other.pictures)


def test_a_source_that_is_left_out_is_not_ranked(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(photos.iterdir())):
        to = tmp_path / ("one" if number % 3 else "other") / "calib/real" / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    trees = [tmp_path / "one/calib", tmp_path / "other/calib"]
    prepare_images(trees, tmp_path / "s.h5", size=64, crop="none", workers=1)
    folder = copied(model_folder, tmp_path / "model")
    both = calibrate(folder, tmp_path / "s.h5")
    without = calibrate(folder, tmp_path / "s.h5", without=("other",))
    assert both.about["sources"] == {"one": 40, "other": 20}
    assert without.about["sources"] == {"one": 40}
    assert set(without.pictures) < set(both.pictures)
    with pytest.raises(PixelsleuthError, match="got another"):
        calibrate(folder, tmp_path / "s.h5", without=("another",))
    with pytest.raises(CalibrationError, match="has 0 images without these sources"):
        calibrate(folder, tmp_path / "s.h5", without=("one", "other"))


def test_the_new_model_judges_by_the_new_pictures_alone(model_folder: Path, at_home: Path) -> None:
    before, after = Detector.load(model_folder), Detector.load(at_home)
    assert before.model.sha256 == after.model.sha256
    assert (before.calibration.count, after.calibration.count) == (120, 60)
    ranked = after.calibration.scores["original"]
    finding = after.detect(np.full((64, 64, 3), 128, np.uint8), max_false_alarm=0.05)
    assert finding.p_value == (1 + (ranked >= finding.score).sum()) / 61
    _, card, _ = run_cli("info", at_home)
    assert card.startswith("# Model card: my_model")
    assert "Calibration: 60 normal images (my_photos 60)" in card
    files = {p.name for p in model_folder.iterdir() if p.is_file()}
    assert {p.name for p in at_home.iterdir()} == files | {"README.md"}
    code, _, error = run_cli("detect", "x.png", "--model", at_home)
    assert code == 2
    assert "needs at least 99 calibration images, this model has 60" in error


def test_how_far_the_rate_may_lie_from_what_is_promised(at_home: Path) -> None:
    calibration = calibration_of(at_home)
    generator = np.random.default_rng(0)
    low, high = calibration.realised(0.1)
    # The k-th highest of n uniform scores, k = floor(rate (n + 1)), leaves this share above it.
    shares = 1 - np.sort(generator.uniform(size=(20_000, 60)), axis=1)[:, -6]
    assert np.mean((shares >= low) & (shares <= high)) == pytest.approx(0.95, abs=0.005)
    assert calibration.realised(0.01) == (0.0, 0.0)


def test_what_cannot_be_used_is_left_out_by_name(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    mixed = Path(shutil.copytree(photos, tmp_path / "mixed"))
    shutil.copy(mixed / "06000.png", mixed / "again.png")
    (mixed / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (mixed / "tiny.png").write_bytes(b"")
    (mixed / "notes.txt").write_text("not a picture")
    code, _, told = run_cli("calibrate", model_folder, "--normal", mixed, "--out", tmp_path / "new")
    assert code == 0
    assert "left out broken.jpg (corrupt)" in told
    assert "left out tiny.png (empty)" in told
    assert "(duplicate): the same file as " in told
    assert "notes.txt" not in told
    assert calibration_of(tmp_path / "new").count == 60


def test_faces_that_are_known_or_nearly_the_same_count_once(tmp_path: Path) -> None:
    photo = np.ascontiguousarray(data.astronaut())
    Image.fromarray(photo).save(tmp_path / "a.png")
    small = Image.fromarray(photo).resize((400, 400))
    small.save(tmp_path / "b.jpg", quality=70)
    how = CropSettings(Sizes(128, 128), "face", Framing(), hashed=True)
    files = [tmp_path / "a.png", tmp_path / "b.jpg"]

    def read(known: set[str]) -> tuple[list[str], list[tuple[str, str, str]]]:
        reading = own.Reading()
        used = [hashed for _, hashed in own._read(files, tmp_path, how, known, reading, lambda done, total: None)]
        return used, reading.left_out

    used, left_out = read(set())
    assert len(used) == 1
    assert [(name, code) for name, code, _ in left_out] == [("b.jpg", "duplicate")]
    assert "nearly the same picture as a.png" in left_out[0][2]
    used, left_out = read(set(used))
    assert (used, [code for _, code, _ in left_out]) == ([], ["known", "known"])


def before(model: str | Path) -> tuple[Path, Calibration | None]:
    """A model's folder and its calibration."""
    folder = find_model(model)[0]
    return folder, _calibration_of(folder)


def test_pictures_that_were_trained_on_are_refused(
    model_folder: Path, shapes: Path, photos: Path, tmp_path: Path
) -> None:
    trained = load_hashes(model_folder)
    assert len(trained.files) == len(list((shapes / "train/real").iterdir()))
    learned, fresh = shapes / "train/real/00003.png", photos / "06000.png"
    shutil.copy(learned, tmp_path / "learned.png")
    shutil.copy(fresh, tmp_path / "fresh.png")
    files, how = sorted(tmp_path.iterdir()), CropSettings(Sizes(64, 64), "none", hashed=True)
    reading = own.Reading()
    used = [hashed for _, hashed in own._read(files, tmp_path, how, (), reading, lambda done, total: None, trained)]
    assert (len(used), [(name, code) for name, code, _ in reading.left_out]) == (1, [("learned.png", "trained_on")])
    # Of faces one that looks the same is refused, too; of shapes, which are all alike to such a hash, it is not.
    photo = np.ascontiguousarray(data.astronaut())
    Image.fromarray(photo).resize((400, 400)).save(tmp_path / "small.jpg", quality=70)
    looks = Hashes(np.array([of_file("0" * 64)]), np.array([perceptual_hash(photo)]))
    save_hashes(tmp_path / TRAINED_ON, looks)
    how = CropSettings(Sizes(128, 128), "face", Framing(), hashed=True)
    reading = own.Reading()
    kept = load_hashes(tmp_path)
    assert not list(own._read([tmp_path / "small.jpg"], tmp_path, how, (), reading, lambda done, total: None, kept))
    assert [code for _, code, _ in reading.left_out] == ["trained_on"]
    (tmp_path / TRAINED_ON).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="copy the model again, or delete this file"):
        load_hashes(tmp_path)


def test_the_demo_s_faces_are_known_to_the_bundled_model(tmp_path: Path) -> None:
    known = np.array([int(one, 16) for one in _known(*before("faces"))], np.uint64)
    for path in write_pictures(tmp_path):
        assert near(perceptual_hash(np.asarray(Image.open(path))), known), path
    assert not near(perceptual_hash(data.chelsea()), known)


def test_one_s_own_pictures_may_be_ranked_again(at_home: Path, model_folder: Path) -> None:
    assert _known(*before(model_folder)) == set(calibration_of(model_folder).pictures) != set()
    assert calibration_of(at_home).pictures
    assert _known(*before(at_home)) == set()


def test_too_few_are_refused_with_how_many_are_needed(model_folder: Path, photos: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number, path in enumerate(sorted(photos.iterdir())[:18]):
        shutil.copy(path, few / f"{number}.png")
    arguments = ("calibrate", model_folder, "--normal", few, "--out", tmp_path / "new")
    needs = "at least 19 are needed: 9 for a false-alarm rate of 10%, 19 for 5%, 99 for 1%"
    code, _, error = run_cli(*arguments)
    assert (code, f"{few}: 18 images, {needs}" in error) == (2, True)
    shutil.copy(few / "0.png", few / "twin.png")
    code, _, error = run_cli(*arguments)
    assert (code, f"18 of 19 images can be used (left out: 1 duplicate), {needs}" in error) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_a_model_folder_is_whole_or_not_there(
    model_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("calibrate", model_folder, "--normal", photos, "--out", tmp_path / "new")

    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(own, "save_calibration", stopped)
        assert run_cli(*arguments)[0] != 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").mkdir()
    (tmp_path / "new/mine.txt").write_text("precious")
    code, _, error = run_cli(*arguments)
    assert code == 2
    assert "exists already; name a folder that is not there yet" in error
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mine.txt"]


def test_wrong_calls_are_told(model_folder: Path, store: Path, photos: Path, tmp_path: Path) -> None:
    for arguments, expected in (
        ((), "give a store of `pixelsleuth prepare`, or --normal DIR"),
        ((store, "--normal", photos), "not both"),
        (("--normal", photos), "--normal needs --out"),
        ((store, "--out", tmp_path / "x"), "--out goes with --normal"),
        (("--normal", photos / "06000.png", "--out", tmp_path / "x"), "expected a folder of untouched images"),
        (("--normal", photos, "--out", tmp_path / "x", "--dtype", "int8"), "expected float32 or bfloat16"),
    ):
        code, _, error = run_cli("calibrate", model_folder, *arguments)
        assert (code, expected in error) == (2, True), (arguments, error)
    code, _, error = run_cli("calibrate", "faces", store)
    assert (code, "a bundled model is calibrated as a copy" in error) == (2, True), error
    scans = copied(model_folder, tmp_path / "scans")
    tree = json.loads((scans / "config.json").read_text(encoding="utf-8"))
    tree["preprocessing"]["crop"] = "volume"
    (scans / "config.json").write_text(json.dumps(tree))
    code, _, error = run_cli("calibrate", scans, "--normal", photos, "--out", tmp_path / "x")
    assert (code, "this one judges scans" in error) == (2, True)
    assert not (tmp_path / "x").exists()


def test_a_store_still_calibrates_the_model_itself(model_folder: Path, store: Path, tmp_path: Path) -> None:
    folder = copied(model_folder, tmp_path / "model")
    (folder / "calibration.json").unlink()
    code, _, told = run_cli("calibrate", folder, store)
    assert (code, "on 120 normal images" in told) == (0, True)
    assert np.array_equal(calibration_of(folder).scores["original"], calibration_of(model_folder).scores["original"])


def test_a_store_of_what_was_trained_on_is_refused(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    folder = copied(model_folder, tmp_path / "model")
    before = (folder / "calibration.json").read_bytes()
    # Pictures of the model's training, in another store a calibration set.
    shutil.copytree(shapes / "calib", tmp_path / "again/calib")
    for path in sorted((shapes / "train/real").iterdir())[:7]:
        shutil.copy(path, tmp_path / "again/calib/real")
    prepare_images([tmp_path / "again"], tmp_path / "again.h5", size=64, crop="none", workers=1)
    with pytest.raises(PixelsleuthError, match=r"7 of 127 calibration images .* were trained on"):
        calibrate(folder, tmp_path / "again.h5")
    assert (folder / "calibration.json").read_bytes() == before


def test_what_the_networks_begin_with_learned_is_known(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    """A model that goes on from another's networks saw that one's pictures, too."""
    write_shapes(tmp_path / "new/train", 20, 7000)
    write_shapes(tmp_path / "new/calib", 20, 8000)
    prepare_images([tmp_path / "new"], tmp_path / "new.h5", size=64, crop="none", workers=1)
    untaught = {"epochs": 0}
    settings = tiny_settings(
        tmp_path, init=str(model_folder), vqvae_stage=untaught, prior_stage=untaught, detective_stage=untaught
    )
    train(tmp_path / "new.h5", tmp_path / "model", settings, progress=False, say=lambda text: None)
    known = load_hashes(tmp_path / "model").files
    assert len(known) == 320
    assert np.isin(load_hashes(model_folder).files, known).all()
    shutil.copy(next(iter(sorted((shapes / "train/real").iterdir()))), tmp_path / "new/calib")
    prepare_images([tmp_path / "new"], tmp_path / "leak.h5", size=64, crop="none", workers=1)
    with pytest.raises(PixelsleuthError, match="1 of 21 calibration images"):
        train(tmp_path / "leak.h5", tmp_path / "other", settings, progress=False)
    assert not (tmp_path / "other").exists()
