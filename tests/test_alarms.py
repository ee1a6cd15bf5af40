"""How often untouched images are called anomalous: p and verdict, by source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.alarms import RATES, false_alarms


def test_p_and_verdicts_are_those_of_judging_at_each_rate(detector: Detector, shapes: Path) -> None:
    sources = {name: sorted((shapes / "test" / name).iterdir()) for name in ("real", "fake")}
    found = false_alarms(detector, sources)
    judged = {}
    for name, paths in sources.items():
        assert (found[name]["judged"], found[name]["of"]) == (len(paths), len(paths))
        for rate in RATES:
            one = [detector.detect(path, max_false_alarm=rate, heatmap=False) for path in paths]
            judged[name, rate] = np.array([(f.p_value <= rate, f.verdict == "anomalous", f.verdict == "unsure")
                                           for f in one if f.p_value is not None])  # fmt: skip
            told = [
                found[name][f"{rate:g}"],
                *(found[name]["verdicts"][v][f"{rate:g}"] for v in ("anomalous", "unsure")),
            ]
            assert [share for share, _, _ in told] == pytest.approx(judged[name, rate].mean(0).tolist(), abs=1e-4)
    # Where re-encoding turns a verdict it is no alarm, whatever p says.
    assert any(rows[:, 2].any() for rows in judged.values())
    for rate in RATES:
        both = np.concatenate([judged["real", rate], judged["fake", rate]]).mean(0)
        assert found["pooled"][f"{rate:g}"][0] == pytest.approx(both[0], abs=1e-4)
        assert found["pooled"]["verdicts"]["anomalous"][f"{rate:g}"][0] == pytest.approx(both[1], abs=1e-4)
    assert "coloured" not in found["real"]


def test_colour_is_counted_where_maps_are_asked_for(detector: Detector, shapes: Path) -> None:
    paths = sorted((shapes / "test/fake").iterdir())[:12]
    found = false_alarms(detector, {"fake": paths}, maps=True)["fake"]
    coloured = [bool(detector.detect(path, max_false_alarm=0.05).regions) for path in paths]
    assert found["coloured"][0] == pytest.approx(np.mean(coloured), abs=1e-4)


def test_a_source_without_any_picture_that_can_be_judged(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PixelsleuthError, match="none of its 1 pictures can be judged"):
        false_alarms(detector, {"broken": [tmp_path / "broken.png"]})
