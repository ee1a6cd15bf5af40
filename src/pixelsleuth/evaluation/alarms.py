"""Measure how often untouched images are called anomalous, by their source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation import metrics

RATES = (0.01, 0.05, 0.1)


def false_alarms(
    detector: Detector,
    sources: Mapping[str, list[Path]],
    *,
    maps: bool = False,
    progress: Callable[[str, dict[str, Any]], None] = lambda source, row: None,
) -> dict[str, Any]:
    """Measure the share of p <= rate among untouched images, by source and `pooled`.

    Args:
        sources: a source's name -> its pictures.
        maps: also count pictures on which colour shows.

    Returns:
        Source -> {each of `RATES`: [share, low, high], `judged`, `of` (those without a face are not judged), `unsure`
        (share at 5%), `coloured` where maps were made}; intervals by picture.

    Raises:
        PixelsleuthError: a source of which no picture can be judged.
    """
    rows: dict[str, Any] = {}
    pooled: list[np.ndarray] = []
    for name, paths in sources.items():
        found = list(detector.detect_many(paths, max_false_alarm=0.05, heatmap=maps, restore=False))
        judged = [finding for finding in found if finding.p_value is not None]
        if not judged:
            raise PixelsleuthError(f"{name}: none of its {len(paths)} pictures can be judged")
        p = np.array([finding.p_value for finding in judged], float)
        pooled.append(p)
        row = _shares(p) | {"judged": len(p), "of": len(paths)}
        row["unsure"] = round(float(np.mean([finding.verdict == "unsure" for finding in judged])), 4)
        if maps:
            row["coloured"] = share_by_picture(np.array([bool(finding.regions) for finding in judged]))
        rows[name] = row
        progress(name, row)
    rows["pooled"] = _shares(np.concatenate(pooled))
    return rows


def _shares(p: np.ndarray) -> dict[str, Any]:
    return {f"{rate:g}": share_by_picture(p <= rate) for rate in RATES}


def share_by_picture(hits: np.ndarray) -> metrics.Interval:
    """[share, low, high] of (n,) bool, pictures resampled."""
    return metrics.share_with_interval(hits, metrics.resample_weights([str(i) for i in range(len(hits))], None))
