"""Traits of an image other than its content: how large the face is, how the head is held, how sharp, noisy, compressed
and colourful it is. Brightness and hue are left out: they would tell people apart by their skin."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pixelsleuth.sources.compression import quality_at, quality_of, scale_at

#: Side in pixels of the cells that sharpness is taken in.
CELL = 8


class Trait(NamedTuple):
    """One measurement.

    Attributes:
        less, more: what a picture is called that lies below or above what is usual.
        least: the smallest half-width of a range; where pictures hardly vary, nothing would else be too little.
        told: of a value what a person is told; None where the number means nothing to people.
    """

    less: str
    more: str
    least: float
    told: Callable[[float], str] | None = None


TRAITS = {
    # Squares are scaled to one size: what a width of half or twice as many pixels changes is sharpness and noise.
    "face_width": Trait("the face is smaller", "the face is larger", 1.0, lambda v: f"{2**v:.0f} pixels wide"),
    "sharpness": Trait("it is blurrier", "it is sharper", 0.5),
    "noise": Trait("it has less noise", "it has more noise", 0.25),
    "compression": Trait(
        "its JPEG compression is weaker", "its JPEG compression is stronger", 30, lambda v: f"quality {quality_at(v)}"
    ),
    "colour": Trait("it is less colourful", "it is more colourful", 0.02),
    "turn": Trait("the head is less turned", "the head is turned to the side", 0.1),
    "tilt": Trait("the head is less tilted", "the head is tilted", 2, lambda v: f"{v:.0f} degrees"),
    "nod": Trait("the head is raised", "the head is lowered", 0.05),
}


def traits_of(
    square: np.ndarray, width: int, encoded: bytes | None = None, landmarks: ArrayLike | None = None
) -> np.ndarray:
    """(len(TRAITS),) float64, not a number where it cannot be told.

    Medians over places, so that a local edit, which is what is looked for, hardly moves them.

    Args:
        square: (S, S, 3) uint8 RGB, as the networks see it.
        width: of the square in pixels of the input.
        encoded: the picture's file, for its JPEG quality.
        landmarks: (5, 2) eyes, nose, mouth corners in pixels, before the head was levelled.
    """
    luma = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY).astype(np.float64)
    quality = None if encoded is None else quality_of(encoded)
    chroma = square.max(2).astype(np.int16) - square.min(2)
    return np.array([
        np.log2(max(width, 1)),
        _sharpness(luma),
        _noise(luma),
        np.nan if quality is None else scale_at(quality),
        float(np.median(chroma)) / 255,
        *_pose(landmarks),
    ])  # fmt: skip


def _sharpness(luma: np.ndarray) -> float:
    """Logarithm of the median over cells of the mean squared Laplacian, in grey levels squared."""
    squared = cv2.Laplacian(luma, cv2.CV_64F) ** 2
    side = luma.shape[0] // CELL * CELL
    cells = squared[:side, :side].reshape(side // CELL, CELL, side // CELL, CELL).mean((1, 3))
    return float(np.log2(np.median(cells) + 1.0))


def _noise(luma: np.ndarray) -> float:
    """Logarithm of the noise in grey levels: the difference of two Laplacians (Immerkaer 1996), its spread by the mean
    of the smaller half of absolute values, which edges hardly move."""
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    response = np.sort(np.abs(cv2.filter2D(luma, cv2.CV_64F, kernel))[1:-1, 1:-1], axis=None)
    # .3246: that mean of a standard normal; 6: the kernel's norm; .25: what rounding to 8 bits leaves.
    return float(np.log2(response[: len(response) // 2].mean() / (0.3246 * 6) + 0.25))


def _pose(landmarks: ArrayLike | None) -> tuple[float, float, float]:
    """How far a head is turned (the nose from the middle of the eyes, in distances between them), tilted (degrees), and
    lowered (the nose between the line of the eyes, 0, and that of the mouth, 1)."""
    unknown = (np.nan, np.nan, np.nan)
    points = np.array(() if landmarks is None else landmarks, np.float64)
    if not len(points):
        return unknown
    left, right, nose, mouth_left, mouth_right = points
    across = right - left
    span = float(np.hypot(*across))
    if not np.isfinite(span) or span < 1:
        return unknown
    along, down = across / span, np.array([-across[1], across[0]]) / span
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    turn = abs(float((nose - eyes) @ along)) / span
    height = float((mouth - eyes) @ down)
    nod = float((nose - eyes) @ down) / height if height > 0.1 * span else np.nan
    return turn, float(np.degrees(np.arctan2(abs(across[1]), across[0]))), nod
