"""Is a picture like those of calibration? On made-up traits, on pictures, and through a detector."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from pixelsleuth.detector import Detector
from pixelsleuth.language import language
from pixelsleuth.records import Face
from pixelsleuth.reporting.answer import answer_of
from pixelsleuth.scoring.calibration import load_calibration, save_calibration
from pixelsleuth.scoring.typicality import MIN_IMAGES, Typicality, fit_typicality, typicality_from_tree
from pixelsleuth.sources.compression import quality_at, quality_of, scale_at
from pixelsleuth.sources.faces import cut
from pixelsleuth.sources.images import encode_jpeg
from pixelsleuth.sources.traits import TRAITS, traits_of
from tests.test_scoring import made_calibration

NAMES = list(TRAITS)
#: Means and standard deviations of the traits of two sources that have little in common.
STUDIO = ([9.0, 7.0, 0.0, 10.0, 0.20, 0.05, 2.0, 0.55], [0.2, 0.5, 0.3, 5.0, 0.04, 0.04, 1.5, 0.05])
WEBCAM = ([7.0, 3.0, 2.0, 60.0, 0.05, 0.15, 6.0, 0.50], [0.3, 0.7, 0.4, 20.0, 0.02, 0.08, 4.0, 0.06])


def traits(source: tuple[list[float], list[float]], count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(*source, (count, len(NAMES)))


@pytest.fixture(scope="module")
def usual() -> Typicality:
    values = np.concatenate([traits(STUDIO, 200, 0), traits(WEBCAM, 200, 1)])
    found = fit_typicality(values, np.array(["studio"] * 200 + ["webcam"] * 200))
    assert found is not None
    return found


def changed(source: tuple[list[float], list[float]], **values: float) -> np.ndarray:
    return np.array([values.get(name, usual) for name, usual in zip(NAMES, source[0], strict=True)])


@pytest.mark.parametrize("seed", range(3))
def test_few_pictures_like_those_of_calibration_are_called_unlike(seed: int) -> None:
    for count in (MIN_IMAGES, 150, 800):
        rates = []
        for repetition in range(20):
            first = 1000 * seed + 10 * repetition
            values = np.concatenate([traits(STUDIO, count // 2, first), traits(WEBCAM, count - count // 2, first + 1)])
            names = np.array(["studio"] * (count // 2) + ["webcam"] * (count - count // 2))
            found = fit_typicality(values, names)
            fresh = np.concatenate([traits(STUDIO, 300, first + 2), traits(WEBCAM, 300, first + 3)])
            rates.append(float((found.distance(fresh) > found.limit).mean()))
        # At most 1 in 100, or 1 in n + 1 where that is more.
        assert 0.001 < np.mean(rates) <= 0.02


def test_what_lies_outside_every_source_is_told_with_what_differs(usual: Typicality) -> None:
    assert usual.reason(changed(STUDIO)) is None
    assert usual.reason(changed(WEBCAM)) is None
    reason = usual.reason(changed(STUDIO, tilt=40.0))
    assert reason["code"] == "unlike_calibration"
    assert "least unlike those of studio: the head is tilted (40 degrees, there up to " in reason["sentence"]
    assert "\n" not in reason["sentence"]
    reason = usual.reason(changed(WEBCAM, face_width=4.0, sharpness=9.0))
    assert "those of webcam: the face is smaller (16 pixels wide, there up to " in reason["sentence"]
    assert "it is sharper" in reason["sentence"]
    assert "colourful" not in reason["sentence"]
    # Each value is usual somewhere, but no source has them together.
    assert usual.reason(changed(WEBCAM, face_width=9.0, sharpness=7.0)) is not None


def test_what_is_not_known_is_not_held_against_a_picture(usual: Typicality) -> None:
    assert usual.reason(changed(STUDIO, compression=np.nan, turn=np.nan)) is None
    values = traits(STUDIO, 100, 0)
    values[:, NAMES.index("compression")] = np.nan
    found = fit_typicality(values, np.array(["png"] * 100))
    assert found.reason(changed(STUDIO, compression=scale_at(5))) is None
    assert found.reason(changed(STUDIO, sharpness=0.0)) is not None
    assert fit_typicality(values[: MIN_IMAGES - 1], np.array(["png"] * (MIN_IMAGES - 1))) is None


def test_traits_that_hardly_vary_have_room(usual: Typicality) -> None:
    values = np.tile(changed(STUDIO), (100, 1))
    found = fit_typicality(values, np.array(["one"] * 100))
    assert found.reason(changed(STUDIO, face_width=9.5, tilt=3.0, compression=20.0)) is None
    assert found.reason(changed(STUDIO, tilt=10.0)) is not None


def test_the_calibration_file_keeps_it(usual: Typicality, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    missing = replace(usual, middle=usual.middle.copy())
    missing.middle[0, 3] = np.nan
    save_calibration(path, replace(made_calibration(np.arange(50.0)), typicality=missing))
    found = load_calibration(path, "x").typicality
    values = np.concatenate([traits(STUDIO, 50, 7), traits(WEBCAM, 50, 8)])
    assert np.allclose(found.distance(values), missing.distance(values), atol=1e-3)
    assert "NaN" not in path.read_text(encoding="utf-8")
    tree = json.loads(path.read_text(encoding="utf-8"))["typicality"]
    # Of a version that measures something else, ranges say nothing.
    assert typicality_from_tree(tree | {"traits": ["mood"]}) is None
    with pytest.raises(KeyError, match="limit"):
        typicality_from_tree({key: value for key, value in tree.items() if key != "limit"})


def test_traits_follow_what_they_measure_and_not_a_local_edit() -> None:
    photo = np.ascontiguousarray(data.astronaut()[0:256, 96:352])
    marks = np.array([(100, 100), (160, 100), (130, 135), (108, 165), (152, 165)], float)
    turned = cv2.getRotationMatrix2D((128, 128), -20, 1)

    def measured(
        pixels: np.ndarray, encoded: bytes | None = None, points: np.ndarray | None = marks
    ) -> dict[str, float]:
        return dict(zip(NAMES, traits_of(cv2.resize(pixels, (128, 128)), 256, encoded, points), strict=True))

    usual = measured(photo)
    assert usual["face_width"] == 8
    assert measured(cv2.GaussianBlur(photo, (0, 0), 3))["sharpness"] < usual["sharpness"] - 2
    noisy = np.clip(photo + np.random.default_rng(0).normal(0, 25, photo.shape), 0, 255).astype(np.uint8)
    assert measured(noisy)["noise"] > usual["noise"] + 1
    assert measured(np.repeat(photo.mean(2, keepdims=True), 3, 2).astype(np.uint8))["colour"] == 0 < usual["colour"]
    for quality in (100, 90, 75, 50, 20):
        data_of = encode_jpeg(photo, quality)
        assert quality_of(data_of) == quality == quality_at(measured(photo, data_of)["compression"])
    assert np.isnan(usual["compression"])
    assert quality_of(b"\xff\xd8\xff broken") is quality_of(b"no JPEG") is None
    assert (usual["turn"], usual["tilt"]) == (0, 0)
    assert usual["nod"] == pytest.approx(35 / 65)
    held = measured(photo, None, marks @ turned[:, :2].T + turned[:, 2])
    assert held["tilt"] == pytest.approx(20)
    assert (held["turn"], held["nod"]) == (pytest.approx(0, abs=1e-9), pytest.approx(usual["nod"]))
    assert measured(photo, None, marks + np.array([(0, 0), (0, 0), (30, 0), (0, 0), (0, 0)]))["turn"] == pytest.approx(
        0.5
    )
    assert np.isnan(measured(photo, None, None)["nod"])
    # A local edit is what is looked for: it must not make a picture one of another kind.
    edited = photo.copy()
    edited[150:190, 100:160] = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    for name, value in measured(edited).items():
        if not np.isnan(value):
            assert abs(value - usual[name]) < 2 * TRAITS[name].least, name


def test_a_picture_unlike_those_of_calibration_is_unsure_unless_that_is_switched_off(
    faces_detector: Detector, tmp_path: Path
) -> None:
    photo = np.ascontiguousarray(data.astronaut())
    (usual_face,) = faces_detector.detect(photo, heatmap=False).faces
    calm = measured_face(usual_face.face, photo)
    spread = np.array([trait.least for trait in TRAITS.values()])
    near = np.random.default_rng(0).normal(calm, spread, (200, len(NAMES)))
    near[:, NAMES.index("compression")] = np.random.default_rng(1).normal(50, 20, 200)
    names = np.array(["home"] * 200)
    at_home = with_typicality(faces_detector, fit_typicality(near, names))
    assert at_home.detect(photo, heatmap=False).reason is None
    grey = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    found = at_home.detect(grey, heatmap=False)
    assert (found.verdict, found.reason["code"]) == ("unsure", "unlike_calibration")
    assert "it is less colourful" in found.reason["sentence"]
    assert found.p_value is not None
    answer = answer_of(found, at_home.calibration, language())
    assert answer.headline == "No clear answer"
    assert "it is less colourful" in answer.found
    assert any("calibrate" in step for step in answer.next_steps)
    (off,) = at_home.detect_many([grey], heatmap=False, typicality=False)
    assert off.reason is None or off.reason["code"] == "unstable"
    assert off.p_value == found.p_value
    # A file, too, and by its compression.
    (tmp_path / "photo.jpg").write_bytes(encode_jpeg(photo, 5))
    file = at_home.detect(tmp_path / "photo.jpg", heatmap=False)
    assert "its JPEG compression is stronger (quality 5, there up to quality " in file.reason["sentence"]


def measured_face(face: Face, photo: np.ndarray) -> np.ndarray:
    found = traits_of(cut(photo, face.box, 128), face.box.width, None, face.landmarks)
    return np.nan_to_num(found)


def with_typicality(detector: Detector, typicality: Typicality | None) -> Detector:
    return Detector(detector.name, detector.scorer, replace(detector.calibration, typicality=typicality))
