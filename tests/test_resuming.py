"""What `detect --resume` goes on with and what it refuses; what a run writes is none of its inputs; places to write to
are told before anything is judged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelsleuth.commands.resuming import FILE
from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import check_writable
from pixelsleuth.scoring.calibration import load_calibration, save_calibration
from tests.conftest import write_shapes
from tests.test_whole_run import run_cli


def records_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "findings.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def begun(model_folder: Path, tmp_path: Path) -> tuple[list[object], Path]:
    """A run over three pictures, of which one is left to do: the command, and its --out."""
    inputs = sorted(write_shapes(tmp_path / "in", 3, 3000).iterdir())
    call = ["detect", *inputs, "--model", model_folder, "--max-false-alarm", "0.05", "--no-heatmap"]
    out = tmp_path / "out"
    assert run_cli(*call, "--out", out)[0] == 0
    lines = (out / "findings.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "findings.jsonl").write_text("".join(lines[:2]), encoding="utf-8")
    return [*call, "--out", out, "--resume"], out


def recalibrated(folder: Path, name: str, tmp_path: Path) -> Path:
    """A copy of a model of other calibration pictures: the same weights, and so the same SHA-256."""
    made = Path(shutil.copytree(folder, tmp_path / name, ignore=shutil.ignore_patterns("training")))
    detector = Detector.load(folder)
    calibration = load_calibration(made / "calibration.json", detector.model.sha256)
    calibration.scores["original"][-1] += 1
    save_calibration(made / "calibration.json", calibration)
    return made


def test_a_run_goes_on_only_as_it_was_begun(
    begun: tuple[list[object], Path], model_folder: Path, tmp_path: Path
) -> None:
    call, out = begun
    before = (out / "findings.jsonl").read_bytes()
    same_name = recalibrated(model_folder, f"other/{model_folder.name}", tmp_path)
    other_name = Path(shutil.copytree(model_folder, tmp_path / "copy", ignore=shutil.ignore_patterns("training")))
    for more, told in (
        (["--model", same_name], "another calibration;"),
        (["--promise", "any-source"], "another promise;"),
        (["--face", "largest"], "another face;"),
        (["--no-typicality"], "another typicality;"),
        (["--max-false-alarm", "0.1"], "another max false alarm;"),
        (["--frames", "5"], "another frames;"),
    ):
        code, _, error = run_cli(*call, *more)
        assert (code, told in error) == (2, True), (more, error)
    assert (out / "findings.jsonl").read_bytes() == before
    # A model is the same wherever its folder lies, and whatever that is called.
    assert run_cli(*call, "--model", other_name)[0] == 0
    assert len(records_of(out)) == 3


def test_what_an_earlier_version_began_is_gone_on_with(begun: tuple[list[object], Path]) -> None:
    call, out = begun
    (out / FILE).unlink()
    old = [{name: value for name, value in record.items() if name != "promise"} for record in records_of(out)]
    (out / "findings.jsonl").write_text("".join(json.dumps(record) + "\n" for record in old))
    assert run_cli(*call)[0] == 0
    assert len(records_of(out)) == 3
    assert not (out / FILE).exists(), "nobody knows what the first ones were judged by"


@pytest.mark.parametrize("line", ["{}", "[]", "1", '"a"', "null", '{"model": 1}'])
def test_lines_that_are_no_records_are_refused(begun: tuple[list[object], Path], line: str) -> None:
    call, out = begun
    with open(out / "findings.jsonl", "a", encoding="utf-8") as file:
        file.write(line + "\n")
    code, _, error = run_cli(*call)
    assert (code, "line 3 of" in error, "no record of a finding" in error) == (2, True, True), error


@pytest.mark.parametrize("place", ["in/out", "in/deep/out", "in"])
def test_what_a_run_writes_is_none_of_its_inputs(model_folder: Path, tmp_path: Path, place: str) -> None:
    inputs = write_shapes(tmp_path / "in", 2, 3000)
    call = ["detect", inputs, "--model", model_folder, "--max-false-alarm", "0.05", "--out", tmp_path / place]
    for number, more in enumerate(([], ["--resume"], [])):
        code, _, error = run_cli(*call, *more)
        assert code == 0, error
        assert [Path(record["path"]).name for record in records_of(tmp_path / place)] == ["03000.png", "03001.png"]
        # The first run finds nothing of an earlier one.
        assert ("heatmaps/" in error.partition("left out")[2]) == (place == "in" and number > 0), error
    # Asked for by its name, it is one.
    code, said, _ = run_cli("detect", tmp_path / place / "heatmaps", *call[2:-2], "--no-heatmap")
    assert len(said.splitlines()) == 2


def test_an_earlier_copy_is_judged_by_the_same_rules(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sorted(write_shapes(tmp_path / "in", 2, 3000).iterdir())
    asked: list[dict[str, Any]] = []
    judge: Callable[..., Any] = Detector.detect_many

    def watched(self: Detector, sources: Any, **options: Any) -> Any:
        asked.append(options)
        return judge(self, sources, **options)

    monkeypatch.setattr(Detector, "detect_many", watched)
    call = ["detect", first, "--against", second, "--model", model_folder, "--max-false-alarm", "0.05"]
    assert run_cli(*call, "--no-heatmap", "--face", "largest", "--promise", "any-source", "--no-typicality")[0] == 0
    rules = [[options[name] for name in ("face", "promise", "typicality")] for options in asked]
    assert rules == [["largest", "any-source", False]] * 2


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none"])
def test_a_place_that_cannot_be_written_is_told_at_once(
    model_folder: Path, shapes: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)

    def nothing(*given: object, **options: object) -> None:
        raise AssertionError("this should not have been begun")

    monkeypatch.setattr(Detector, "detect_many", nothing)
    monkeypatch.setattr("pixelsleuth.evaluation.robustness.measure_robustness", nothing)
    monkeypatch.setattr("pixelsleuth.benchmark.workloads.Benchmark.run", nothing)
    picture = shapes / "test/real/03000.png"
    both = ("--normal", shapes / "test/real", "--anomalous", shapes / "test/fake")
    rate = ("--max-false-alarm", "0.05")
    for call in (
        ("detect", picture, "--model", model_folder, *rate, "--out", place),
        ("detect", picture, "--model", model_folder, *rate, "--format", "csv", "--out", place),
        ("evaluate", *both, "--model", model_folder, "--out", place),
        ("calibrate", model_folder, "--normal", shapes / "calib/real", "--out", place),
        ("robustness", *both, "--model", model_folder, "--out", place),
        ("benchmark", "--json", f"{place}/x.json"),
    ):
        code, _, error = run_cli(*call)
        assert (code, error.count("\n")) == (2, 0), (call, error)
        assert "expected a folder to write into" in error or "exists already" in error


def test_a_file_to_write_must_be_none_that_is_a_folder(tmp_path: Path, model_folder: Path, shapes: Path) -> None:
    code, _, error = run_cli("benchmark", "--json", tmp_path)
    assert (code, "a folder; name another place" in error) == (2, True)
    detect = ("detect", shapes / "test/real/03000.png", "--model", model_folder, "--max-false-alarm", "0.05")
    for name, options in (
        ("findings.jsonl", ()),
        ("findings.parquet", ("--format", "parquet")),
        ("report.html", ("--report",)),
    ):
        (tmp_path / name).mkdir()
        code, _, error = run_cli(*detect, "--out", tmp_path, *options)
        assert (code, error.count("\n"), "a folder; name another place" in error) == (2, 0, True), (name, error)
        (tmp_path / name).rmdir()
    with pytest.raises(PixelsleuthError, match="expected a folder to write into"):
        check_writable(Path("n" * 300))
