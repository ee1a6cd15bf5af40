"""Reduce images of more than 8 bits, integer or floating point, to 8: by the range the file states, else by the range
of its values, and never to black."""

from __future__ import annotations

import cv2
import numpy as np

from pixelsleuth.records import Note

#: Depths that cameras, scanners and microscopes fill words of 16 bits with.
DEPTHS = (8, 10, 12, 14)
#: Compression with loss puts values above the highest by some percent.
OVERSHOOT = 1.02
#: Values looked at to find a range: of a large picture every n-th.
LOOKED_AT = 4_000_000
#: Percent of the values below and above a robust range: single hot pixels do not count.
BEYOND = 0.01
#: Level of 255 that the brightest part must reach; else the picture is stretched.
DARKEST = 32


def to_8_bits(values: np.ndarray, said: tuple[float, float] | None, notes: list[Note]) -> np.ndarray:
    """(H, W) or (H, W, C) of any number type to uint8, and what was done.

    Args:
        said: lowest and highest value, where the file says them.
    """
    whole = np.issubdtype(values.dtype, np.integer)
    words = f"{values.dtype.itemsize * 8}-bit" if whole else "floating-point"
    sample = values.reshape(-1)[:: max(1, values.size // LOOKED_AT)]
    if not whole:
        _count_missing(values, notes)
        sample = sample[np.isfinite(sample)]
    if not sample.size:
        return np.zeros(values.shape, np.uint8)
    low, high = (float(v) for v in np.percentile(sample, (BEYOND, 100 - BEYOND)))
    used = _usable(said, low, high)
    if used is not None:
        bottom, top = used
        how = f"scaled from the {bottom:g} to {top:g} that the file says"
    elif whole:
        bottom, top, how = _of_whole(low, high)
    else:
        bottom, top, how = _of_floating(low, high)
    notes.append(Note("reduced_to_8_bits", f"{words} picture reduced to 8 bits, {how}"))
    if (bottom, top) == (0.0, 65535.0) and values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    return _scaled(values, bottom, top)


def _usable(said: tuple[float, float] | None, low: float, high: float) -> tuple[float, float] | None:
    """The range a file says, unless its values contradict it or would be black."""
    if said is None or not np.isfinite(said).all() or said[1] <= said[0]:
        return None
    bottom, top = said
    span = top - bottom
    if high > top + 0.01 * span or low < bottom - 0.01 * span or (high - bottom) / span * 255 < DARKEST:
        return None
    return bottom, top


def _of_whole(low: float, high: float) -> tuple[float, float, str]:
    if low >= 0 and high <= 65535:
        depth = next((d for d in DEPTHS if high < 2**d * OVERSHOOT), 16)
        top = float(2**depth - 1)
        if high / top * 255 >= DARKEST:
            return 0.0, top, f"as its values fill {depth} bits" if depth < 16 else "by their high byte"
    return _stretched(low, high)


def _of_floating(low: float, high: float) -> tuple[float, float, str]:
    for top in (1.0, 255.0):
        if low >= 0 and high <= top * 1.0001 and high / top * 255 >= DARKEST:
            return 0.0, top, f"scaled from 0 to {top:g}"
    return _stretched(low, high)


def _stretched(low: float, high: float) -> tuple[float, float, str]:
    return low, high, f"stretched from {low:g} to {high:g}, where {100 - 2 * BEYOND:g}% of its values lie"


def _scaled(values: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """By strips, so that memory does not grow with the type."""
    made = np.zeros(values.shape, np.uint8)
    if top <= bottom:
        # One value everywhere: there is nothing to see, whatever its level.
        made[...] = 128
        return made
    for row in range(0, len(values), 256):
        part = values[row : row + 256].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            part = (part - bottom) * (255 / (top - bottom))
        made[row : row + 256] = np.clip(np.nan_to_num(part, nan=0.0, posinf=255, neginf=0), 0, 255).round()
    return made


def _count_missing(values: np.ndarray, notes: list[Note]) -> None:
    missing = int(np.isnan(values).sum())
    infinite = int(np.isinf(values).sum())
    if missing or infinite:
        parts = [f"{missing:,} are no numbers (black)"] * bool(missing)
        parts += [f"{infinite:,} are infinite (white, or black below zero)"] * bool(infinite)
        notes.append(Note("not_finite", f"of {values.size:,} values " + " and ".join(parts)))


def alpha_of(values: np.ndarray) -> np.ndarray:
    """(H, W) uint16 of transparency to uint8; the highest value there is counts as opaque, whatever the bits in use."""
    return (values.astype(np.uint32) * 255 // max(int(values.max()), 1)).astype(np.uint8)


def words_of(data: bytes, page: int = 0) -> np.ndarray | None:
    """The values of a picture as they are stored, by OpenCV; colours as RGB. None where it cannot read them.

    Args:
        page: of a file of several.
    """
    encoded = np.frombuffer(data, np.uint8)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if page:
            _, pages = cv2.imdecodemulti(encoded, cv2.IMREAD_UNCHANGED, range=(page, page + 1))
        else:
            pages = [cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)]
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if len(pages) != 1 or pages[0] is None:
        return None
    values = np.asarray(pages[0])
    if values.ndim == 3 and values.shape[2] >= 3:
        values = np.concatenate([values[..., 2::-1], values[..., 3:]], 2)
    return values
