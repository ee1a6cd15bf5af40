"""Paint on pictures: the overlay with its fixed colour scale, boxes.

Apart from `figures`, since a record's page needs no figure, and matplotlib's take half a second to import.
"""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np


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
