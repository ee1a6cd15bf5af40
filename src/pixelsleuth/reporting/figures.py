"""The overlay with its fixed colour scale, training curves, and saving of figures."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import whole_file

#: What a figure may be written as.
FORMATS = ("png", "pdf", "svg")
#: Of lines, in order; told apart by the colour-blind and in grey (Okabe & Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def overlay(pixels: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) uint8 where (H, W) excess, as `Finding.excess`, is above 1, from transparent to full at 2.

    The scale is the same for every picture: what is not coloured is no more unusual than normal pictures are.
    """
    strength = np.clip(excess - 1, 0, 1)
    colour = heat(strength) * 255
    grey = pixels.mean(2, keepdims=True) * 0.35 + pixels * 0.65
    alpha = np.where(excess >= 1, 0.35 + 0.5 * strength, 0.0)[..., None]
    return np.clip(grey * (1 - alpha) + colour * alpha, 0, 255).astype(np.uint8)


def heat(strength: np.ndarray) -> np.ndarray:
    """Colours (..., 3) in [0, 1] of the overlay's scale, for strengths in [0, 1]."""
    return np.asarray(matplotlib.colormaps["inferno"](0.35 + 0.6 * strength)[..., :3])


def warmth(pixels: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """The look that asks where and not whether: (H, W, 3) uint8, grey, the least usual tenth of the places that the
    (H, W) excess knows (above 0) tinted, of a normal picture as of any other."""
    known = excess[excess > 0]
    if not known.size:
        return np.repeat(pixels.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    begins, most = np.quantile(known, 0.9), known.max()
    strength = np.clip((excess - begins) / max(float(most - begins), 1e-6), 0, 1)
    colour = matplotlib.colormaps["viridis"](0.5 + 0.5 * strength)[..., :3] * 255
    grey = np.repeat(pixels.mean(2, keepdims=True), 3, 2)
    alpha = np.where(excess >= begins, 0.4 + 0.35 * strength, 0.0)[..., None]
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


def png_of(figure: Figure, dpi: int = 110) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write PNG, PDF or SVG as the suffix says, whole or not at all; the same figure gives the same bytes.

    Raises:
        PixelsleuthError: another suffix.
    """
    kind = check_format(path)
    # Text stays text, which journals ask for; dates and random names would make each run's file another.
    settings = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "pixelsleuth"}
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with whole_file(path) as partial, matplotlib.rc_context(settings):
        figure.savefig(partial, format=kind, dpi=dpi, metadata=metadata)


def check_format(path: Path) -> str:
    """The format that a file name asks for. Raises PixelsleuthError where it is none of `FORMATS`."""
    kind = path.suffix.lower()[1:]
    if kind not in FORMATS:
        raise PixelsleuthError(f"expected a file that ends in .{', .'.join(FORMATS)}; got {path}", "out")
    return kind


def save_picture(pixels: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) uint8 as PNG, whole or not at all."""
    with whole_file(path) as partial:
        Image.fromarray(pixels).save(partial)
