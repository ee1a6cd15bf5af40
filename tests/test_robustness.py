"""Metrics against severity: the pictures are corrupted as said, and judged as `evaluate` would judge them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from skimage import data
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.attack import Attack
from pixelsleuth.evaluation.protocol import evaluate
from pixelsleuth.evaluation.robustness import Pictures, measure_robustness
from pixelsleuth.reporting.curves import severity_figure
from pixelsleuth.reporting.tables import show_robustness
from pixelsleuth.sources.images import jpeg_round_trip, read_picture
from pixelsleuth.synthesis.corruptions import CORRUPTIONS, h264_round_trip
from tests.conftest import write_shapes


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_grows_with_its_severity_and_is_the_same_again(kind: str) -> None:
    # Odd sides: some encoders would rather have even ones.
    photo = np.ascontiguousarray(data.astronaut()[:181, 110:281])
    corruption = CORRUPTIONS[kind]
    lost = []
    for severity in corruption.severities:
        changed = corruption.change(photo, severity)
        assert (changed.shape, changed.dtype) == (photo.shape, np.uint8)
        np.testing.assert_array_equal(changed, corruption.change(photo, severity))
        lost.append(np.abs(changed.astype(float) - photo).mean())
    assert 0 < lost[0] < lost[1] < lost[2] < lost[3] < 25


def test_what_the_severities_mean() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert CORRUPTIONS["noise"].change(grey, 10).astype(float).std() == pytest.approx(10, rel=0.05)
    photo = np.ascontiguousarray(data.astronaut()[:128, 150:278])
    np.testing.assert_array_equal(CORRUPTIONS["jpeg"].change(photo, 75), jpeg_round_trip(photo, 75))
    # Colours keep their place through 4:2:0 and back.
    assert np.abs(h264_round_trip(photo, 1).astype(float) - photo).mean() < 3
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert CORRUPTIONS["resize"].change(stripes, 0.5).std() < 2
    line = np.zeros((41, 41, 3), np.uint8)
    line[:, 20] = 255
    spread = CORRUPTIONS["blur"].change(line, 2)[20, :, 0].astype(float)
    assert np.sqrt((spread * (np.arange(41) - 20) ** 2).sum() / spread.sum()) == pytest.approx(2, rel=0.1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("some")
    write_shapes(root / "real", 24, 6000)
    write_shapes(root / "fake", 16, 7000, anomalous=True)
    (root / "fake/broken.png").write_text("no picture")
    return root


def test_each_severity_is_what_evaluate_finds_of_corrupted_files(
    detector: Detector, folders: Path, tmp_path: Path
) -> None:
    found = measure_robustness(detector, folders / "real", folders / "fake", kinds=["noise"])
    assert (found["n_normal"], found["n_anomalous"], list(found["corruptions"])) == (24, 16, ["noise"])
    corruption = CORRUPTIONS["noise"]
    for path in sorted(folders.glob("*/0*.png")):
        changed = corruption.change(read_picture(path).pixels, corruption.severities[2])
        copy = tmp_path / path.relative_to(folders)
        copy.parent.mkdir(exist_ok=True)
        Image.fromarray(changed).save(copy)
    for root, measured in ((folders, found["unchanged"]), (tmp_path, None)):
        metrics = evaluate(detector, root / "real", root / "fake", maps=False).metrics
        here = found["corruptions"]["noise"]["scores"][2] if measured is None else measured["scores"]
        for name in (found["default_score"], "text_tail_sum", "baseline_blur"):
            assert here[name] == metrics["scores"][name]
        alarms = found["corruptions"]["noise"]["false_alarm"][2] if measured is None else measured["false_alarm"]
        assert alarms == metrics["false_alarm"]


def test_what_cannot_be_measured_is_left_out_and_counted(
    faces_detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("webp", "h264"):
        largest = CORRUPTIONS[kind].largest or 0
        assert CORRUPTIONS[kind].change(np.zeros((32, largest, 3), np.uint8), 30).shape == (32, largest, 3)
    for name, width in (("real/a", 64), ("real/wide", 16_400), ("fake/b", 64)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((64, width, 3), np.uint8)).save(tmp_path / f"{name}.png")
    for name in ("real/empty.png", "fake/text.jpg"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"no picture")
    found = measure_robustness(faces_detector, tmp_path / "real", tmp_path / "fake", kinds=["webp"])
    assert [found[f"n_{name}"] for name in ("normal", "anomalous", "too_large", "unreadable")] == [1, 1, 1, 2]
    show_robustness(found, Console())
    said = capsys.readouterr().out
    assert "left out: 1, larger than" in said
    assert "left out: 2, videos or files that cannot be read" in said
    # What a format cannot hold matters only where it is asked for.
    assert len(Pictures.of(tmp_path / "real", tmp_path / "fake").paths) == 3
    (tmp_path / "real/a.png").unlink()
    with pytest.raises(PixelsleuthError, match="no readable picture, but 1 larger than 16383 px"):
        measure_robustness(faces_detector, tmp_path / "real", tmp_path / "fake", kinds=["webp", "blur"])


def test_a_white_box_attack_moves_the_programs_own_score_both_ways(faces_detector: Detector) -> None:
    pixels = jpeg_round_trip(np.ascontiguousarray(data.astronaut()[:224, 110:334]), 90)
    before = faces_detector.detect(pixels, heatmap=False)
    attack = Attack(faces_detector)
    for up in (True, False):
        one, two = attack.attacked(pixels, up, (1, 2), steps=1)
        # Steps that an eps does not allow are taken back.
        assert [int(np.abs(made.astype(int) - pixels).max()) for made in (one, two)] == [1, 2]
        scores = [faces_detector.detect(made, heatmap=False).score for made in (pixels, one, two)]
        assert scores == sorted(scores, key=lambda score: score or 0, reverse=not up)
        assert abs((scores[1] or 0) - (before.score or 0)) > 0.5


def test_the_figure_draws_what_the_file_holds(model_folder: Path, folders: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    base = ["robustness", "--model", str(model_folder), "--normal", str(folders / "real")]
    base += ["--anomalous", str(folders / "fake")]
    done = runner.invoke(app, [*base, "--corruption", "blur", "--corruption", "jpeg", "--out", str(tmp_path)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "blur 2" in done.output
    found = json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))
    assert (tmp_path / "robustness.png").stat().st_size > 5000
    default = found["default_score"]
    figure = severity_figure(found, "ap", [default])
    panel = next(axes for axes in figure.axes if axes.get_title().startswith("blur"))
    wanted = [found["unchanged"]["scores"][default]["ap"][0]]
    wanted += [one[default]["ap"][0] for one in found["corruptions"]["blur"]["scores"]]
    np.testing.assert_allclose(panel.lines[0].get_ydata(), wanted)
    assert [label.get_text() for label in panel.get_xticklabels()] == ["as is", "0.5", "1", "2", "3"]
    call = ["figures", "robustness", str(tmp_path), "--out", str(tmp_path / "again.pdf")]
    assert runner.invoke(app, call).exit_code == 0
    for more, reason in ((["--metric", "beauty"], "expected one of auroc"), (["--score", "x"], "expected one of")):
        assert reason in str(runner.invoke(app, [*call, *more]).exception)
    done = runner.invoke(app, [*base, "--corruption", "rain"])
    assert isinstance(done.exception, PixelsleuthError)
    assert "jpeg, webp, h264" in str(done.exception)
