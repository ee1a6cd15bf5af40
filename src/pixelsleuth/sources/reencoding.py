"""Mild re-encodings, under which a verdict must hold or it is `unsure`."""

from __future__ import annotations

import cv2
import numpy as np

from pixelsleuth.records import Box
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import jpeg_round_trip

REENCODINGS = ("jpeg_90", "resize_0.9")


def cut_reencoded(pixels: np.ndarray, box: Box, size: int, encoding: str) -> np.ndarray:
    """The square at `box` of the picture after a mild re-encoding, one of `REENCODINGS`; (size, size, 3) uint8."""
    if encoding == "jpeg_90":
        return faces.cut(jpeg_round_trip(pixels, 90), box, size)
    height, width = pixels.shape[:2]
    new = (max(1, round(width * 0.9)), max(1, round(height * 0.9)))
    small = cv2.resize(pixels, new, interpolation=cv2.INTER_AREA)
    x, y = new[0] / width, new[1] / height
    side = min(round(box.width * 0.9), *new)
    x0, y0 = min(round(box.x0 * x), new[0] - side), min(round(box.y0 * y), new[1] - side)
    return faces.cut(small, Box(x0, y0, x0 + side, y0 + side), size)
