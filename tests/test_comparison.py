"""A picture beside an earlier copy: what saving, scaling, cropping and light explain, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from pixelsleuth.detector import Detector
from pixelsleuth.evidence.comparison import compare, compared
from pixelsleuth.language import LANGUAGES, language
from pixelsleuth.records import Finding
from pixelsleuth.reporting.against import beside
from pixelsleuth.sources.images import jpeg_round_trip
from tests.conftest import shape_picture
from tests.test_whole_run import run_cli

PHOTO = np.ascontiguousarray(data.astronaut()[:360, :360])


def resized(pixels: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def turned(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return cv2.warpAffine(pixels, cv2.getRotationMatrix2D((width / 2, height / 2), 4, 1.1), (width, height))


HARMLESS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "saved": lambda pixels: jpeg_round_trip(pixels, 50),
    "smaller": lambda pixels: jpeg_round_trip(resized(pixels, 0.6), 85),
    "cropped": lambda pixels: jpeg_round_trip(np.ascontiguousarray(pixels[40:300, 60:]), 85),
    "turned": lambda pixels: jpeg_round_trip(turned(pixels), 85),
    "brighter": lambda pixels: np.clip(pixels * 1.2 + 5, 0, 255).astype(np.uint8),
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
}


def edited(pixels: np.ndarray) -> np.ndarray:
    """With a patch of the background copied onto the cheek."""
    made = pixels.copy()
    made[120:150, 200:240] = pixels[20:50, 20:60]
    return made


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_no_change_and_an_edit_is_found_through_it(name: str) -> None:
    harmless = HARMLESS[name]
    found = compare(harmless(PHOTO), PHOTO)
    assert (found.state, found.changes) == ("same", ())
    assert found.mirrored == (name == "mirrored")
    assert (found.toned > 10) == (name == "brighter")
    assert (found.kept < 0.8) == (name == "cropped")
    assert (abs(found.turned) > 3) == (name == "turned")
    marker = harmless(np.where(edited(PHOTO) != PHOTO, 255, 0).astype(np.uint8))
    rows, columns = np.nonzero(marker.max(2) > 128)
    found = compare(harmless(edited(PHOTO)), PHOTO)
    (change,) = found.changes
    box = change.box
    assert abs(box.x0 - columns.min()) < 12
    assert abs(box.x1 - columns.max()) < 12
    assert abs(box.y0 - rows.min()) < 12
    assert abs(box.y1 - rows.max()) < 12
    assert 0 < change.share < 0.05


def test_two_different_pictures_are_not_laid_onto_each_other() -> None:
    found = compare(PHOTO, np.ascontiguousarray(data.coffee()))
    assert found.state == "not_alignable"
    finding = Finding("a.jpg", "0", "image", {"name": "m", "sha256": "0"}, "normal", against=found)
    for code in LANGUAGES:
        told = beside(finding, PHOTO, language(code))
        assert told is not None
        assert len(told.sentences) == 1


def test_the_command_tells_what_was_changed_and_what_the_model_says(model_folder: Path, tmp_path: Path) -> None:
    import json

    earlier = np.kron(shape_picture(9_000), np.ones((6, 6, 1), np.uint8))
    later = earlier.copy()
    later[60:120, 60:120] = np.array([30, 90, 200])
    Image.fromarray(earlier).save(tmp_path / "earlier.png")
    Image.fromarray(later).save(tmp_path / "later.png")
    options = ("--against", tmp_path / "earlier.png", "--model", model_folder, "--max-false-alarm", 0.1)
    code, _, told = run_cli("detect", tmp_path / "later.png", *options, "--out", tmp_path / "out", "--report")
    assert code == 0
    assert "Number of places that differ by more than re-saving explains: 1" in told
    record = json.loads((tmp_path / "out/findings.jsonl").read_text(encoding="utf-8"))
    (change,) = record["against"]["changes"]
    x0, y0, x1, y1 = change["box"]
    assert (abs(x0 - 60), abs(y0 - 60), abs(x1 - 120), abs(y1 - 120)) < (9, 9, 9, 9)
    assert change["model"] in ("marked", "unmarked")
    assert record["against"]["verdict"] in ("normal", "anomalous", "unsure")
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert page.count('data-layer="against_') == 3
    assert run_cli("detect", tmp_path, "--against", tmp_path / "earlier.png", "--model", model_folder)[0] == 2
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    code, _, told = run_cli("detect", tmp_path / "later.png", "--against", tmp_path / "bad.jpg", *options[2:])
    assert code == 2
    assert "against: " in told


def test_a_place_without_a_map_has_no_word_of_the_model(detector: Detector, tmp_path: Path) -> None:
    pixels = np.kron(shape_picture(9_000), np.ones((4, 4, 1), np.uint8))
    changed = pixels.copy()
    changed[40:80, 40:80] = 255
    Image.fromarray(changed).save(tmp_path / "a.png")
    plain = detector.detect(tmp_path / "a.png", max_false_alarm=0.1, heatmap=False)
    (found,) = compared([plain], plain, pixels)
    assert found.against is not None
    assert found.against.changes[0].model == ""
