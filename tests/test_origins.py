"""p-values by source: by hand, in simulation, and through the calibration file, a detector and the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pixelsleuth.commands.account import line_of
from pixelsleuth.detector import Detector
from pixelsleuth.errors import CalibrationError, ModelError
from pixelsleuth.folders import Entry, folder_of
from pixelsleuth.language import LANGUAGES, language
from pixelsleuth.records import Box, Face, FaceFinding, Promise
from pixelsleuth.reporting.answer import answer_of, ranked
from pixelsleuth.reporting.report import promises
from pixelsleuth.scoring.calibration import Calibration, load_calibration, save_calibration
from pixelsleuth.scoring.origins import any_source_p, border_of, check_promise, conformal_p, new_source_p
from tests.conftest import shape_picture
from tests.test_scoring import made_calibration
from tests.test_whole_run import run_cli

REPETITIONS = 10_000


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.07, 0.1, 0.29, 0.5, 0.99])
@pytest.mark.parametrize("count", [1, 4, 12, 19, 20, 99, 120])
def test_exactly_what_reaches_the_rate_lies_above_its_border(rate: float, count: int) -> None:
    drawn = np.random.default_rng(count).normal(size=count)
    for normal in (np.sort(drawn), np.sort(drawn.round()), np.zeros(count)):
        border = border_of(normal, rate)
        for score in {*normal, *np.nextafter(normal, np.inf), *np.nextafter(normal, -np.inf), 9.0}:
            assert (border is not None and score > border) == (conformal_p(normal, score) <= rate)


def sources(k: int, pictures: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(REPETITIONS, k, pictures) scores, ascending in each source, and (REPETITIONS, k) the normal shifts by which
    sources differ."""
    generator = np.random.default_rng(seed)
    shift = spread * generator.normal(size=(REPETITIONS, k))
    return np.sort(shift[..., None] + generator.normal(size=(REPETITIONS, k, pictures))), shift


def drawn(of_new: np.ndarray, seed: int) -> np.ndarray:
    """(REPETITIONS,) one picture of each new source, (REPETITIONS, pictures)."""
    which = np.random.default_rng(seed).integers(of_new.shape[1], size=REPETITIONS)
    return of_new[np.arange(REPETITIONS), which]


def by_source(calibration: Calibration, numbers: np.ndarray, names: tuple[str, ...]) -> Calibration:
    return replace(calibration, sources=names, source_of=dict.fromkeys(calibration.scores, numbers))


def test_by_hand() -> None:
    groups = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 5.0])]
    assert any_source_p(groups, 2.5) == 2 / 3
    assert any_source_p(groups, 0.5) == 1.0
    assert new_source_p(groups, 2.5) == pytest.approx((1 + 2 / 4 + 1 / 2) / 3)
    assert new_source_p(groups, 9.0) == pytest.approx(1 / 3)
    # A tie counts as at least as unusual.
    assert new_source_p(groups, 5.0) == pytest.approx((1 + 0 + 1 / 2) / 3)
    with pytest.raises(ValueError, match="not a number"):
        new_source_p(groups, float("nan"))


@pytest.mark.parametrize("k", [3, 5, 10, 20])
def test_a_rate_for_a_new_source_holds_where_sources_differ(k: int) -> None:
    drawn_scores, _ = sources(k + 1, 20, 2.0, k)
    fresh = drawn(drawn_scores[:, k], k)
    known = drawn_scores[:, :k]
    p = np.array([new_source_p(groups, s) for groups, s in zip(known, fresh, strict=True)])
    pooled = np.array([conformal_p(np.sort(g, axis=None), s) for g, s in zip(known, fresh, strict=True)])
    for steps in (1, 2, k // 2 + 1):
        rate = steps / (k + 1)
        assert (p <= rate + 1e-9).sum() <= stats.binom.ppf(0.9995, REPETITIONS, rate)
    # What is promised of the pictures taken together is not so of a new source: this is why another p is needed.
    assert (pooled <= 0.05).sum() > stats.binom.ppf(0.9999, REPETITIONS, 0.05)


@pytest.mark.parametrize("k", [3, 5, 10, 20])
def test_it_is_exact_where_sources_have_nothing_in_common(k: int) -> None:
    drawn_scores, _ = sources(k + 1, 5, 1e6, 100 + k)
    fresh = drawn(drawn_scores[:, k], k)
    p = np.array([new_source_p(groups, s) for groups, s in zip(drawn_scores[:, :k], fresh, strict=True)])
    for steps in (1, 2, k // 2 + 1):
        low, high = stats.binom.ppf((0.0005, 0.9995), REPETITIONS, steps / (k + 1))
        assert low <= (p <= steps / (k + 1) + 1e-9).sum() <= high


@pytest.mark.parametrize("k", [3, 5, 10, 20])
def test_the_largest_p_holds_in_each_source_and_in_k_of_k_plus_1_new_ones(k: int) -> None:
    pictures, rate = 39, 0.1
    drawn_scores, shift = sources(k + 1, pictures, 1.0, 200 + k)
    known = drawn_scores[:, :k]
    # One more picture of the source that alarms most.
    of_worst = shift[:, :k].max(1) + np.random.default_rng(k).normal(size=REPETITIONS)
    alarms = np.array([any_source_p(groups, s) <= rate for groups, s in zip(known, of_worst, strict=True)])
    assert alarms.sum() <= stats.binom.ppf(0.9995, REPETITIONS, rate)
    at = np.sort(known, axis=2)[:, :, -int(rate * (pictures + 1))].max(1)
    assert all(
        any_source_p(groups, t + 1e-9) <= rate < any_source_p(groups, t) + 1e-9
        for groups, t in zip(known[:50], at[:50], strict=True)
    )
    # All pictures of a new source.
    kept = ((drawn_scores[:, k] > at[:, None]).sum(1) <= rate * pictures).sum()
    low, high = stats.binom.ppf((0.0005, 0.9995), REPETITIONS, k / (k + 1))
    assert low <= kept <= high


def test_what_sources_cannot_promise_is_refused_with_what_is_needed() -> None:
    counts = [500, 493, 248, 284, 48]
    names = ["a", "b", "c", "d", "e"]
    with pytest.raises(
        CalibrationError, match=r"at least 99 calibration sources, this model has 5; .*0\.1667 or above"
    ):
        check_promise(names, counts, "new-source", 0.01)
    check_promise(names, counts, "new-source", 0.1667)
    with pytest.raises(CalibrationError, match=r"at least 99 calibration images of each source, e has 48; .*0\.0205"):
        check_promise(names, counts, "any-source", 0.01)
    check_promise(names, counts, "any-source", 0.0205)
    check_promise(names, counts, "calibration", 0.01)
    with pytest.raises(CalibrationError, match="which source each calibration image comes from"):
        check_promise([], [], "any-source", 0.1)


def unsealed(path: Path) -> dict[str, Any]:
    """A calibration without its own digest, as those of before are, so that it may be changed."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in tree.items() if key != "sha256"}


def test_the_file_keeps_the_source_of_each_score(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    made = by_source(made_calibration(generator.normal(size=60)), generator.integers(0, 3, 60), ("a", "b", "c"))
    made = replace(made, pictures=("00ff00ff00ff00ff",))
    path = tmp_path / "calibration.json"
    save_calibration(path, made)
    found = load_calibration(path, "x")
    assert (found.sources, found.pictures) == (made.sources, made.pictures)
    assert found.of_each_source == made.of_each_source
    assert sum(found.of_each_source) == 60
    for score in (-1.0, 0.0, 2.0):
        for promise in ("calibration", "any-source", "new-source"):
            assert found.p_value(score, "jpeg_90", promise) == made.p_value(score, "jpeg_90", promise)
    tree = unsealed(path)
    path.write_text(json.dumps(tree | {"source_of": tree["source_of"] | {"original": [0] * 60}}))
    with pytest.raises(ModelError, match="'source_of' does not name one of 3 sources"):
        load_calibration(path, "x")
    # Scores that are not in order keep their sources.
    turned = {name: values[::-1] for name, values in tree["scores"].items()}
    numbers = {name: values[::-1] for name, values in tree["source_of"].items()}
    path.write_text(json.dumps(tree | {"scores": turned, "source_of": numbers}))
    again = load_calibration(path, "x").p_value(0.5, promise="any-source")
    assert again == made.p_value(0.5, promise="any-source")


def test_files_without_sources_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    made = made_calibration(np.arange(120.0))
    save_calibration(path, made)
    tree = unsealed(path)
    for key in ("sources", "source_of", "typicality", "pictures"):
        del tree[key]
    path.write_text(json.dumps(tree))
    found = load_calibration(path, "x")
    assert (found.sources, found.groups, found.typicality, found.pictures) == ((), {}, None, ())
    assert found.p_value(60.0) == made.p_value(60.0)
    found.check_rate(0.01)
    with pytest.raises(CalibrationError, match="which source each calibration image comes from"):
        found.check_rate(0.1, "new-source")


def test_records_carry_both_and_the_verdict_rests_on_the_one_asked_for(detector: Detector) -> None:
    calibration = detector.calibration
    assert calibration.sources
    halves = np.arange(calibration.count) % 2
    split = Detector(detector.name, detector.scorer, by_source(calibration, halves, ("even", "odd")))
    pictures = [shape_picture(4_100 + i, True) for i in range(12)]
    usual = list(split.detect_many(pictures, max_false_alarm=0.05))
    cautious = list(split.detect_many(pictures, max_false_alarm=0.4, promise="new-source"))
    for finding, other in zip(usual, cautious, strict=True):
        record = finding.record()
        assert record["p_value"] == calibration.p_value(finding.score)
        assert record["p_value_any_source"] == any_source_p(split.calibration.groups["original"], finding.score)
        assert (
            record["p_value_new_source"] == new_source_p(split.calibration.groups["original"], finding.score) >= 1 / 3
        )
        assert other.p_value == finding.p_value
        assert other.verdict == "unsure" or (other.verdict == "anomalous") == (other.p_value_new_source <= 0.4)
        assert f"{record['p_value_new_source']:.4f}" in promises(finding, split.calibration, language())
        assert "below 0.33" in promises(finding, split.calibration, language())
    assert {f.verdict for f in cautious} >= {"anomalous"}
    assert [f.record()["promise"] for f in (usual[0], cautious[0])] == ["calibration", "new-source"]
    with pytest.raises(CalibrationError, match="at least 4 calibration sources, this model has 2"):
        next(split.detect_many(pictures, max_false_alarm=0.2, promise="new-source"))


@pytest.mark.parametrize("promise", ["any-source", "new-source"])
def test_what_is_told_rests_on_the_p_that_the_verdict_rests_on(detector: Detector, promise: Promise) -> None:
    finding = detector.detect(shape_picture(3), max_false_alarm=0.05, heatmap=False)
    face = FaceFinding(Face(Box(0, 0, 9, 9), 1.0), "normal", 0.02, 0.0, {}, (), None, 0.3, 0.3)
    finding = replace(
        finding, verdict="normal", reason=None, p_value=0.02, p_value_any_source=0.3, p_value_new_source=0.3,
        max_false_alarm=0.05, promise=promise, faces=(face, face),
    )  # fmt: skip
    assert "normal, p = 0.3000 where 0.05 is anomalous" in line_of(finding)
    for code in LANGUAGES:
        assert language(code).decimal(0.3, ".4f") in ranked(finding, detector.calibration, language(code))
    assert "p = 0.3000" in ranked(finding, detector.calibration, language())
    entries = [Entry.of(finding.record())] * 3
    together = folder_of(entries, detector.calibration, 0.05)
    assert (together.alarms, together.right) == (0, 0)
    # Made by an earlier version, a record does not say what its verdict rests on.
    old = {name: value for name, value in finding.record().items() if name != "promise"}
    assert folder_of([Entry.of(old)] * 3, detector.calibration, 0.05).alarms == 3
    # How sources left out fared was measured by the p of all sources together.
    left_out = replace(detector.calibration, about=detector.calibration.about | {"left_out": {"a": {"0.05": 0.3}}})
    often = answer_of(replace(finding, p_value_new_source=0.02), left_out, language()).often
    assert "other sources" not in often
    same = replace(finding, promise="calibration", p_value=0.2)
    assert "other sources" in answer_of(same, left_out, language()).often
    # A p that holds for each source gives a bound, and of such inputs alone.
    whose = {"any-source": "from any one of the sources it is compared with", "new-source": "the model has never seen"}
    assert often.startswith("At most 5 in 100 untouched inputs from ")
    assert whose[promise] in often
    for code in LANGUAGES:
        alarm = answer_of(replace(finding, verdict="anomalous"), detector.calibration, language(code)).often
        assert ("At most 5 in 100 untouched inputs" if code == "en" else "höchstens 5 von 100") in alarm
    unstable = {"code": "unstable", "sentence": "it turns over"}
    found = answer_of(replace(finding, verdict="unsure", reason=unstable), detector.calibration, language()).found
    assert "p = 0.3000" in found
    assert whose[promise].removesuffix("it is compared with") in found


def test_the_command_refuses_a_promise_before_it_reads_anything(model_folder: Path, tmp_path: Path) -> None:
    code, out, error = run_cli("detect", "none.png", "--model", model_folder, "--promise", "new-source")
    assert (code, out) == (2, "")
    assert "needs at least 99 calibration sources, this model has 1" in error
    old = Path(shutil.copytree(model_folder, tmp_path / "old", ignore=shutil.ignore_patterns("training")))
    tree = unsealed(old / "calibration.json")
    (old / "calibration.json").write_text(json.dumps({k: v for k, v in tree.items() if k != "sources"}))
    finding = Detector.load(old).detect(shape_picture(3_001), max_false_alarm=0.05)
    assert finding.p_value is not None
    assert finding.p_value_any_source is finding.p_value_new_source is None
    assert promises(finding, Detector.load(old).calibration, language()) == ""
