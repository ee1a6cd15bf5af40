"""Many inputs together: what is named, how many alarms are right at least, where a folder leaves the calibration."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pixelsleuth.folders import Entry, folder_of
from pixelsleuth.language import LANGUAGES, language
from pixelsleuth.reporting.folders import sentences
from pixelsleuth.scoring.calibration import Calibration
from pixelsleuth.scoring.discoveries import fewest_named, hommel_count, q_values, right_at_least, storey_share
from pixelsleuth.scoring.drift import drift_of, smoothed_p
from pixelsleuth.scoring.origins import conformal_p
from tests.test_whole_run import run_cli


def conformal(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    ascending = np.sort(calibration)
    return (1 + len(ascending) - np.searchsorted(ascending, scores, "left")) / (len(ascending) + 1)


def test_q_values_step_up() -> None:
    p = np.array([0.8, 0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212])
    named = q_values(p) <= 0.05
    # The largest k with p_(k) <= k q / m, looked for the plain way.
    ordered = np.sort(p)
    k = max((i for i in range(1, 11) if ordered[i - 1] <= i * 0.05 / 10), default=0)
    assert named.sum() == k == 2
    assert set(p[named]) == {0.001, 0.008}
    # p_(6) = .06 lies at 6 x .1 / 10, and takes those before it with it, though p_(3) = .039 lies above 3 x .1 / 10.
    assert (q_values(p) <= 0.1).sum() == 6
    assert q_values(np.zeros(0)).size == 0
    assert np.allclose(q_values(p, 0.5), q_values(p) / 2)
    assert storey_share(p) == (1 + 1) / (10 * 0.5)
    assert storey_share(np.full(4, 0.9)) == 1.0


def test_the_bound_is_that_of_closed_testing() -> None:
    """Over all 2^m sets: a set's normal inputs are at most as many as those of its largest part that no larger set's
    test of Simes rejects."""
    generator = np.random.default_rng(0)
    for _ in range(40):
        m = 6
        p = np.where(generator.random(m) < 0.5, generator.random(m) ** 5, generator.random(m))
        kept = []
        for size in range(1, m + 1):
            for some in combinations(range(m), size):
                ordered = np.sort(p[list(some)])
                if not (ordered <= np.arange(1, size + 1) * 0.05 / size).any():
                    kept.append(set(some))
        assert hommel_count(p, 0.05) == max((len(one) for one in kept), default=0)
        for named in (p <= 0.05, p <= 0.2, generator.random(m) < 0.5):
            chosen = set(np.flatnonzero(named).tolist())
            most_normal = max((len(one & chosen) for one in kept), default=0)
            assert right_at_least(p, named) == len(chosen) - most_normal


def test_both_hold_with_one_shared_calibration() -> None:
    """600 folders of 60 with 12 altered ones, ranked among one calibration of 80 rounded scores each."""
    generator = np.random.default_rng(1)
    altered = np.arange(60) < 12
    false, missed, found = [], 0, 0
    for _ in range(600):
        scores = generator.normal(size=60) + 3.5 * altered
        p = conformal(generator.normal(size=80).round(1), scores.round(1))
        named = q_values(p) <= 0.2
        false.append((named & ~altered).sum() / max(1, named.sum()))
        found += int((named & altered).sum())
        alarms = p <= generator.choice([0.02, 0.05, 0.1])
        missed += right_at_least(p, alarms) > (alarms & altered).sum()
    assert np.mean(false) <= 0.2 * 48 / 60 + 3 * np.std(false) / 600**0.5
    assert found > 0.5 * 12 * 600
    assert missed / 600 <= 0.05


def test_a_picture_is_ranked_among_those_before_it() -> None:
    generator = np.random.default_rng(0)
    calibration, scores, ties = generator.normal(size=30).round(1), generator.normal(size=20).round(1), np.full(20, 1.0)
    p = smoothed_p(np.sort(calibration), scores, ties)
    for number, score in enumerate(scores):
        pool = np.sort(np.concatenate([calibration, scores[:number]]))
        assert p[number] == pytest.approx(conformal_p(pool, float(score)))


def test_drift_is_named_where_it_begins_and_altered_pictures_are_none() -> None:
    generator = np.random.default_rng(0)
    calm = at = 0
    for number in range(15):
        calibration, ties = np.sort(generator.normal(size=400)), generator.random(200)
        scores = generator.normal(size=200)
        calm += drift_of(smoothed_p(calibration, scores, ties)) is not None
        # Two in five are altered.
        altered = scores + 4 * (generator.random(200) < 0.4)
        calm += drift_of(smoothed_p(calibration, altered, ties)) is not None
        shift = (1.2, 4.0, -1.2)[number % 3]
        scores[80:] += shift
        drift = drift_of(smoothed_p(calibration, scores, ties))
        assert drift is not None
        assert drift.bet in {1.2: ("more",), 4.0: ("alarming",), -1.2: ("less",)}[shift]
        assert drift.seen > 80
        at += abs(drift.first - 80) <= 20
    assert calm == 0
    assert at >= 11


def entries(calibration: Calibration, scores: np.ndarray, captured: bool = False) -> list[Entry]:
    return [
        Entry(
            f"f/{number:03d}.jpg", f"{number:064x}", "image", "normal", calibration.p_value(float(score)), float(score),
            captured=f"2026-01-{1 + number // 24:02d} {number % 24:02d}:00" if captured else "",
        )
        for number, score in enumerate(scores)
    ]  # fmt: skip


def calibration_of(scores: np.ndarray) -> Calibration:
    return Calibration("s", {"original": np.sort(scores)}, np.zeros((1, 1, 1)), np.zeros(1), "float32", "0" * 64, {})


def test_a_folder_from_elsewhere_is_told_as_such() -> None:
    generator = np.random.default_rng(0)
    calibration = calibration_of(generator.normal(size=500))
    scores = generator.normal(size=120)
    scores[60:] += 1.5
    several = entries(calibration, scores, captured=True)
    # Given in any order, they are taken as they were captured.
    found = folder_of([several[i] for i in generator.permutation(120)], calibration, 0.01, 0.05)
    assert found.drift is not None
    assert abs(found.drift.first[0] - 61) <= 25
    assert (found.drift.by, found.drift.of, found.drift.last, found.holds) == ("capture", 120, None, False)
    tree = json.loads(json.dumps(found.record()))
    assert tree["drift"]["first"]["path"] == f"f/{tree['drift']['first']['number'] - 1:03d}.jpg"
    for code in LANGUAGES:
        told = sentences(found, calibration.count, language(code))
        assert f"{tree['drift']['first']['number'] - 1:03d}.jpg" in told[-2]
        assert language(code)("folder.by.capture") in told[-2]
    # One that ends is told with its end; without times the order is the one given.
    scores = generator.normal(size=300)
    scores[80:160] += 1.5
    drift = folder_of(entries(calibration, scores), calibration, 0.01).drift
    assert drift is not None
    assert drift.by == "name"
    assert drift.last is not None
    assert abs(drift.last[0] - 160) <= 25
    assert folder_of(entries(calibration, generator.normal(size=300)), calibration, 0.01).holds


def test_what_p_says_little_of_does_not_count() -> None:
    calibration = calibration_of(np.arange(99.0))
    several = entries(calibration, np.array([200.0, 200.0, 1.0, 2.0]))
    plain = folder_of(several, calibration, 0.01)
    assert (plain.counted, plain.alarms, plain.right) == (4, 2, 2)
    limited = [Entry(**{**vars(several[0]), "limit": "blurred"}), *several[1:]]
    found = folder_of(limited, calibration, 0.01, 0.05)
    assert (found.counted, found.alarms, found.limits) == (3, 1, {"blurred": 1})
    assert "p says little about them: 1." in sentences(found, 99, language())[0]
    # One of three as unusual as can be: .01 x 3 <= .05.
    assert [one.path for one in found.named] == ["f/001.jpg"]
    assert fewest_named(10, 99, 0.05) == 2
    none = folder_of(entries(calibration, np.array([200.0] + [1.0] * 9)), calibration, 0.01, 0.05)
    assert not none.named
    assert "at least 2 would have to be" in sentences(none, 99, language())[1]


def test_detect_tells_of_the_folder(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for kind, count in (("real", 5), ("fake", 4)):
        for path in sorted((shapes / f"test/{kind}").iterdir())[:count]:
            shutil.copy(path, folder / path.name)
    call = ("detect", folder, "--model", model_folder, "--max-false-alarm", "0.05", "--no-heatmap", "--fdr", "0.2")
    code, _, told = run_cli(*call, "--out", tmp_path / "out", "--report")
    assert code == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (tmp_path / "out/findings.jsonl").read_text().splitlines()]
    p = np.array([record["p_value"] for record in records])
    assert (summary["inputs"], summary["counted"]) == (9, 9)
    assert summary["alarms"]["count"] == (p <= 0.05).sum()
    listed = summary["false_discoveries"]["named"]
    assert [one["p_value"] for one in listed] == sorted(p[q_values(p) <= 0.2].tolist())
    assert len(listed) >= 2
    assert summary["alarms"]["right_at_least"] == right_at_least(p, p <= 0.05) >= 1
    line = f"Inputs with p <= 0.05: {summary['alarms']['count']} of 9; if all were normal, about 0.45 would be"
    assert line in told
    report = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert line.replace("<", "&lt;") in report
    assert Path(listed[0]["path"]).name in report.split("<table>")[0]
    # What was judged before counts, too.
    whole = (tmp_path / "out/findings.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "out/findings.jsonl").write_text("".join(whole[:6]))
    assert run_cli(*call, "--out", tmp_path / "out", "--resume")[0] == 0
    assert json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8")) == summary


def test_rates_that_mean_nothing_are_refused(model_folder: Path) -> None:
    code, _, error = run_cli("detect", "x.png", "--model", model_folder, "--fdr", "1.5")
    assert (code, "fdr: expected a rate between 0 and 1, got 1.5" in error) == (2, True)
    code, _, error = run_cli("detect", "x.png", "--model", model_folder, "--fdr", "0.1", "--promise", "any-source")
    assert (code, "ask for one of the two" in error) == (2, True)
