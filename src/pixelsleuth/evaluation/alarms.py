"""Measure how often untouched images are called anomalous, by their source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pixelsleuth.detector import Detector, Rule
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.scoring.judgement import Judgement
from pixelsleuth.scoring.scorer import ScoreOptions
from pixelsleuth.sources.samples import Sample

RATES = (0.01, 0.05, 0.1)
#: The rate at which colour is counted.
MAPPED = 0.05


def false_alarms(
    detector: Detector,
    sources: Mapping[str, list[Path]],
    *,
    maps: bool = False,
    progress: Callable[[str, dict[str, Any]], None] = lambda source, row: None,
) -> dict[str, Any]:
    """Measure how often untouched images are called anomalous, by source and `pooled`.

    Args:
        sources: a source's name -> its pictures; neither videos nor volumes.
        maps: also count pictures on which colour shows.

    Returns:
        Source -> {each of `RATES`: [share, low, high] of p <= rate, whatever the verdict; `verdicts`: verdict -> the
        same for each rate, asked for in turn; `judged`, `of` (those without a face are not judged); `coloured` at 5%
        where maps were made}; intervals by picture.

    Raises:
        PixelsleuthError: a source of which no picture can be judged.
        CalibrationError: the calibration set is too small for one of the rates.
    """
    for rate in RATES:
        detector.calibration.check_rate(rate)
    rows: dict[str, Any] = {}
    judged: dict[str, list[Alarms]] = {}
    for name, paths in sources.items():
        found, coloured = _judged(detector, paths, maps)
        if not len(coloured):
            raise PixelsleuthError(f"{name}: none of its {len(paths)} pictures can be judged")
        judged[name] = found
        rows[name] = _shares(found) | {"judged": len(found[0].p), "of": len(paths)}
        if maps:
            rows[name]["coloured"] = share_by_picture(coloured)
        progress(name, rows[name])
    rows["pooled"] = _shares([_joined(several) for several in zip(*judged.values(), strict=True)])
    return rows


class Alarms(NamedTuple):
    """Of n images judged at one rate: `p` (n,) float64, `verdicts` (n,) of str."""

    p: np.ndarray
    verdicts: np.ndarray


def _judged(detector: Detector, paths: list[Path], maps: bool) -> tuple[list[Alarms], np.ndarray]:
    """Images that are scored once, judged at each of `RATES` in turn; and (n,) bool, on which colour shows at `MAPPED`,
    where that is asked for."""
    options = ScoreOptions(maps, restorations=False, every_score=False)
    judged: dict[float, list[Judgement]] = {rate: [] for rate in RATES}
    coloured: list[bool] = []
    for first in range(0, len(paths), detector.batch):
        read = [detector.read(path) for path in paths[first : first + detector.batch]]
        samples = [one for one in read if isinstance(one, Sample)]
        scores = detector.score(samples, options)
        for rate in RATES:
            judged[rate] += detector.judge(samples, scores, Rule(rate))
        mapped = zip(samples, scores, judged[MAPPED][len(coloured) :], strict=True)
        coloured += [maps and bool(detector.assembler.finding(*each).regions) for each in mapped]
    found = [
        Alarms(np.array([one.p_value for one in of_rate]), np.array([one.verdict for one in of_rate]))
        for of_rate in judged.values()
    ]
    return found, np.array(coloured, bool)


def _joined(several: Sequence[Alarms]) -> Alarms:
    return Alarms(*(np.concatenate(parts) for parts in zip(*several, strict=True)))


def _shares(by_rate: Sequence[Alarms]) -> dict[str, Any]:
    """Of what was judged at each of `RATES` in turn."""
    of_rates = dict(zip((f"{rate:g}" for rate in RATES), by_rate, strict=True))
    below = {rate: share_by_picture(one.p <= float(rate)) for rate, one in of_rates.items()}
    verdicts = {
        verdict: {rate: share_by_picture(one.verdicts == verdict) for rate, one in of_rates.items()}
        for verdict in ("anomalous", "unsure")
    }
    return {**below, "verdicts": verdicts}


def share_by_picture(hits: np.ndarray) -> metrics.Interval:
    """[share, low, high] of (n,) bool, pictures resampled."""
    return metrics.share_with_interval(hits, metrics.resample_weights([str(i) for i in range(len(hits))], None))
