"""The steps from an image or a slice to its map: input, codes, surprise, restorations, residuals, map (*Deepfake CSI*,
Figure 14)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pixelsleuth.reporting.grids import bare, show
from pixelsleuth.reporting.overlays import overlay
from pixelsleuth.scoring.settings import DETECTIVE_MAP
from pixelsleuth.walkthrough import Story

#: Nats at which the surprise's colours end, the same for every picture.
SURPRISE = (-2.0, 6.0)
#: Grey levels at which a residual is white.
RESIDUAL = 64


def steps_figure(story: Story) -> Figure:
    """Above what the model makes of the square and what it finds unusual, below its codes and the residuals."""
    steps, finding = story.steps, story.finding
    figure = Figure(figsize=(10, 5.0), layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03))
    axes = figure.subplots(2, 5)
    for one in axes.flat:
        bare(one)
    rgb = steps.image.repeat(3, 2) if steps.image.shape[2] == 1 else steps.image
    h, w = steps.codes.shape
    pictures = (
        ("input", steps.image),
        ("without resampling", steps.reconstruction),
        ("with resampling", steps.restoration),
        (f"map: {story.map_name.replace('_x_', ' x ')}", None),
        ("beyond 95% of normal images", overlay(rgb, story.excess)),
        (f"{h} x {w} codes", code_colours(steps.codes)),
        ("surprise, nats", None),
        (f"{steps.flagged.sum()} drawn anew, {steps.replaced:.0%} changed", flagged_picture(rgb, steps.flagged)),
    )
    for one, (title, picture) in zip(axes.flat, pictures, strict=False):
        one.set_title(title, fontsize=8)
        if picture is not None:
            show(one, picture)
    # A map that is a probability is drawn as one, another up to its largest value.
    highest = 1.0 if story.map_name == DETECTIVE_MAP else float(story.map.max()) or 1.0
    _bar(figure, axes[0, 3], axes[0, 3].imshow(story.map, cmap="inferno", vmin=0, vmax=highest))
    drawn = axes[1, 1].imshow(steps.surprise, cmap="viridis", vmin=SURPRISE[0], vmax=SURPRISE[1])
    _bar(figure, axes[1, 1], drawn)
    for one, title, values in (
        (axes[1, 3], "residual without", steps.residual_reconstruction),
        (axes[1, 4], "residual with", steps.residual_restoration),
    ):
        drawn = one.imshow(values * 255, cmap="gray", vmin=0, vmax=RESIDUAL)
        one.set_title(f"{title}, grey levels", fontsize=8)
        _bar(figure, one, drawn)
    p_value = "" if finding.p_value is None else f", p = {finding.p_value:.4f}"
    where = f", {story.where}" if story.where else ""
    figure.suptitle(f"{Path(finding.path).name}{where}: {finding.verdict}{p_value}", fontsize=9)
    return figure


def _bar(figure: Figure, axes: Any, drawn: Any) -> None:
    """A narrow scale below a panel, which keeps its size."""
    bar = figure.colorbar(drawn, cax=axes.inset_axes((0.0, -0.06, 1.0, 0.035)), orientation="horizontal")
    bar.ax.tick_params(labelsize=6, length=2, pad=1)


def code_colours(codes: np.ndarray) -> np.ndarray:
    """(h, w) int64 -> (h, w, 3) uint8, a colour of its own for each code; that two colours are alike means nothing."""
    table = np.random.default_rng(0).integers(40, 230, (int(codes.max()) + 1, 3))
    return table[codes].astype(np.uint8)


def flagged_picture(rgb: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with the squares of the (h, w) bool codes that were drawn anew tinted."""
    y, x = (n // m for n, m in zip(rgb.shape, flagged.shape, strict=False))
    large = np.kron(flagged, np.ones((y, x), bool))[: rgb.shape[0], : rgb.shape[1], None]
    colour = np.array(matplotlib.colors.to_rgb("#D55E00")) * 255
    return np.where(large, 0.45 * rgb + 0.55 * colour, rgb).astype(np.uint8)
