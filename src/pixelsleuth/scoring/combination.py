"""Adjust raw scores for complexity and combine them; combine the scores of slices to those of their volume. No network
runs here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pixelsleuth.scoring.settings import (
    BOTH_TRACKS,
    COMBINED,
    DETECTIVE,
    DETECTIVE_NEAR,
    DETECTIVE_VIEWS,
    TAIL_SUM,
    ScoreSettings,
)

#: Score of a volume: mean of its most unusual slices' scores, this share of them.
TOP_SLICES = 0.25


def with_combined(
    raw: Mapping[str, np.ndarray], complexity: np.ndarray, settings: ScoreSettings
) -> dict[str, np.ndarray]:
    """Raw scores (B,) of images, those adjusted for complexity, and their combination, of what is there.

    Args:
        complexity: (B, F) float64, the features of `complexity.complexity`.
    """
    scores = dict(raw)
    for name, adjustment in settings.adjusted.items():
        if name in scores:
            scores[f"{name}_adjusted"] = adjustment(scores[name], complexity)
    both = (f"{DETECTIVE}_adjusted", f"{DETECTIVE_NEAR}_adjusted")
    if all(name in scores for name in both):
        far, near = (scores[name] for name in both)
        scores[DETECTIVE_VIEWS] = np.where(np.isnan(near), far, (far + near) / settings.views_spread)
        # A record holds numbers: without a view from near the detective's only one stands in its place.
        for name in (DETECTIVE_NEAR, both[1]):
            stand_in = scores[name.replace(DETECTIVE_NEAR, DETECTIVE)]
            scores[name] = np.where(np.isnan(scores[name]), stand_in, scores[name])
    alike = (1.0,) * len(settings.combined)
    for whole, parts, weights in (
        (COMBINED, settings.combined, alike),
        (BOTH_TRACKS, settings.tracks, settings.track_weights),
    ):
        if parts and all(name in scores for name in parts):
            weighted = [weight * scores[name] for weight, name in zip(weights, parts, strict=True)]
            scores[whole] = np.sum(weighted, axis=0) / np.linalg.norm(weights)
    return scores


def volume_scores(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Scores of a volume from its slices': Marimont & Tarroni's tail sum is summed, of the others the mean of the most
    unusual quarter is taken."""
    found = {}
    for name, values in scores.items():
        count = max(1, round(TOP_SLICES * len(values)))
        top = float(np.sort(values)[-count:].mean())
        found[name] = float(values.sum()) if name == TAIL_SUM else top
    return found
