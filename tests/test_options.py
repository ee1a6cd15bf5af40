"""An option that a model cannot honour is an error, never silence."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.detector import Detector
from pixelsleuth.errors import CalibrationError, PixelsleuthError
from pixelsleuth.sources.tracks import Policy

#: Of a model for volumes: what it honours, and what it refuses, by name and value.
HONOURED = {"sources", "heatmap", "restore", "batch_size", "typicality", "progress", "max_false_alarm"}
REFUSED: list[tuple[str, Any]] = [
    ("policy", Policy(frames=8)),
    ("whole_without_face", True),
    ("every_score", False),
    ("face", "largest"),
    ("face", "2"),
    ("promise", "any-source"),
    ("promise", "new-source"),
]


@pytest.fixture(scope="module")
def scans() -> Detector:
    return Detector.load("brain_t1")


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_model_for_volumes_refuses_what_it_does_not_know(scans: Detector, name: str, value: Any) -> None:
    with pytest.raises(PixelsleuthError) as told:
        next(scans.detect_many(["none.nii"], max_false_alarm=0.1, **{name: value}))
    assert told.value.setting == name
    assert isinstance(told.value, CalibrationError) == (name == "promise")


def test_each_option_is_honoured_or_refused(scans: Detector) -> None:
    options = inspect.signature(scans.detect_many).parameters
    assert set(options) == HONOURED | {name for name, _ in REFUSED}


def test_a_model_for_images_refuses_other_frames_and_faces() -> None:
    faces = Detector.load("faces")
    for name, value in (("policy", Policy(pick="quality")), ("face", "the left one"), ("face", "0")):
        with pytest.raises(PixelsleuthError, match=r"was asked for|expected all, largest, or a number"):
            next(faces.detect_many(["none.jpg"], max_false_alarm=0.1, **{name: value}))  # type: ignore[arg-type]


def test_evaluate_refuses_what_would_count_for_nothing(tmp_path: Path) -> None:
    for name in ("normal", "anomalous"):
        (tmp_path / name).mkdir()
    both = ["evaluate", "--normal", str(tmp_path / "normal"), "--anomalous", str(tmp_path / "anomalous")]
    for call, told in (
        (["--model", "brain_t1", "--match-sharpness", "--split", "test"], "leave --match-sharpness, --split out"),
        (["--model", "brain_t1", "--pairs", str(tmp_path)], "is a model for volumes; leave --pairs out"),
        (["--model", "brain_t1", "--not-near", str(tmp_path)], "leave --not-near out"),
        (["--model", "brain_t1", "--compare", "vae", "padim"], "leave --compare out"),
        (["--model", "faces", "--thresholds", str(tmp_path)], "is a model for images; leave --thresholds out"),
        (["--compare-normals", str(tmp_path)], "there is no --compare NAME; leave --compare-normals out"),
        (["padim"], "got unexpected argument 'padim'"),
        (["--masks", str(tmp_path), "--no-heatmap"], "leave --no-heatmap out"),
    ):
        assert told in str(CliRunner().invoke(app, [*both, *call]).exception)
