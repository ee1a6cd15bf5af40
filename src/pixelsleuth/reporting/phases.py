"""Mean frame and mean phase spectrum of videos' faces (*Deepfake CSI*, Figure 3, after Liu et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pixelsleuth.evaluation.phases import Phases
from pixelsleuth.reporting.grids import bare


def phase_figure(found: Sequence[Phases]) -> Figure:
    """A row a video: mean frame, mean phase spectrum on one scale for all, the same at four times the size."""
    figure = Figure(figsize=(7.2, 2.55 * len(found) + 0.2), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(found), 3, squeeze=False))
    limit = max(float(np.quantile(np.abs(one.phase), 0.995)) for one in found)
    for row, one in zip(axes, found, strict=True):
        side = one.phase.shape[0]
        middle = slice(side // 2 - side // 8, side // 2 + side // 8)
        row[0].imshow(one.frame)
        row[1].imshow(one.phase, cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
        row[2].imshow(one.phase[middle, middle], cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
        row[0].set_ylabel(one.name[:22], fontsize=8)
        row[0].set_xlabel(f"mean of {one.count} frames", fontsize=7)
        row[1].set_xlabel(f"mean phase spectrum; at period two {one.checkerboard:.3f}", fontsize=7)
        row[2].set_xlabel("its middle, four times as large", fontsize=7)
        for each in row:
            bare(each)
    return figure
