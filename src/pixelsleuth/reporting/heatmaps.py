"""The mean heatmap of the most normal and of the most anomalous images (*Deepfake CSI*, Figure 5; Chai et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation.scored import read_records
from pixelsleuth.records import Box
from pixelsleuth.reporting.grids import bare
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import read_picture

#: Side at which maps are averaged, in pixels.
SIDE = 128


@dataclass(frozen=True)
class RankingEnd:
    """The images at one end of the ranking.

    Attributes:
        heatmap: (SIDE, SIDE) float64, mean share of normal pixels that are less unusual.
        picture: (SIDE, SIDE, 3) uint8, mean of the same squares; None where the pictures are not at hand.
        count: images averaged; scores: lowest and highest score among them.
    """

    heatmap: np.ndarray
    picture: np.ndarray | None
    count: int
    scores: tuple[float, float]


def ends(findings: Path, count: int) -> tuple[RankingEnd, RankingEnd]:
    """The `count` images with the lowest and those with the highest scores, at most half of all each; of every image
    the square that decided its score.

    Args:
        findings: what `detect` wrote: the folder, or its findings.jsonl beside the heatmaps.

    Raises:
        PixelsleuthError: fewer than two pictures with a heatmap.
    """
    folder = findings if findings.is_dir() else findings.parent
    records = [r for r in read_records(findings) if r["p_value"] is not None and r.get("kind") == "image"]
    records = [r for r in records if r.get("heatmap") and (folder / str(r["heatmap"])).is_file()]
    if len(records) < 2:
        raise PixelsleuthError(
            f"{findings}: expected records of two or more pictures with heatmaps, got {len(records)}; "
            "judge them again with heatmaps"
        )
    records.sort(key=lambda record: float(record["score"]))
    count = min(count, len(records) // 2)
    return _mean(records[:count], folder), _mean(records[-count:], folder)


def _mean(records: Sequence[dict[str, Any]], folder: Path) -> RankingEnd:
    total, pictures = np.zeros((SIDE, SIDE)), []
    for record in records:
        stored = cv2.imread(str(folder / record["heatmap"]), cv2.IMREAD_UNCHANGED)
        if stored is None:
            raise PixelsleuthError(f"{folder / record['heatmap']}: not a heatmap of `pixelsleuth detect`")
        share = stored.astype(np.float32) / 65535
        box = square_of(record, share.shape)
        total += faces.cut(share[..., None].repeat(3, 2), box, SIDE)[..., 0]
        try:
            pixels = read_picture(record["path"]).pixels
        except InputError:
            continue
        if pixels.shape[:2] == share.shape:
            pictures.append(faces.cut(pixels, box, SIDE).astype(np.float64))
    picture = np.rint(np.mean(pictures, axis=0)).astype(np.uint8) if len(pictures) == len(records) else None
    scores = (float(records[0]["score"]), float(records[-1]["score"]))
    return RankingEnd(total / len(records), picture, len(records), scores)


def square_of(record: dict[str, Any], shape: tuple[int, ...]) -> Box:
    """The square that decided a record's score: the most unusual face's, or the whole picture's."""
    found = record.get("faces") or []
    if found:
        worst = min(found, key=lambda face: float(face["p_value"]))
        x0, y0, x1, y1 = worst["box"]
        return Box(x0, y0, x1, y1, float(worst.get("angle", 0.0)))
    return faces.whole_picture(np.zeros(shape[:2], np.uint8))


def ends_figure(normal: RankingEnd, anomalous: RankingEnd) -> Figure:
    """Both mean heatmaps on one scale, beside the mean pictures where they are at hand."""
    both = (("most normal", normal), ("most anomalous", anomalous))
    pictured = all(one.picture is not None for _, one in both)
    figure = Figure(figsize=(2.5 * 2 + 0.7, 2.5 * (1 + pictured) + 0.3), layout="constrained")
    axes = np.atleast_2d(figure.subplots(1 + pictured, 2, squeeze=False))
    low = min(float(one.heatmap.min()) for _, one in both)
    high = max(float(one.heatmap.max()) for _, one in both)
    for column, (name, one) in enumerate(both):
        axes[0, column].set_title(
            f"{one.count:,} {name}\nscores {one.scores[0]:.2f} to {one.scores[1]:.2f}", fontsize=8
        )
        if pictured:
            axes[0, column].imshow(one.picture)
        drawn = axes[-1, column].imshow(one.heatmap, cmap="inferno", vmin=low, vmax=high)
    for one_axes in axes.flat:
        bare(one_axes)
    bar = figure.colorbar(drawn, ax=axes[-1, :].tolist(), fraction=0.05)
    bar.set_label("mean share of normal pixels less unusual", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    return figure
