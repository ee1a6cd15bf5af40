"""Cut a volume to what the networks see, axial slices on one intensity scale, cut to squares; draw maps back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from pixelsleuth.errors import InputError
from pixelsleuth.records import Box
from pixelsleuth.sources.scans.volumes import Volume

STANDARDS = ("robust", "zscore", "none")
FRAMES = ("head", "whole", "stretch")
#: A voxel above this share of the volume's range is foreground (MOOD's volumes lie in [0, 1]: voxels > 0.05).
FOREGROUND = 0.05
#: z-scores from MIN_Z to MAX_Z become 0 to 255; those beyond are clipped.
MIN_Z, MAX_Z = -3.0, 5.0
#: A slice with less foreground than this share of its square is empty.
EMPTY = 0.02
#: Share of the head's box that is added around it.
MARGIN = 0.04
#: A square around a slice is held as it is up to so many pixels, and up to so many times those of the slice: of a slice
#: that is long and narrow almost all of the square would be empty.
MAX_BOX, MAX_EMPTY = 1 << 24, 4
#: What happens to a scan on its way that leaves its content as it is: each of its slices is scaled down to nine tenths
#: and back, or moved by half a pixel, as registration does.
SCAN_REENCODINGS = ("rescaled_0.9", "shifted_0.5")
#: Slices scored together unless told otherwise.
SLICE_BATCH = 16


@dataclass(frozen=True)
class SliceFraming:
    """How a volume is cut to slices; travels with the model.

    Attributes:
        size: side of the square in pixels.
        standard: `robust` (median and interquartile range of the foreground), `zscore` (its mean and standard
            deviation, as Marimont & Tarroni do for brains), `none` (the volume's range is [0, 1], as they do for
            abdomens).
        frame: `head` (a square around the foreground), `whole` (a square around the slice), `stretch` (the slice
            itself, stretched to a square: theirs).
        trim: first and last slices that are left out.
        keep_empty: whether slices without foreground stay.
    """

    size: int = 160
    standard: str = "robust"
    frame: str = "head"
    trim: int = 0
    keep_empty: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (("standard", self.standard, STANDARDS), ("frame", self.frame, FRAMES)):
            if value not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}; got {value!r}")

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> SliceFraming:
        return cls(**{name: preprocessing[name] for name in ("size", "standard", "frame", "trim", "keep_empty")})


@dataclass(frozen=True)
class Slices:
    """n slices of one volume; an image's first row is the front, its first column the left (x smallest).

    Attributes:
        pixels: (n, size, size, 1) uint8, standard scores from `MIN_Z` to `MAX_Z`.
        inside: (n, size, size) bool, the head with its cavities.
        index: (n,) int, which of the volume's slices.
        position: (n,) float32 in [-0.5, 0.5], from the lowest to the highest slice of the volume.
        box: the square that was cut, in pixels of a slice (columns are x, rows count from the front).
        shape: (X, Y, Z) of the volume.
    """

    pixels: np.ndarray
    inside: np.ndarray
    index: np.ndarray
    position: np.ndarray
    box: Box
    shape: tuple[int, int, int]

    def cut(self, values: np.ndarray) -> np.ndarray:
        """(X, Y, Z) of the same volume, such as a mask -> (n, size, size) bool, over half covered."""
        side = self.pixels.shape[1]
        return np.stack([_square(picture_of(values, k).astype(np.float32), self.box, side) > 0.5 for k in self.index])

    def drawn_back(self, maps: np.ndarray) -> np.ndarray:
        """(n, size, size) float -> (X, Y, Z) float32, 0 where no slice was cut."""
        width, height, _ = self.shape
        whole = np.zeros(self.shape, np.float32)
        box = self.box
        left, top = max(0, box.x0), max(0, box.y0)
        right, bottom = min(width, box.x1), min(height, box.y1)
        for one, k in zip(maps, self.index, strict=True):
            drawn = np.zeros((height, width), np.float32)
            inside = Box(left - box.x0, top - box.y0, right - box.x0, bottom - box.y0)
            drawn[top:bottom, left:right] = _enlarged(one.astype(np.float32), box, inside)
            whole[:, :, k] = drawn[::-1].T
        return whole


def picture_of(values: np.ndarray, index: int) -> np.ndarray:
    """(X, Y, Z) -> (Y, X): one axial slice as a picture, its front up."""
    return values[:, ::-1, index].T


def slices_of(volume: Volume, how: SliceFraming) -> Slices:
    """Bring a volume to one scale by its own statistics and cut its slices.

    Raises:
        InputError: `no_foreground`, or `too_few_slices` where none is left.
    """
    values = volume.values
    low, high = _range(values)
    foreground = foreground_of(values)
    if not foreground.any():
        raise InputError("no_foreground", "no voxel stands out from the background")
    head = head_of(foreground)
    box = _box_of(head, how.frame)
    numbers = np.arange(values.shape[2])
    kept = numbers[how.trim : len(numbers) - how.trim]
    if not how.keep_empty:
        kept = kept[head[:, :, kept].sum((0, 1)) >= EMPTY * box.width * box.height]
    if not len(kept):
        raise InputError("too_few_slices", "no slice with anything in it is left")
    scaled = _scaled(values, values[foreground & head], how.standard, low, high)
    pixels = np.stack([_square(picture_of(scaled, k), box, how.size, float(scaled.min())) for k in kept])
    inside = np.stack([_square(picture_of(head, k).astype(np.float32), box, how.size) > 0.5 for k in kept])
    position = (kept / max(1, len(numbers) - 1) - 0.5).astype(np.float32)
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[..., None]
    return Slices(pixels, inside, kept, position, box, (values.shape[0], values.shape[1], values.shape[2]))


def reencoded_slices(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """(n, H, W, 1) uint8 slices after one of `SCAN_REENCODINGS`, or as they are for `original`.

    Raises:
        ValueError: an unknown encoding.
    """
    if encoding == "original":
        return pixels
    if encoding not in SCAN_REENCODINGS:
        raise ValueError(f"encoding: expected one of original, {', '.join(SCAN_REENCODINGS)}; got {encoding!r}")
    height, width = pixels.shape[1:3]
    made = []
    for one in pixels[..., 0]:
        if encoding == "shifted_0.5":
            half = np.array([[1, 0, 0.5], [0, 1, 0.5]])
            made.append(cv2.warpAffine(one, half, (width, height), borderMode=cv2.BORDER_REPLICATE))
            continue
        small = cv2.resize(one, (round(0.9 * width), round(0.9 * height)), interpolation=cv2.INTER_AREA)
        made.append(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.stack(made)[..., None]


def _range(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value that count: a few hot voxels do not."""
    low, high = (float(v) for v in np.quantile(values, (0.001, 0.995)))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def foreground_of(values: np.ndarray) -> np.ndarray:
    """(X, Y, Z) bool, what stands out from the background."""
    low, high = _range(values)
    return np.asarray(values > low + FOREGROUND * (high - low))


def head_of(foreground: np.ndarray) -> np.ndarray:
    """(X, Y, Z) bool: the largest connected part, its holes filled slice by slice; specks in the air are none of it."""
    labels, count = ndimage.label(foreground)
    largest = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1 if count else 1
    part = np.asarray(labels, np.int32) == largest
    each = [ndimage.binary_fill_holes(one) for one in np.moveaxis(np.asarray(part), 2, 0)]
    return np.stack(each, 2)


def _box_of(head: np.ndarray, frame: str) -> Box:
    width, height = head.shape[:2]
    if frame == "stretch":
        return Box(0, 0, width, height)
    if frame == "whole":
        left, right, top, bottom = 0, width, 0, height
    else:
        columns: np.ndarray = np.any(head, axis=(1, 2))
        rows: np.ndarray = np.any(head[:, ::-1], axis=(0, 2))
        left, right = int(np.argmax(columns)), width - int(np.argmax(columns[::-1]))
        top, bottom = int(np.argmax(rows)), height - int(np.argmax(rows[::-1]))
    side = max(right - left, bottom - top)
    if frame == "head":
        side += round(side * MARGIN)
    x, y = (left + right - side) // 2, (top + bottom - side) // 2
    return Box(x, y, x + side, y + side)


def _scaled(values: np.ndarray, foreground: np.ndarray, standard: str, low: float, high: float) -> np.ndarray:
    """(X, Y, Z) float32, 0 to 255 for what is kept of the range."""
    if standard == "none":
        return (values - low) * (255 / (high - low))
    if standard == "zscore":
        middle, spread = float(foreground.mean()), float(foreground.std())
    else:
        quarter, middle, three_quarters = (float(v) for v in np.quantile(foreground, (0.25, 0.5, 0.75)))
        # Of a normal distribution the interquartile range is 1.349 standard deviations.
        spread = (three_quarters - quarter) / 1.349
    spread = max(spread, 1e-6 * max(1.0, abs(middle)))
    return ((values - middle) / spread - MIN_Z) * (255 / (MAX_Z - MIN_Z))


def _mostly_empty(box: Box, inside: int) -> bool:
    """Whether a box is too large to be held for the `inside` pixels of it that a picture fills."""
    return box.width * box.height > max(MAX_BOX, MAX_EMPTY * inside)


def _enlarged(one: np.ndarray, box: Box, inside: Box) -> np.ndarray:
    """What lies `inside` a box, in pixels of the box, of (size, size) float32 stretched to all of it."""
    if not _mostly_empty(box, inside.width * inside.height):
        large = cv2.resize(one, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
        return large[inside.y0 : inside.y1, inside.x0 : inside.x1]
    # The same by its coordinates: a pixel's middle lies where it does in both.
    across = (np.arange(inside.x0, inside.x1, dtype=np.float32) + 0.5) * (one.shape[1] / box.width) - 0.5
    down = (np.arange(inside.y0, inside.y1, dtype=np.float32) + 0.5) * (one.shape[0] / box.height) - 0.5
    return _between(_between(one.T, across).T, down)


def _between(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(n, m) float32 -> (len(at), m), rows between rows, those at the ends repeated."""
    at = np.clip(at, 0, len(values) - 1)
    low = np.minimum(at.astype(int), max(0, len(values) - 2))
    share = (at - low)[:, None].astype(np.float32)
    return values[low] * (1 - share) + values[np.minimum(low + 1, len(values) - 1)] * share


def _square(picture: np.ndarray, box: Box, size: int, beyond: float = 0.0) -> np.ndarray:
    """The part of (H, W) float32 in `box` at (size, size); what lies beyond the picture is `beyond`."""
    height, width = picture.shape
    left, top, right, bottom = max(0, box.x0), max(0, box.y0), min(width, box.x1), min(height, box.y1)
    if _mostly_empty(box, (right - left) * (bottom - top)):
        # Scaled first and laid on the square then, to whole pixels of it.
        x0, x1 = (round((x - box.x0) * size / box.width) for x in (left, right))
        y0, y1 = (round((y - box.y0) * size / box.height) for y in (top, bottom))
        whole = np.full((size, size), beyond, np.float32)
        x0, y0 = min(x0, size - 1), min(y0, size - 1)
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        small = cv2.resize(picture[top:bottom, left:right], (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        whole[y0:y1, x0:x1] = small
        return whole
    part = np.full((box.height, box.width), beyond, np.float32)
    part[top - box.y0 : bottom - box.y0, left - box.x0 : right - box.x0] = picture[top:bottom, left:right]
    method = cv2.INTER_AREA if size < box.width else cv2.INTER_LINEAR
    return cv2.resize(part, (size, size), interpolation=method)
