"""A picture or a slice on its way: input, codes, surprise, restorations, residuals, map (*Deepfake CSI*, Figure 14)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pixelsleuth.detector import Detector, Rule
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import MAX_FALSE_ALARM, Finding
from pixelsleuth.reporting.figures import overlay
from pixelsleuth.reporting.grids import bare, show
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.scoring.scorer import Crops, stacked
from pixelsleuth.scoring.settings import DETECTIVE_MAP
from pixelsleuth.scoring.trace import Trace, trace

#: Nats at which the surprise's colours end, the same for every picture.
SURPRISE = (-2.0, 6.0)
#: Grey levels at which a residual is white.
RESIDUAL = 64


@dataclass(frozen=True)
class Story:
    """One square with all its steps and what came of it.

    Attributes:
        steps: see `Trace`.
        map: (H, W) float32 over the square, the default map as it is; of a detective the probability that a place was
            altered, in [0, 1]. `map_name`: its name.
        excess: (H, W) float32, the map over its colour threshold, as `Finding.excess`.
        finding: of the whole input.
        where: which slice, of a volume; else "".
    """

    steps: Trace
    map: np.ndarray
    map_name: str
    excess: np.ndarray
    finding: Finding
    where: str = ""


def story_of(
    detector: Detector, source: str | os.PathLike[str] | np.ndarray, rate: float = MAX_FALSE_ALARM, prior: str = "",
    index: int | None = None,
) -> Story:  # fmt: skip
    """Judges an input and keeps the steps of its most unusual square: a face, or a slice of a volume.

    Args:
        rate: of false alarms, for the verdict.
        prior: kind of the prior that restores a picture; the model's default unless given.
        index: of a volume, the slice to show, from the lowest in RAS.

    Raises:
        PixelsleuthError: the input cannot be judged, the model has no such prior, or the volume no such slice.
    """
    networks = torch_of(detector.scorer)
    if prior and prior not in networks.model.priors:
        raise PixelsleuthError(f"expected one of {', '.join(networks.model.priors)}; got {prior!r}", "prior")
    if detector.takes == "images":
        detector.calibration.check_rate(rate)
    sample = detector.read(source)
    if isinstance(sample, Finding) or sample.kind == "video":
        reason = "expected an image or a volume, got a video"
        if isinstance(sample, Finding) and sample.reason:
            reason = sample.reason["sentence"]
        raise PixelsleuthError(f"{sample.path}: {reason}")
    (scores,) = detector.score([sample])
    (judged,) = detector.judge([sample], [scores], Rule(rate, typicality=False, doubt=False))
    finding = detector.assembler.finding(sample, scores, judged)
    row = judged.decisive
    crop = stacked([sample.crops[row].views], [sample.crops[row].key])
    where, known = "", np.ones(crop.square.shape[1:3])
    name = detector.scorer.settings.default_map
    if sample.kind == "volume":
        numbers = [crop.index for crop in sample.crops]
        if index is not None and index not in numbers:
            raise PixelsleuthError(f"expected {numbers[0]} to {numbers[-1]} of {sample.path}, got {index}", "slice")
        values = scores.scores[detector.calibration.score]
        row = int(np.argmax(values)) if index is None else numbers.index(index)
        cut = sample.slices
        crop = Crops(cut.pixels[[row]], [sample.crops[row].key], inside=cut.inside[[row]], position=cut.position[[row]])
        # Nothing outside the head counts.
        where, known = f"slice {numbers[row]}", scores.maps[name][row] > 0
    values = scores.maps[name][row]
    excess = detector.calibration.coloured(detector.calibration.excess(values)) * known
    return Story(trace(networks, crop, prior), values, name, excess, finding, where)


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
