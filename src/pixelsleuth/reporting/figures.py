"""Pictures: the overlay with its fixed colour scale, the score among normals, ROC curves, training curves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pixelsleuth.files import whole_file

#: Excess at which the colour is full; it begins at 1, which 95% of normal pictures reach nowhere.
FULL_COLOUR = 2.5


def overlay(pixels: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) uint8 where (H, W) excess is above 1, from transparent to full at `FULL_COLOUR`.

    The scale is the same for every picture: what is not coloured is no more unusual than normal pictures are.
    """
    strength = np.clip((excess - 1) / (FULL_COLOUR - 1), 0, 1)
    colour = heat(strength) * 255
    grey = pixels.mean(2, keepdims=True) * 0.35 + pixels * 0.65
    alpha = np.where(excess >= 1, 0.35 + 0.5 * strength, 0.0)[..., None]
    return np.clip(grey * (1 - alpha) + colour * alpha, 0, 255).astype(np.uint8)


def heat(strength: np.ndarray) -> np.ndarray:
    """Colours (..., 3) in [0, 1] of the overlay's scale, for strengths in [0, 1]."""
    return np.asarray(matplotlib.colormaps["inferno"](0.35 + 0.6 * strength)[..., :3])


def warmth(pixels: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The uncalibrated look: (H, W, 3) uint8 tinted by the (H, W) share of normal pixels that are less unusual, from
    90% upwards. A tenth of a normal picture is tinted too, so this shows where to look, not whether to."""
    strength = np.clip((share - 0.9) / 0.1, 0, 1)
    colour = matplotlib.colormaps["viridis"](strength)[..., :3] * 255
    grey = np.repeat(pixels.mean(2, keepdims=True), 3, 2)
    alpha = 0.75 * np.sqrt(strength)[..., None]
    return np.clip(grey * (1 - alpha) + colour * alpha, 0, 255).astype(np.uint8)


def with_boxes(pixels: np.ndarray, boxes: list[list[int]], colour: tuple[int, int, int]) -> np.ndarray:
    """A copy of (H, W, 3) uint8 with rectangles [x0, y0, x1, y1]."""
    drawn = pixels.copy()
    width = max(1, round(max(pixels.shape[:2]) / 250))
    for x0, y0, x1, y1 in boxes:
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), colour, width)
    return drawn


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Scaled down so that the longer side is at most `side`."""
    scale = side / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def roc_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """ROC curves: name -> (false-alarm rates, true-positive rates)."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#bbb", linewidth=1)
    for name, (fpr, tpr) in curves.items():
        axes.plot(fpr, tpr, label=name, linewidth=1.4)
    axes.set(xlabel="false-alarm rate", ylabel="true-positive rate", title=title, xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, fontsize=7)
    return figure


def two_histograms(normal: np.ndarray, anomalous: np.ndarray, name: str) -> Figure:
    """A score's distribution over both classes."""
    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    axes = figure.subplots()
    low, high = np.quantile(np.concatenate([normal, anomalous]), (0.002, 0.998))
    for values, label, colour in ((normal, "normal", "#4a7ab5"), (anomalous, "anomalous", "#c62828")):
        axes.hist(values, bins=50, range=(low, high), density=True, alpha=0.55, color=colour, label=label)
    axes.set(xlabel=name, yticks=[])
    axes.legend(frameon=False, fontsize=8)
    return figure


def training_curves(curves: Mapping[str, tuple[list[int], list[float]]], title: str) -> Figure:
    """One panel a curve: name -> (steps, values)."""
    figure = Figure(figsize=(3.2 * max(1, len(curves)), 2.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(1, len(curves))))
    for axes, (name, (steps, values)) in zip(panels, curves.items(), strict=True):
        axes.plot(steps, values, linewidth=1)
        axes.set(title=name, xlabel="step")
    figure.suptitle(title)
    return figure


def png_of(figure: Figure, dpi: int = 110) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path, **options: Any) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(png_of(figure, **options))


def save_picture(pixels: np.ndarray, path: Path) -> None:
    """Writes (H, W, 3) uint8 as PNG, whole or not at all."""
    with whole_file(path) as partial:
        Image.fromarray(pixels).save(partial)
