"""Reading one picture safely, as (H, W, 3) uint8 RGB."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pixelsleuth.errors import InputError
from pixelsleuth.records import Note

#: Decoded pixels; a 12,000 x 8,000 scan passes, a decompression bomb does not.
MAX_PIXELS = 100_000_000
#: Bytes read from disk for one picture.
MAX_BYTES = 200_000_000
#: Smallest side of a picture that can hold a face or a scan worth judging.
MIN_SIDE = 32

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".jfif"})

# Formats beyond these are refused: plugins such as EPS start other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright (EXIF rotation applied).
        sha256: of the encoded bytes, hexadecimal.
        encoded: the bytes as they were read.
        notes: what was done to read it (first frame taken, CMYK converted, ...).
    """

    pixels: np.ndarray
    sha256: str
    encoded: bytes
    notes: tuple[Note, ...] = ()


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: `missing`, `unreadable`, `not_a_file`, `empty` or `too_large`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError("not_a_file", "expected a picture, got a folder")
        if not path.is_file():
            if path.exists():
                raise InputError("not_a_file", "expected a regular file, got a device, pipe or socket")
            raise InputError("missing", "no such file; check the path, or it was moved while the run went on")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                "too_large", f"the file has {size:,} bytes, the limit is {MAX_BYTES:,}; re-encode it smaller"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError("unreadable", f"the file cannot be read ({error.strerror}); check its permissions") from error
    if not data:
        raise InputError("empty", "the file has no bytes; copy it again from its source")
    return data


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decodes a picture's bytes to upright RGB.

    16-bit pictures are brought to 8 bits by their high byte, CMYK is converted, transparency is laid on
    white, and of an animation the first frame is taken; each is noted.

    Raises:
        InputError: `not_an_image`, `truncated`, `too_many_pixels`, `too_small` or `corrupt`.
    """
    notes: list[Note] = []
    with warnings.catch_warnings():
        # The limit below is ours; Pillow's own warning would only repeat it.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        except UnidentifiedImageError as error:
            if data.startswith(_MAGIC):
                raise InputError(
                    "corrupt", "it begins as a picture does, but its header is broken; copy it again from its source"
                ) from error
            raise InputError(
                "not_an_image", "expected JPEG, PNG, WebP, BMP, TIFF, GIF or PPM; the bytes are none of these"
            ) from error
        except Image.DecompressionBombError as error:
            raise InputError("too_many_pixels", f"{error}; scale it down") from error
        except (OSError, ValueError, SyntaxError, struct.error) as error:
            raise InputError("corrupt", f"the header cannot be read ({error}); copy it again") from error
        width, height = image.size
        if width * height > max_pixels:
            raise InputError(
                "too_many_pixels",
                f"{width} x {height} has {width * height:,} pixels, the limit is {max_pixels:,}; scale it down",
            )
        if min(width, height) < MIN_SIDE:
            raise InputError(
                "too_small", f"the picture is {width} x {height}, at least {MIN_SIDE} px on a side are needed"
            )
        try:
            if getattr(image, "n_frames", 1) > 1 and image.format in ("GIF", "WEBP", "PNG", "TIFF"):
                count = getattr(image, "n_frames", 1)
                notes.append(Note("first_frame", f"animated or multi-page, first of {count} frames taken"))
                image.seek(0)
            image.load()
            upright = ImageOps.exif_transpose(image)
        except Exception as error:
            text = str(error).lower()
            if "truncated" in text or "incomplete" in text or "unexpected end" in text or "eof" in text:
                raise InputError(
                    "truncated", "the picture ends before its data does; copy it again from its source"
                ) from error
            raise InputError("corrupt", f"the pixels cannot be decoded ({error}); copy it again") from error
        if upright is not image and upright.size != (width, height):
            notes.append(Note("rotated_by_exif", "rotated upright by EXIF"))
        pixels = _to_rgb(upright, notes)
    return Picture(pixels, hashlib.sha256(data).hexdigest(), data, tuple(notes))


def _to_rgb(image: Image.Image, notes: list[Note]) -> np.ndarray:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(image)
        if image.mode == "F":
            values = np.nan_to_num(values, nan=0.0)
            span = float(values.max() - values.min())
            grey = ((values - values.min()) / span * 255 if span > 0 else values * 0).astype(np.uint8)
            notes.append(Note("reduced_to_8_bits", "floating-point picture scaled to 8 bits"))
        else:
            grey = np.clip(values.astype(np.int64) >> 8, 0, 255).astype(np.uint8)
            notes.append(Note("reduced_to_8_bits", "16-bit picture reduced to 8 bits"))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "CMYK":
        notes.append(Note("colours_converted", "CMYK converted to RGB without a colour profile"))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if np.asarray(rgba)[..., 3].min() < 255:
            notes.append(Note("transparency", "transparency laid on white"))
        ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, rgba)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Reads and decodes one picture. Raises `InputError` as `read_bytes` and `decode` do."""
    return decode(read_bytes(path))


def find_images(root: Path) -> Iterator[Path]:
    """Every file below `root` with an image's suffix, in sorted order, hidden files left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(folder) / name


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """(H, W, 3) uint8 RGB to JPEG bytes with 4:2:0 subsampling, the encoder's default."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def jpeg_round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, encoded as JPEG of `quality` and decoded again."""
    return np.asarray(Image.open(io.BytesIO(encode_jpeg(pixels, quality)), formats=("JPEG",)).convert("RGB"))
