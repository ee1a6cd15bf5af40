"""Real-and-Fake-Face: results by level, and localisation by facial part, for which no masks are needed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from pixelsleuth.datasets.layouts import LEVELS, PARTS, altered_parts
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.samples import ScoredSample
from pixelsleuth.records import Face
from pixelsleuth.sources.images import read_picture
from pixelsleuth.synthesis.anomalies import FEATURES, feature_ellipse


def level_metrics(cases: list[ScoredSample], scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Measure each level of Real-and-Fake-Face: AUROC against all normals, and localisation by part without masks."""
    known = [altered_parts(case.path.name.split(".")[0]) if case.anomalous else None for case in cases]
    if not any(known):
        return {}
    result: dict[str, Any] = {}
    hits: list[bool] = []
    chance: list[float] = []
    for level in LEVELS:
        chosen = ~labels | np.array([bool(item and item[0] == level) for item in known])
        if not (chosen & labels).any():
            continue
        weights = metrics.resample_weights(
            [c.unit for c, yes in zip(cases, chosen, strict=True) if yes], labels[chosen].astype(int)
        )
        result[level] = metrics.sample_metrics(scores[chosen], labels[chosen], weights)
        result[level]["n"] = int((chosen & labels).sum())
    for case, item in zip(cases, known, strict=True):
        if item and item[1] and case.has_face and case.maps:
            hottest = hottest_part(
                case.maps["heatmap"], case.finding.faces[0].face, read_picture(case.path).pixels.shape
            )
            hits.append(hottest in item[1])
            chance.append(len(item[1]) / len(PARTS))
    found: dict[str, Any] = {"levels": result}
    if hits:
        weights = metrics.resample_weights([str(i) for i in range(len(hits))], None)
        found["hottest_part_is_altered"] = metrics.interval((weights * np.array(hits)).sum(1) / weights.sum(1))
        found["hottest_part_chance"] = round(float(np.mean(chance)), 4)
        found["hottest_part_n"] = len(hits)
    return found


def hottest_part(heatmap: np.ndarray, face: Face, shape: tuple[int, ...]) -> str:
    """The facial part with the largest mean of a (h, w) map over the whole input of (H, W, 3) `shape`."""
    y, x = heatmap.shape[0] / shape[0], heatmap.shape[1] / shape[1]
    means = {}
    for part in FEATURES:
        centre, axes, angle = feature_ellipse(face, part)
        disc = np.zeros(heatmap.shape, np.uint8)
        half = (max(1, round(axes[0] * x)), max(1, round(axes[1] * y)))
        cv2.ellipse(disc, (round(centre[0] * x), round(centre[1] * y)), half, angle, 0, 360, 1, -1)
        means[part] = float(heatmap[disc > 0].mean()) if disc.any() else 0.0
    return max(means, key=lambda part: means[part])
