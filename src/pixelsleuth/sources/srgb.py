"""Convert an opened image to upright RGB in sRGB: colours converted, transparency laid on a ground, turned as EXIF
says."""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np
from PIL import Image

from pixelsleuth.records import Note
from pixelsleuth.sources import colour, formats
from pixelsleuth.sources.colour import CodePoints
from pixelsleuth.sources.formats import Format

#: What transparency is laid on: pictures on white, as most programs show them.
Ground = Literal["white", "black"]
#: EXIF's tag, and TIFF's.
ORIENTATION = 0x0112
#: How a picture is turned upright, by that tag.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def in_srgb(
    image: Image.Image, origin: Image.Image, found: Format, data: bytes, notes: list[Note], turned: bool = False,
    ground: Ground = "white",
) -> np.ndarray:  # fmt: skip
    """(H, W, 3) uint8: colours converted, transparency laid on a ground, and then turned upright.

    Args:
        image: of 8 bits.
        origin: as it was opened: its tags and profile.
        turned: upright already.
    """
    _note_gain_map(origin, found, data, notes)
    turned = turned or (found is formats.HEIC and _heic_is_turned(data))
    info = origin.info
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        image = rgba.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    profile = info.get("icc_profile") or (colour.lab_profile() if image.mode == "LAB" else None)
    points = _code_points(origin, found, data)
    if found is formats.PNG and points is not None:
        # As PNG's standard has it: code points count before a profile.
        profile = None
    elif not profile and _is_adobe_rgb(origin):
        profile = colour.adobe_rgb()
    before = image
    if profile:
        image = colour.by_profile(image, profile, notes)
    if image is before:
        if image.mode == "CMYK":
            notes.append(Note("colours_converted", "CMYK converted to RGB without a colour profile"))
        elif image.mode == "LAB":
            image = colour.by_profile(image, colour.lab_profile(), notes)
        if points is not None and not profile:
            image = colour.by_code_points(image.convert("RGB"), points, notes)
        elif found is formats.PNG and not profile and "srgb" not in info:
            image = _by_png_gamma(image, info, notes)
    if alpha is not None and alpha.getextrema() == (0, 0) and ground == "white":
        notes.append(Note("transparency", "every pixel is said to be transparent: read as if none were"))
    elif alpha is not None and alpha.getextrema()[0] < 255:  # type: ignore[operator]
        notes.append(Note("transparency", f"transparency laid on {ground}"))
        rgba = image.convert("RGB")
        rgba.putalpha(alpha)
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, ground), rgba)
    if image.mode != "RGB":
        # Of an RGB image it would be a copy, a tenth of a second of 12 megapixels.
        image = image.convert("RGB")
    return np.ascontiguousarray(np.asarray(_upright(image, origin, turned, notes)))


def _code_points(image: Image.Image, found: Format, data: bytes) -> CodePoints | None:
    """Of HEIC, AVIF and PNG, where the file says them."""
    if found is formats.HEIC:
        told = image.info.get("nclx_profile")
        if isinstance(told, dict):
            return CodePoints(int(told["color_primaries"]), int(told["transfer_characteristics"]))
    elif found is formats.AVIF:
        at = data.find(b"colrnclx", 0, 65536)
        if 0 <= at <= len(data) - 12:
            return CodePoints(*struct.unpack(">HH", data[at + 8 : at + 12]))
    elif found is formats.PNG:
        chunk = png_chunks(data).get(b"cICP", b"")
        if len(chunk) == 4:
            return CodePoints(chunk[0], chunk[1])
    return None


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether EXIF says so, as cameras do that embed no profile: DCF's interoperability index R03."""
    if "exif" not in image.info:
        return False
    try:
        exif = image.getexif()
        space = exif.get_ifd(0x8769).get(0xA001)
        return space == 2 or (space == 0xFFFF and str(exif.get_ifd(0xA005).get(1, "")).startswith("R03"))
    except Exception:
        # A broken block is noted where the orientation is asked for.
        return False


def _by_png_gamma(image: Image.Image, info: dict[Any, Any], notes: list[Note]) -> Image.Image:
    gamma, marks = info.get("gamma"), info.get("chromaticity")
    power = 1 / gamma if isinstance(gamma, float) and 0.1 < gamma < 10 else None
    primaries = None
    if isinstance(marks, tuple) and len(marks) == 8 and all(0 <= m <= 1 for m in marks):
        white, *corners = [(marks[i], marks[i + 1]) for i in range(0, 8, 2)]
        primaries = (*corners, white)
    if power is None and primaries is None:
        return image
    return colour.by_gamma(image.convert("RGB"), power, primaries, notes)


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The small chunks of a PNG before its pixels."""
    found: dict[bytes, bytes] = {}
    at = 8
    while at + 12 <= len(data) and len(found) < 200:
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name in (b"IDAT", b"IEND"):
            break
        if length <= 1024:
            found.setdefault(name, data[at + 8 : at + 8 + length])
        at += 12 + length
    return found


def _note_gain_map(image: Image.Image, found: Format, data: bytes, notes: list[Note]) -> None:
    """Say where a file holds a second layer for screens of high range: the base picture is judged."""
    there = False
    if found is formats.JPEG:
        there = any(
            b"hdrgm:Version" in body or body.startswith(b"urn:iso:std:iso:ts:21496")
            for _, body in getattr(image, "applist", ())
        )
    elif found is formats.HEIC:
        there = any("gainmap" in str(kind) for kind in image.info.get("aux", ())) or b"tmap" in data[:256]
    elif found is formats.AVIF:
        there = b"tmap" in data[:256]
    if there:
        notes.append(Note("gain_map", "it has a gain map for screens of high range (HDR); the base picture is judged"))


def _heic_is_turned(data: bytes) -> bool:
    """Whether HEIC's own tags turn or mirror the picture; libheif does it, and what EXIF says does not count."""
    at = data.find(b"irot", 0, 65536)
    return (0 <= at < len(data) - 4 and data[at + 4] & 3 != 0) or b"imir" in data[:65536]


def _upright(image: Image.Image, origin: Image.Image, turned: bool, notes: list[Note]) -> Image.Image:
    """Turned as EXIF says; `turned`: the decoder has done it."""
    try:
        told = origin.getexif().get(ORIENTATION, 1)
    except Exception:
        # EXIF is written by all sorts of programs; a broken block costs the turn, not the picture.
        notes.append(Note("exif_ignored", "its EXIF block is broken; the picture is judged as it is stored"))
        return image
    if turned or told in TURNS:
        notes.append(Note("rotated_by_exif", "turned upright, or mirrored, as its EXIF orientation says"))
    return image.transpose(TURNS[told]) if told in TURNS else image
