"""Measure how many lesions the findings of a map cover, and how many findings lie beside any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.samples import ScoredSample
from pixelsleuth.scoring.maps import MIN_VOXELS

#: Smallest share of a lesion's voxels that must be marked for it to count as found.
MIN_COVERED = 0.1
#: False findings a volume at which sensitivity is read (FROC).
FALSE_FINDINGS = (0.5, 1, 2, 4, 8)


@dataclass(frozen=True)
class Pieces:
    """Lesions and findings, connected in 3-D: a finding is a part of a map above its outline's level, as unusual as its
    peak.

    Attributes:
        peaks: (P,) float32, rising, the outline's level first: what the peak of a finding must reach.
        found, wrong: (N, P), of each volume the lesions that such findings cover, and the findings beside any lesion.
        total: (N,) lesions.
    """

    peaks: np.ndarray
    found: np.ndarray
    wrong: np.ndarray
    total: np.ndarray

    def f1(self, weights: np.ndarray) -> np.ndarray:
        """(R, N) weights of volumes -> (R, P)."""
        caught, alarms, lesions = weights @ self.found, weights @ self.wrong, weights @ self.total
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(2 * caught / (caught + alarms + lesions[:, None]))

    @property
    def best_peak(self) -> float:
        return float(self.peaks[np.argmax(self.f1(np.ones((1, len(self.total))))[0])])


def pieces_of(masked: Sequence[ScoredSample], name: str, level: float, peak: float | None = None) -> Pieces:
    """Count found lesions and false findings of the map `name` outlined at `level`, over peaks that include `peak`."""
    over = [case.maps[name][(case.maps[name] >= level) & case.region].astype(np.float32) for case in masked]
    tried = np.quantile(np.concatenate(over), np.linspace(0, 1, 48)) if any(map(len, over)) else np.empty(0)
    peaks = np.unique(np.append(tried, [level, level if peak is None else max(level, peak)])).astype(np.float32)
    (found, wrong), total = np.zeros((2, len(masked), len(peaks))), np.zeros(len(masked))
    for i, case in enumerate(masked):
        truth, count = ndimage.label(np.asarray(case.truth & case.region))
        sizes = np.bincount(truth.ravel(), minlength=count + 1)
        lesion = sizes >= MIN_VOXELS
        lesion[0] = False
        total[i] = lesion.sum()
        parts, number = ndimage.label((case.maps[name] >= level) & case.region)
        large = np.bincount(parts.ravel(), minlength=number + 1) >= MIN_VOXELS
        tops = np.append(-np.inf, ndimage.maximum(case.maps[name].astype(np.float32), parts, np.arange(1, number + 1)))
        touching = np.zeros(number + 1, bool)
        touching[np.unique(parts[truth > 0])] = True
        for j, at in enumerate(peaks):
            kept = large & (tops >= at)
            hits = np.bincount(truth[kept[parts]], minlength=count + 1)
            found[i, j] = (lesion & (hits >= MIN_COVERED * sizes)).sum()
            wrong[i, j] = (kept & ~touching).sum()
    return Pieces(peaks, found, wrong, total)


def lesion_metrics(
    masked: Sequence[ScoredSample], name: str, level: float, weights: np.ndarray, peak: float | None = None
) -> dict[str, Any]:
    """Take the F1 of findings by lesion and their FROC. Findings must reach `peak`, chosen elsewhere, where it is
    given; `f1_best` is the F1 at the peak chosen on these masks. Sensitivity at so many false findings a volume is
    taken over peaks."""
    pieces = pieces_of(masked, name, level, peak)
    f1 = pieces.f1(weights)
    place = 0 if peak is None else int(np.argmin(np.abs(pieces.peaks - max(level, peak))))
    caught, alarms, lesions = weights @ pieces.found, weights @ pieces.wrong, weights @ pieces.total
    volumes = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = caught / lesions[:, None]
    froc = {}
    for allowed in FALSE_FINDINGS:
        fits = alarms <= allowed * volumes[:, None]
        froc[f"{allowed:g}"] = metrics.interval(np.where(fits, sensitivity, 0).max(1))
    return {
        "n": int(pieces.total.sum()),
        "f1": metrics.interval(f1[:, place]),
        "f1_best": metrics.interval(f1[:, int(np.argmax(f1[0]))]),
        "sensitivity_at_false_findings": froc,
    }
