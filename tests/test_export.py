"""A model exported to ONNX judges as torch does, without torch; one that would not is not written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.detector import Detector
from pixelsleuth.errors import ModelError, PixelsleuthError
from pixelsleuth.evaluation import parity
from pixelsleuth.export import export_model
from pixelsleuth.scoring import exporting
from pixelsleuth.scoring.graphs import restoration_path

RATE = 0.05


@pytest.fixture(scope="module")
def graph(model_folder: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model of shapes as graphs, checked on some of them."""
    path = tmp_path_factory.mktemp("graphs") / "shapes.onnx"
    made = export_model(model_folder, path, shapes / "test/fake", count=8, rate=RATE)
    assert made.files == (path, restoration_path(path))
    assert made.parity.inputs == 8
    assert made.parity.codes == 2 * 8 * 64
    assert 0 < max(made.parity.scores.values()) <= parity.SCORES, "float32 sums in another order, and no other model"
    return path


def test_it_says_what_torch_says(graph: Path, detector: Detector, shapes: Path) -> None:
    other = Detector.load(graph)
    assert other.model.sha256 == detector.model.sha256
    paths = [*sorted((shapes / "test/fake").iterdir())[:3], *sorted((shapes / "test/real").iterdir())[:3]]
    # Of another number of crops than the graph was traced with, in batches of their own.
    both = [list(one.detect_many(paths, max_false_alarm=RATE)) for one in (detector, other)]
    for ours, theirs in zip(*both, strict=True):
        assert (ours.verdict, ours.p_value) == (theirs.verdict, theirs.p_value)
        assert list(ours.scores) == list(theirs.scores)
        np.testing.assert_allclose(list(theirs.scores.values()), list(ours.scores.values()), atol=2e-3)
        assert ours.raw_maps.keys() == theirs.raw_maps.keys() >= {"restoration", "surprise", "detective"}
        assert ours.restoration is not None
        assert theirs.restoration is not None
        difference = ours.restoration.astype(int) - theirs.restoration
        assert np.abs(difference).max() <= 1, "the same random numbers draw the same codes"


def test_detect_runs_it(graph: Path, shapes: Path, tmp_path: Path) -> None:
    source = sorted((shapes / "test/fake").iterdir())[0]
    call = ["detect", str(source), "--model", str(graph), "--runtime", "onnx", "--out", str(tmp_path / "out"),
            "--max-false-alarm", str(RATE), "--report"]  # fmt: skip
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, (done.output, done.exception)
    record = json.loads((tmp_path / "out/findings.jsonl").read_text())
    assert record["model"]["name"] == "shapes"
    assert (tmp_path / "out" / record["heatmap"]).is_file()
    assert "SHA-256" in (tmp_path / "out/report.html").read_text()


def test_one_that_differs_is_not_written(
    model_folder: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = exporting.raw_tensors
    monkeypatch.setattr(
        exporting, "raw_tensors", lambda *given: {name: 1.1 * values for name, values in right(*given).items()}
    )
    monkeypatch.setattr("pixelsleuth.export.can_restore", lambda networks: False)
    with pytest.raises(PixelsleuthError, match="nothing is written: the graph does not judge as torch does"):
        export_model(model_folder, tmp_path / "wrong.onnx", shapes / "test/fake", count=2, rate=RATE)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_export(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelError, match="cannot be read as an ONNX graph"):
        Detector.load(path)


def test_what_parity_calls_a_failure() -> None:
    fine = parity.Parity(inputs=3, codes=192, scores={"a": parity.SCORES}, maps={"m": parity.MAPS})
    assert not fine.failures()
    for wrong in (
        replace(fine, other_codes=1), replace(fine, scores={"a": 2 * parity.SCORES}), replace(fine, verdicts=1),
        replace(fine, maps={"m": 2 * parity.MAPS}), replace(fine, p_value=2 * parity.P_VALUES),
    ):  # fmt: skip
        assert len(wrong.failures()) == 1
