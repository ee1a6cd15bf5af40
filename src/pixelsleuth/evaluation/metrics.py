"""AUROC, AP, TPR at a false-alarm rate and DSC, each with a bootstrap interval, from counts by score.

Everything starts from two arrays of counts, of anomalous and of normal items by ascending score bin, one row a
resample. For pictures a bin is one distinct score, so that nothing is lost; for pixels a bin is a quantile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 1000
#: Quantile bins of pixel scores; the error of an AUROC is below 1 / BINS^2 where scores are spread evenly.
BINS = 512
#: Their quantiles, without the ends.
EVEN = np.linspace(0, 1, BINS + 1)[1:-1]
FALSE_ALARMS = (0.01, 0.05)

Interval = list[float]


@dataclass(frozen=True)
class Counts:
    """Counts by ascending score bin, (R, bins) float64 each; row 0 is the data, the rest are resamples."""

    anomalous: np.ndarray
    normal: np.ndarray


def resample_weights(units: Sequence[str] | np.ndarray, strata: np.ndarray | None, seed: int = 0) -> np.ndarray:
    """Draw bootstrap resamples: (1 + RESAMPLES, n) how often each item is drawn; row 0 is all ones.

    Args:
        units: n names; items of one name (a pair, a patient, a video) are drawn together.
        strata: n class numbers; units are drawn within their class. None: among all units (pairs).
    """
    names, index = np.unique(np.asarray(units), return_inverse=True)
    generator = np.random.default_rng(seed)
    weights = np.ones((1 + RESAMPLES, len(names)), np.float64)
    if strata is None:
        classes = np.zeros(len(names), int)
    else:
        classes = np.zeros(len(names), int)
        classes[index] = strata
    for value in np.unique(classes):
        members = np.flatnonzero(classes == value)
        weights[1:, members] = generator.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=RESAMPLES
        )
    return weights[:, index]


def image_counts(scores: np.ndarray, anomalous: np.ndarray, weights: np.ndarray) -> Counts:
    """(n,) scores, (n,) bool labels, (R, n) weights -> counts with one bin a distinct score."""
    distinct, place = np.unique(scores, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(distinct)))
    sorted_weights, labels = weights[:, order], anomalous[order]
    return Counts(
        np.add.reduceat(sorted_weights * labels, starts, axis=1),
        np.add.reduceat(sorted_weights * ~labels, starts, axis=1),
    )


def pixel_edges(maps: Sequence[np.ndarray], quantiles: np.ndarray = EVEN, all_pixels_of: int | None = 64) -> np.ndarray:
    """Edges of bins, at quantiles of the pooled values of maps.

    Args:
        all_pixels_of: of more maps than these every k-th pixel is taken, for speed; None: all are.
    """
    step = max(1, len(maps) // all_pixels_of) if all_pixels_of else 1
    pooled = np.concatenate([np.asarray(m, np.float32).ravel()[::step] for m in maps])
    return np.unique(np.quantile(pooled, quantiles))


def pixel_counts(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], weights: np.ndarray, edges: np.ndarray
) -> Counts:
    """n maps (H, W) float and masks (H, W) bool of the same n pictures, (R, n) weights of the pictures.

    Pictures, never pixels, are resampled.
    """
    size = len(edges) + 1
    inside = np.zeros((len(maps), size))
    outside = np.zeros((len(maps), size))
    for i, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        place = np.searchsorted(edges, values.ravel(), "right")
        inside[i] = np.bincount(place[mask.ravel()], minlength=size)
        outside[i] = np.bincount(place[~mask.ravel()], minlength=size)
    return Counts(weights @ inside, weights @ outside)


def auroc(counts: Counts) -> np.ndarray:
    """(R,) probability that an anomalous item scores above a normal one, ties half."""
    below = np.cumsum(counts.normal, 1) - counts.normal / 2
    total = counts.anomalous.sum(1) * counts.normal.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (counts.anomalous * below).sum(1) / total


def average_precision(counts: Counts) -> np.ndarray:
    """(R,) sum over thresholds of the gain in recall times precision, as scikit-learn computes it."""
    hits = np.cumsum(counts.anomalous[:, ::-1], 1)
    alarms = np.cumsum(counts.normal[:, ::-1], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(hits + alarms > 0, hits / (hits + alarms), 0.0)
        return (precision * counts.anomalous[:, ::-1]).sum(1) / hits[:, -1]


def tpr_at(counts: Counts, rate: float) -> np.ndarray:
    """(R,) largest share of anomalous items found at a false-alarm share of at most `rate`."""
    hits = np.cumsum(counts.anomalous[:, ::-1], 1)
    alarms = np.cumsum(counts.normal[:, ::-1], 1)
    allowed = alarms <= rate * alarms[:, -1:] + 1e-9
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(allowed, hits, 0).max(1) / hits[:, -1]


def dice(counts: Counts) -> np.ndarray:
    """(R, bins) Dice similarity coefficient when everything from a bin upwards is called anomalous."""
    hits = np.cumsum(counts.anomalous[:, ::-1], 1)[:, ::-1]
    alarms = np.cumsum(counts.normal[:, ::-1], 1)[:, ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * hits / (hits + alarms + counts.anomalous.sum(1, keepdims=True))


@dataclass(frozen=True)
class MapMetrics:
    """The agreement of maps with masks.

    Attributes:
        rows: `auroc`, `ap` and, where a level was given, `dsc` -> (R,), on every resample.
        edges: of the bins; dice: (R, bins), when everything from a bin upwards is called anomalous.
    """

    rows: dict[str, np.ndarray]
    edges: np.ndarray
    dice: np.ndarray

    @property
    def best(self) -> int:
        """The bin with the largest Dice coefficient, chosen on these masks."""
        return int(np.argmax(self.dice[0]))

    @property
    def best_level(self) -> float:
        return float(self.edges[max(0, self.best - 1)])

    def intervals(self) -> dict[str, Interval]:
        """Each row as [value, low, high], and `dsc_best`."""
        found = {name: interval(values) for name, values in self.rows.items()}
        return found | {"dsc_best": interval(self.dice[:, self.best])}


def map_metrics(
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    weights: np.ndarray,
    edges: np.ndarray | None = None,
    level: float | None = None,
) -> MapMetrics:
    """Compare n maps with n masks of the same shapes, under (R, n) weights of the samples.

    Args:
        edges: of the bins; `pixel_edges` unless given.
        level: above which a pixel is called anomalous, for `dsc`.
    """
    edges = pixel_edges(maps) if edges is None else edges
    counts = pixel_counts(maps, masks, weights, edges)
    rows, every = {"auroc": auroc(counts), "ap": average_precision(counts)}, dice(counts)
    if level is not None:
        rows["dsc"] = every[:, min(int(np.searchsorted(edges, level, "right")), every.shape[1] - 1)]
    return MapMetrics(rows, edges, every)


def interval(values: np.ndarray) -> Interval:
    """[value, low, high]: row 0 and the 2.5 and 97.5 percentiles of the resamples."""
    rest = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(rest, (0.025, 0.975)) if len(rest) else (np.nan, np.nan)
    return [round(float(v), 4) for v in (values[0], low, high)]


def score_metrics(counts: Counts) -> dict[str, Interval]:
    """AUROC, AP and TPR at each of `FALSE_ALARMS`, each [value, low, high]."""
    found = {"auroc": interval(auroc(counts)), "ap": interval(average_precision(counts))}
    return found | {f"tpr_at_fpr_{rate:g}": interval(tpr_at(counts, rate)) for rate in FALSE_ALARMS}


def sample_metrics(scores: np.ndarray, anomalous: np.ndarray, weights: np.ndarray) -> dict[str, Interval]:
    """`score_metrics` of (n,) scores and (n,) bool labels under (R, n) weights."""
    return score_metrics(image_counts(scores, anomalous, weights))


def alarm_metrics(
    p_values: np.ndarray, weights: np.ndarray, n_calibration: int, rates: Sequence[float]
) -> dict[str, dict[str, Interval]]:
    """Take the share of (n,) p-values of normal samples at or below each promised rate, under (R, n) weights, and the
    band in which it should lie."""
    return {
        "false_alarm": {f"{rate:g}": share_with_interval(p_values <= rate, weights) for rate in rates},
        "promised_band": {f"{rate:g}": promised_band(rate, n_calibration, len(p_values)) for rate in rates},
    }


def share_with_interval(hits: np.ndarray, weights: np.ndarray) -> Interval:
    """[share, low, high] of (n,) bool `hits` under (R, n) weights."""
    # A resample may hold none of them.
    with np.errstate(invalid="ignore"):
        return interval((weights * hits).sum(1) / weights.sum(1))


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation in [-1, 1]; None where one of the two does not vary."""
    if not np.ptp(a) or not np.ptp(b):
        return None
    return round(float(stats.spearmanr(a, b).statistic), 4)


def promised_band(rate: float, n_calibration: int, n_test: int) -> Interval:
    """95% band of the share of p <= rate among fresh normals: beta-binomial, for the calibration set is drawn too.

    With k = floor(rate (n + 1)), the chance that a fresh score is among the k highest is Beta(k, n + 1 - k).

    >>> promised_band(0.01, 500, 1000)
    [0.002, 0.023]
    """
    k = int(np.floor(rate * (n_calibration + 1) + 1e-9))
    if k == 0:
        return [0.0, 0.0]
    law = stats.betabinom(n_test, k, n_calibration + 1 - k)
    return [round(float(law.ppf(q)) / n_test, 4) for q in (0.025, 0.975)]
