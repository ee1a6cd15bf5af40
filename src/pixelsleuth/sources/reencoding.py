"""Mild re-encodings, under which a verdict must hold or it is `unsure`."""

from __future__ import annotations

import cv2
import numpy as np

from pixelsleuth.records import Box
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import jpeg_round_trip

REENCODINGS = ("jpeg_90", "resize_0.9")


def reencoded(pixels: np.ndarray, box: Box, encoding: str) -> tuple[np.ndarray, Box]:
    """The picture after a mild re-encoding, one of `REENCODINGS`, and where `box` lies on it."""
    if encoding == "jpeg_90":
        return jpeg_round_trip(pixels, 90), box
    height, width = pixels.shape[:2]
    new = (max(1, round(width * 0.9)), max(1, round(height * 0.9)))
    small = cv2.resize(pixels, new, interpolation=cv2.INTER_AREA)
    side = round(box.width * 0.9)
    x0, y0 = round(box.x0 * new[0] / width), round(box.y0 * new[1] / height)
    if not faces.share_outside(box, height, width) and not box.angle:
        # Rounding must not push a square over the edge that was within it.
        side = min(side, *new)
        x0, y0 = min(x0, new[0] - side), min(y0, new[1] - side)
    return small, Box(x0, y0, x0 + side, y0 + side, box.angle)


def cut_reencoded(pixels: np.ndarray, box: Box, sizes: faces.Sizes, encoding: str) -> faces.Views:
    """The square at `box` of the picture after a mild re-encoding, as `faces.cut_views` gives it: from near where the
    picture itself is looked at from near, whatever its size after it."""
    small, place = reencoded(pixels, box, encoding)
    return faces.cut_views(small, place, sizes, box.width >= faces.NEAR_SIDE)
