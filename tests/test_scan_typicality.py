"""Is a scan prepared like those of calibration? On made-up traits, on changed heads, and through a detector."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.detector import Detector
from pixelsleuth.language import language
from pixelsleuth.records import Finding
from pixelsleuth.reporting.answer import answer_of
from pixelsleuth.scoring.calibration import load_calibration, save_calibration
from pixelsleuth.scoring.scanlooks import SCAN_TRAITS
from pixelsleuth.scoring.typicality import FAR, MIN_SCANS, Typicality, fit_scan_typicality
from pixelsleuth.sources.scans.scantraits import INPUT_TRAITS, scan_traits
from pixelsleuth.sources.scans.slices import SliceFraming, slices_of
from pixelsleuth.sources.scans.volumes import read_volume
from tests.test_scoring import made_calibration
from tests.volumefiles import head, write

NAMES = list(SCAN_TRAITS)
MIN_WIDTHS = np.array([trait.least for trait in SCAN_TRAITS.values()])


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, MIN_WIDTHS, (count, len(NAMES)))


@pytest.mark.parametrize("count", [MIN_SCANS, 10, 50])
def test_few_scans_like_those_of_calibration_are_called_unlike(count: int) -> None:
    called, far = [], []
    for seed in range(40):
        found = fit_scan_typicality(drawn(count, seed))
        away = found.distance(drawn(100, 1000 + seed))
        called.append(float((away > 1).mean()))
        far.append(float((away > FAR).mean()))
    # At most 1 in 100 of them, by theory.
    assert np.mean(called) < 0.02
    assert np.mean(far) < 0.004
    # And not so rarely that nothing would ever be called.
    assert np.mean(fit_scan_typicality(drawn(count, 0)).distance(20 * drawn(100, 7))) > 1


def test_what_differs_most_is_told_first_with_what_to_do() -> None:
    usual = fit_scan_typicality(drawn(40, 0))
    middle = np.zeros(len(NAMES))
    assert usual.reason(middle) is None
    other = middle.copy()
    other[NAMES.index("voxel_across")] = 1.0
    other[NAMES.index("levels")] = -30.0
    reason = usual.reason(other)
    assert reason is not None
    assert usual.far(other)
    assert not usual.far(middle)
    sentence = reason["sentence"]
    assert reason["code"] == "unlike_calibration"
    larger = "its voxels are larger (2 mm within a slice, in calibration at most"
    assert sentence.index("few grey levels") < sentence.index(larger)
    assert "`pixelsleuth train SCANS_FOLDER MY_MODEL`" in sentence
    assert "\n" not in sentence
    # Beyond the range, and not far: unsure.
    near = middle.copy()
    near[0] = 1.2 * usual.above[0, 0] + usual.middle[0, 0]
    assert usual.reason(near) is not None
    assert not usual.far(near)


def test_traits_of_few_scans_are_not_looked_at_and_the_file_keeps_the_others(tmp_path: Path) -> None:
    values = drawn(30, 0)
    values[MIN_SCANS - 1 :, 3] = np.nan
    usual = fit_scan_typicality(values)
    other = np.zeros(len(NAMES))
    other[3] = 1e6
    assert usual.reason(other) is None
    save_calibration(tmp_path / "c.json", replace(made_calibration(np.arange(50.0)), typicality=usual))
    again = load_calibration(tmp_path / "c.json", "x").typicality
    assert isinstance(again, Typicality)
    assert again.of_scans
    assert np.allclose(again.distance(drawn(50, 3)), usual.distance(drawn(50, 3)), rtol=1e-3)


def test_traits_follow_what_they_measure(tmp_path: Path) -> None:
    values, _ = head(0)

    def measured(changed: np.ndarray, millimetres: float = 1.0) -> dict[str, float]:
        affine = np.diag([-millimetres, -millimetres, 1.0, 1.0])
        volume = read_volume(write(tmp_path / "a.nii.gz", changed.astype(np.float32), affine))
        traits = scan_traits(volume, slices_of(volume, SliceFraming(size=64)))
        return dict(zip(INPUT_TRAITS, traits.tolist(), strict=True))

    usual = measured(values)
    assert (usual["voxel_across"], usual["voxel_through"]) == (0, 0)
    larger = measured(values, 2.0)
    assert larger["voxel_across"] == pytest.approx(1)
    assert larger["width"] == pytest.approx(usual["width"] + 1)
    assert larger["fill"] == pytest.approx(usual["fill"])
    # Brightness as such is none of it, nor which scanner's numbers they are.
    assert measured(values * 7) == pytest.approx(usual, abs=0.02)
    labels = np.where(values > 0, 1 + (values > 80) + (values > 120), 0)
    assert measured(labels)["levels"] == pytest.approx(np.log2(3))
    turned = np.where(values > 0, 260 - values, 0)
    assert measured(turned)["dark_tail"] == pytest.approx(usual["bright_tail"], abs=0.1)
    grain = np.clip(values + np.random.default_rng(0).normal(0, 30, values.shape), 20, None)
    assert measured(np.where(values > 0, grain, 0))["noise"] > usual["noise"] + 0.3
    soft = ndimage.gaussian_filter(values, (1.5, 1.5, 0))
    assert measured(np.where(values > 0, soft, 0))["sharpness"] < usual["sharpness"] - 1
    assert measured(np.random.default_rng(0).permutation(values.ravel()).reshape(values.shape))["symmetry"] < 0.3
    # A lesion is what is looked for: it must not make a scan one of another kind.
    for name, value in measured(head(0, lesion=True)[0]).items():
        assert abs(value - usual[name]) <= 1.5 * SCAN_TRAITS[name].least, name


def test_a_scan_of_another_kind_has_a_score_and_no_p_value(scans_model: Path, heads: Path, tmp_path: Path) -> None:
    detector = Detector.load(scans_model)
    assert detector.calibration.typicality is not None
    values, _ = head(201)
    labels = write(tmp_path / "labels.nii.gz", np.where(values > 0, 1 + (values > 80), 0).astype(np.float32))
    found = detector.detect(labels, max_false_alarm=0.1)
    assert (found.verdict, found.reason["code"], found.p_value) == ("not_applicable", "unlike_calibration", None)
    assert "few grey levels" in found.reason["sentence"]
    assert found.score is not None
    assert found.scores
    assert (found.slices, found.regions, found.heatmap) == ((), (), None)
    for spoken in ("en", "de"):
        answer = answer_of(found, detector.calibration, language(spoken))
        assert "pixelsleuth train" in answer.next_steps[0]
    (asked,) = detector.detect_many([labels], max_false_alarm=0.1, typicality=False)
    assert asked.p_value is not None
    assert asked.score == pytest.approx(found.score, abs=1e-5)
    # It was read and scored: the run did what it could.
    done = CliRunner().invoke(app, ["detect", str(labels), "--model", str(scans_model), "--no-heatmap"])
    assert done.exit_code == 0, done.output
    healthy = detector.detect(next((heads / "healthy").iterdir()), max_false_alarm=0.1)
    assert healthy.p_value is not None


def test_the_lowest_rate_that_scans_can_promise_is_taken_and_told(
    scans_model: Path, heads: Path, tmp_path: Path
) -> None:
    path = str(heads / "healthy/h200.nii.gz")
    done = CliRunner().invoke(app, ["detect", path, "--model", str(scans_model), "--no-heatmap"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.splitlines()[0]) if done.stdout.startswith("{") else json.loads(
        next(line for line in done.output.splitlines() if line.startswith("{"))
    )  # fmt: skip
    assert record["max_false_alarm"] == 0.077
    (note,) = [note for note in record["notes"] if note["code"] == "rate_raised"]
    assert "0.077, the lowest that the model's 12 calibration scans can promise; 0.01 needs 99" in note["sentence"]
    assert note["sentence"] in " ".join(done.output.split())
    # Asked for, a rate that cannot be promised is refused, with the lowest that can.
    done = CliRunner().invoke(app, ["detect", path, "--model", str(scans_model), "--max-false-alarm", "0.01"])
    assert "at least 99 calibration images" in str(done.exception)
    assert "0.077" in str(done.exception)


def test_near_the_rate_a_scan_is_moved_and_rescaled(scans_model: Path, heads: Path) -> None:
    detector = Detector.load(scans_model)
    assert {"rescaled_0.9", "shifted_0.5", "slice_shifted_0.5"} <= set(detector.calibration.scores)
    path = heads / "healthy/h200.nii.gz"

    def judged(calibration_scores: dict[str, np.ndarray]) -> Finding:
        scores = {**detector.calibration.scores, **calibration_scores}
        other = Detector(detector.name, detector.scorer, replace(detector.calibration, scores=scores))
        return other.detect(path, max_false_alarm=0.1)

    score = detector.detect(path, max_false_alarm=0.1).score
    above, below = np.full(12, score + 5), np.full(12, score - 5)
    # p is 1/13 as it is; after a shift every calibration scan is more unusual.
    found = judged({"original": below, "rescaled_0.9": below - 50, "shifted_0.5": above + 50})
    assert (found.verdict, found.reason["code"]) == ("unsure", "unstable")
    assert "moved by half a pixel" in found.reason["sentence"]
    assert found.p_value == pytest.approx(1 / 13)
    assert judged({"original": below, "rescaled_0.9": below - 50, "shifted_0.5": below - 50}).verdict == "anomalous"
