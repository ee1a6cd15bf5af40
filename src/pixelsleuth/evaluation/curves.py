"""ROC and precision-recall curves with pointwise bootstrap bands, on the resamples of the intervals beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.metrics import Counts, Interval

#: Points of a band.
GRID = 201


@dataclass(frozen=True)
class Curve:
    """A curve and its band.

    Attributes:
        x, y: (n,) the data's own curve, exact.
        grid: (GRID,) places of the band; low, high: (GRID,) 2.5 and 97.5 percentiles over resamples there.
        area: AUROC, or AP, with its interval.
    """

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    low: np.ndarray
    high: np.ndarray
    area: Interval


def roc_curve(counts: Counts) -> Curve:
    """True-positive over false-alarm rate; ties lie on a slope, as in the AUROC."""
    hits, alarms = _rates(counts)
    grid = np.linspace(0, 1, GRID)
    sound = np.isfinite(hits[:, -1]) & np.isfinite(alarms[:, -1])
    resampled = np.stack([np.interp(grid, a, h) for a, h in zip(alarms[sound][1:], hits[sound][1:], strict=True)])
    low, high = np.quantile(resampled, (0.025, 0.975), axis=0)
    return Curve(alarms[0], hits[0], grid, low, high, metrics.interval(metrics.auroc(counts)))


def precision_recall_curve(counts: Counts) -> Curve:
    """Precision at the highest threshold that reaches each recall, as the steps of the AP have it."""
    hits = np.cumsum(counts.anomalous[:, ::-1], 1)
    called = hits + np.cumsum(counts.normal[:, ::-1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = hits / hits[:, -1:], np.where(called > 0, hits / called, 1.0)
    grid = np.linspace(0, 1, GRID)[1:]
    rows = [k for k in range(1, len(recall)) if np.isfinite(recall[k, -1])]
    # A hair below, or rounding of the division would push a recall that is reached to the next threshold.
    resampled = np.stack([precision[k][np.searchsorted(recall[k], grid - 1e-9)] for k in rows])
    low, high = np.quantile(resampled, (0.025, 0.975), axis=0)
    return Curve(recall[0], precision[0], grid, low, high, metrics.interval(metrics.average_precision(counts)))


def _rates(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """(R, bins + 1) true-positive and false-alarm rates from the highest threshold to the lowest."""
    found = []
    for one in (counts.anomalous, counts.normal):
        above = np.pad(np.cumsum(one[:, ::-1], 1), ((0, 0), (1, 0)))
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(above / above[:, -1:])
    return found[0], found[1]
