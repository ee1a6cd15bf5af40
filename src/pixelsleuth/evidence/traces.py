"""Maps of traces left by saving and editing, to look at: error level, JPEG ghost, noise. They prove nothing."""

from __future__ import annotations

import cv2
import numpy as np

from pixelsleuth.records import Box
from pixelsleuth.sources.images import jpeg_round_trip

#: Pixels of a JPEG's blocks, in each direction.
BLOCK = 8
#: Quality that the error level is taken at: what was saved below it last hardly changes again.
ERROR_QUALITY = 90
#: Qualities that a ghost is looked for at.
GHOST_QUALITIES = tuple(range(50, 100, 5))
#: Squared grey levels of change that are no more than rounding: even places would otherwise show ghosts of it.
FLOOR = 4.0
#: Largest side in pixels that traces are made of; of larger images the middle is taken.
MAX_SIDE = 2400


def blocks_around(box: Box, shape: tuple[int, ...]) -> Box:
    """The least rectangle of whole JPEG blocks that holds `box`, within a picture of `shape`, at most `MAX_SIDE` long.

    A trace is cut where the file's own blocks begin: else its saving would not be met.
    """
    x0, y0 = max(0, box.x0) // BLOCK * BLOCK, max(0, box.y0) // BLOCK * BLOCK
    x1 = min(-(-box.x1 // BLOCK) * BLOCK, shape[1], x0 + MAX_SIDE)
    y1 = min(-(-box.y1 // BLOCK) * BLOCK, shape[0], y0 + MAX_SIDE)
    return Box(x0, y0, x1, y1)


def error_level(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W, 3) uint8: how much each place changes when it is saved once more, made visible.

    Paper: Krawetz 2007, "A Picture's Worth".
    """
    again = jpeg_round_trip(pixels, ERROR_QUALITY)
    error = cv2.absdiff(pixels, again).astype(np.float32)
    return np.clip(error * (255 / max(float(np.quantile(error, 0.999)), 8.0)), 0, 255).astype(np.uint8)


def ghost(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """(H, W, 3) uint8 -> (H, W) float32 and a quality: how much less each place changes when saved at this JPEG quality
    than at those beside it, beyond what all of the picture does: what was saved so before, and the rest not.

    Of all qualities the one at which places differ most. Paper: Farid 2009, "Exposing digital forgeries from JPEG
    ghosts".
    """
    errors = []
    for quality in GHOST_QUALITIES:
        difference = cv2.absdiff(pixels, jpeg_round_trip(pixels, quality))
        squared = cv2.cvtColor(difference, cv2.COLOR_RGB2GRAY).astype(np.float32) ** 2
        errors.append(cv2.blur(squared, (4 * BLOCK + 1, 4 * BLOCK + 1)))
    best, at, spread = np.zeros(pixels.shape[:2], np.float32), GHOST_QUALITIES[1], -1.0
    for number in range(1, len(errors) - 1):
        before, here, after = errors[number - 1 : number + 2]
        # Even places change at no quality: they say nothing.
        dip = np.log((before + after + 2 * FLOOR) / (2 * here + 2 * FLOOR))
        dip -= np.float32(np.median(dip))
        most = float(np.quantile(dip, 0.97))
        if most > spread:
            best, at, spread = dip, GHOST_QUALITIES[number], most
    return best, at


def noise(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint8: what a median over three pixels takes away, as a level around mid grey."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    residual = grey.astype(np.float32) - cv2.medianBlur(grey, 3)
    spread = max(float(np.quantile(np.abs(residual), 0.99)), 1.0)
    return np.clip(128 + residual * (110 / spread), 0, 255).astype(np.uint8)
