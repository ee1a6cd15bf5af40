"""Compare the thumbnail embedded in a file with the image itself."""

from __future__ import annotations

import io
import warnings

import cv2
import numpy as np
from PIL import Image

from pixelsleuth.sources.images import opened

#: Side that both are compared at: what JPEG and scaling change is gone there.
SIDE = 48
#: Largest thumbnail that is decoded: bytes, and pixels of its longer side.
MAX_BYTES, MAX_SIDE = 1_000_000, 2048
#: Grey level up to which a border is black.
BLACK = 24
#: Side to which a JPEG may be decoded at less than its size.
DRAFT = 4 * SIDE
#: Largest image, in pixels, of the formats other than JPEG, which must be decoded whole.
MAX_PIXELS = 30_000_000


def likeness(data: bytes, thumbnail: bytes) -> float | None:
    """Correlation in [-1, 1] of a picture and its thumbnail, both as stored; None where one cannot be read or is even.

    Cameras put black bars around thumbnails of another shape, which are cut off.
    """
    if len(thumbnail) > MAX_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            small = Image.open(io.BytesIO(thumbnail), formats=["JPEG"])
            image = opened(data)
            if max(small.size) > MAX_SIDE or (image.format != "JPEG" and image.width * image.height > MAX_PIXELS):
                return None
            image.draft("L", (DRAFT, DRAFT))
            whole, inner = _grey(image), _without_bars(_grey(small))
    except Exception:
        # What a broken file does to a decoder is not foreseeable, and its finding has its own reason.
        return None
    return max(_correlation(_square(one), _square(inner)) for one in (whole, _shaped(whole, inner.shape)))


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), np.float32)


def _without_bars(grey: np.ndarray) -> np.ndarray:
    """Without black rows at top and bottom and black columns at the sides, as many at both."""
    for axis in (1, 0):
        bright = np.flatnonzero(grey.max(axis) > BLACK)
        if not len(bright):
            return grey
        length = grey.shape[1 - axis]
        edge = min(int(bright[0]), length - 1 - int(bright[-1]))
        grey = grey[edge : length - edge] if axis == 1 else grey[:, edge : length - edge]
    return grey


def _shaped(grey: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The middle of a picture in the proportions of `shape`: some thumbnails are cut."""
    height, width = grey.shape
    wanted = shape[1] / shape[0]
    if width / height > wanted:
        edge = round((width - height * wanted) / 2)
        return grey[:, edge : width - edge]
    edge = round((height - width / wanted) / 2)
    return grey[edge : height - edge]


def _square(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    spread = float(np.linalg.norm(one) * np.linalg.norm(other))
    # Even pictures have no shape to compare.
    return float((one * other).sum()) / spread if spread > SIDE * SIDE else 1.0
