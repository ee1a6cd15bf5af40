"""What TIFF needs beyond Pillow: tags of depth and range, camera raw files that look like TIFF, and pixels that Pillow
cannot read or reads wrongly."""

from __future__ import annotations

import io
import math
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from pixelsleuth.errors import InputError
from pixelsleuth.records import Note
from pixelsleuth.sources import formats
from pixelsleuth.sources.depths import alpha_of, to_8_bits, words_of

#: Tags.
SUBFILE, WIDTH, HEIGHT, BITS, PROFILE = 254, 256, 257, 258, 34675
_PACKING, _MEANING, _STRIPS, _SAMPLES, _ROWS, _LENGTHS, _PLANES = 259, 262, 273, 277, 278, 279, 284
_PREDICTOR, _TILES, _SUB_IFDS, _EXTRA, _NUMBERS, _DNG = 317, 324, 330, 338, 339, 50706
_DEFLATE, _ORIENTATION = (8, 32946), 274
#: Kinds of numbers, as `_NUMBERS` tells them, by NumPy's letters.
_LETTERS = {1: "u", 2: "i", 3: "f"}


def directory(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The first directory of a TIFF's bytes."""
    file = io.BytesIO(data)
    found = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if data[2:3] == b"+" or data[3:4] == b"+" else 8))
    file.seek(found.next)
    found.load(file)
    return found


def refuse_raw(tags: Any) -> None:
    """Refuse camera raw files: TIFFs whose first page is a thumbnail and whose image lies in a directory below it."""
    thumbnail = int(tags.get(SUBFILE, 0) or 0) & 1 and _SUB_IFDS in tags
    if _DNG in tags or thumbnail:
        name = "camera raw (DNG)" if _DNG in tags else "camera raw, or a TIFF whose picture lies below a thumbnail,"
        raise InputError("unsupported_format", f"{name} is not read; {formats.RAW.advice}")


def said_range(tags: Any) -> tuple[float, float] | None:
    """Lowest and highest value of the tags SMinSampleValue and SMaxSampleValue, or MinSampleValue and Max-."""
    for low, high in ((340, 341), (280, 281)):
        found = []
        for tag in (low, high):
            value = tags.get(tag)
            value = value[0] if isinstance(value, tuple) and value else value
            if isinstance(value, int | float):
                found.append(float(value))
        if len(found) == 2:
            return found[0], found[1]
        if len(found) == 1 and high in tags:
            return 0.0, found[0]
    return None


def grey_of(values: np.ndarray, tags: Any, notes: list[Note]) -> np.ndarray:
    """(H, W) of more than 8 bits, as Pillow gives them, to uint8."""
    if values.dtype == np.int32:
        if _whole(tags, _NUMBERS, 1) == 1:
            # Pillow has no unsigned words of 32 bits.
            values = values.view(np.uint32)
        if values.min() >= 0 and values.max() <= 65535:
            values = values.astype(np.uint16)
    grey = to_8_bits(values, said_range(tags), notes)
    if tags.get(_MEANING) == 0:
        # White is zero: Pillow turns 8 bits over, and leaves deeper ones as they are.
        notes.append(Note("inverted", "the TIFF counts from white to black; turned over"))
        return 255 - grey
    return grey


def misread(tags: Any) -> bool:
    """Whether Pillow opens a page and reads it wrongly: deep colours in planes of their own, or signed bytes."""
    bits = _several(tags, BITS)
    planes = _whole(tags, _PLANES, 1) == 2 and _whole(tags, _SAMPLES, 1) > 1
    return (planes and max(bits, default=1) > 8) or (_whole(tags, _NUMBERS, 1) == 2 and max(bits, default=1) == 8)


def picture_of(data: bytes, page: int, tags: Any, notes: list[Note]) -> Image.Image:
    """A page that Pillow cannot read, of 8 bits: grey or RGB, with its transparency.

    Raises:
        InputError: `unsupported_format`, `truncated` or `corrupt`.
    """
    values = _from_strips(data, tags)
    if values is None and _whole(tags, _PLANES, 1) == 1:
        values = unturned_words(data, page)
    meaning = _whole(tags, _MEANING, 1)
    if values is None or values.shape[:2] != (_whole(tags, HEIGHT, 0), _whole(tags, WIDTH, 0)) or meaning > 2:
        bits = _several(tags, BITS)
        told = "/".join(str(n) for n in sorted(set(bits))[:4])
        raise InputError(
            "unsupported_format",
            f"this kind of TIFF is not read ({len(bits)} channels of {told} bits, compression "
            f"{_whole(tags, _PACKING, 1)}); save it as TIFF of 8 or 16 bits without compression, or as PNG",
        )
    values = values if values.ndim == 3 else values[..., None]
    colours = 3 if values.shape[2] >= 3 else 1
    shown, alpha = values[..., :colours], values[..., colours:]
    pixels = shown if shown.dtype == np.uint8 else to_8_bits(shown, said_range(tags), notes)
    if meaning == 0:
        notes.append(Note("inverted", "the TIFF counts from white to black; turned over"))
        pixels = 255 - pixels
    made = Image.fromarray(np.ascontiguousarray(pixels if colours == 3 else pixels[..., 0]))
    if alpha.shape[2] and alpha.dtype == np.uint16 and _several(tags, _EXTRA)[:1] in ((1,), (2,)):
        made.putalpha(Image.fromarray(alpha_of(alpha[..., 0])))
    return made


def unturned_words(data: bytes, page: int) -> np.ndarray | None:
    """`words_of` a page as it is stored: OpenCV would turn it as its orientation says, some kinds and not others."""
    at = _orientation_place(data, page)
    if at is None:
        return words_of(data, page)
    changed = bytearray(data)
    changed[at : at + 2] = b"\0\1" if data[:1] == b"M" else b"\1\0"
    return words_of(bytes(changed), page)


def _orientation_place(data: bytes, page: int) -> int | None:
    """Where the number of a page's orientation stands; None where there is none."""
    order = ">" if data[:1] == b"M" else "<"
    big = 43 in data[2:4]
    many, entry, offset = ("Q", 20, "Q") if big else ("H", 12, "I")
    try:
        (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
        for number in range(page + 1):
            (count,) = struct.unpack_from(order + many, data, at)
            first = at + struct.calcsize(many)
            if number == page:
                break
            (at,) = struct.unpack_from(order + offset, data, first + entry * count)
        for place in range(first, first + entry * min(count, 4096), entry):
            if struct.unpack_from(order + "H", data, place)[0] == _ORIENTATION:
                return place + entry - struct.calcsize(offset)
    except struct.error:
        pass
    return None


def _from_strips(data: bytes, tags: Any) -> np.ndarray | None:
    """(H, W, C) as it is stored, of a page in strips, plain or deflated; None where it is packed otherwise.

    Raises:
        InputError: `truncated` or `corrupt`.
    """
    height, width, samples = (_whole(tags, tag, 1) for tag in (HEIGHT, WIDTH, _SAMPLES))
    bits, packing, predictor = set(_several(tags, BITS)), _whole(tags, _PACKING, 1), _whole(tags, _PREDICTOR, 1)
    letter = _LETTERS.get(_whole(tags, _NUMBERS, 1))
    if len(bits) != 1 or _TILES in tags or packing not in (1, *_DEFLATE) or letter is None or not 1 <= samples <= 16:
        return None
    size = bits.pop()
    if size not in ((16, 32, 64) if letter == "f" else (8, 16, 32)) or predictor > (2 if letter != "f" else 1):
        return None
    kind = np.dtype(f"{'>' if data[:1] == b'M' else '<'}{letter}{size // 8}")
    apart = _whole(tags, _PLANES, 1) == 2
    planes, together = (samples, 1) if apart else (1, samples)
    rows = max(1, min(_whole(tags, _ROWS, height), height))
    places, lengths = _several(tags, _STRIPS), _several(tags, _LENGTHS)
    strips = math.ceil(height / rows)
    if min(len(places), len(lengths)) < strips * planes:
        raise InputError("corrupt", "its strips of pixels are not all listed; copy it again from its source")
    values = np.empty((height, width, samples), kind.newbyteorder("="))
    for number in range(strips * planes):
        plane, top = number // strips, number % strips * rows
        here = min(rows, height - top)
        strip = data[places[number] : places[number] + lengths[number]]
        wanted = here * width * together * kind.itemsize
        if packing in _DEFLATE:
            strip = zlib.decompressobj().decompress(strip, wanted)
        if len(strip) < wanted:
            raise InputError("truncated", "the picture ends before its data does; copy it again from its source")
        part = np.frombuffer(strip, kind, here * width * together).reshape(here, width, together)
        if predictor == 2 and packing in _DEFLATE:
            part = np.cumsum(part, axis=1, dtype=values.dtype)
        values[top : top + here, :, plane : plane + together] = part
    return values


def _several(tags: Any, tag: int) -> tuple[int, ...]:
    value = tags.get(tag, ())
    return tuple(int(one) for one in (value if isinstance(value, tuple) else (value,)))


def _whole(tags: Any, tag: int, default: int) -> int:
    found = _several(tags, tag)
    return found[0] if found else default
