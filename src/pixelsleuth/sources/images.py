"""Read one image safely, as (H, W, 3) uint8 RGB, upright and in sRGB."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pixelsleuth.errors import InputError
from pixelsleuth.records import Note
from pixelsleuth.sources import formats, tiffs
from pixelsleuth.sources.depths import alpha_of, to_8_bits, words_of
from pixelsleuth.sources.formats import IMAGE_SUFFIXES, Format, format_of
from pixelsleuth.sources.srgb import ORIENTATION, TURNS, Ground, in_srgb, png_chunks

#: Decoded pixels; a 12,000 x 8,000 scan passes, a decompression bomb does not.
MAX_PIXELS = 100_000_000
#: Bytes read from disk for one picture.
MAX_BYTES = 200_000_000
#: Smallest side of a picture that can hold a face or a scan worth judging.
MIN_SIDE = 32
#: Pages of one file that are looked at to find the largest.
MAX_PAGES = 1000
#: High byte that 16-bit colours must reach; else they fill fewer bits than they have, and are read again in full.
FEW_BITS = 66

# Formats beyond these are never opened: plugins such as EPS start other programs. HEIC has no plugin of Pillow's own.
_PILLOW = {
    "JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "WebP": "WEBP", "BMP": "BMP", "TIFF": "TIFF", "PNM": "PPM",
    "AVIF": "AVIF", "JPEG 2000": "JPEG2000",
}  # fmt: skip
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_CUT_OFF = re.compile(r"truncated|incomplete|unexpected end|end.of.file|\beof\b|not enough data|bitstream length", re.I)
_NO_HEADER = "it begins as a picture does, but its header is broken; copy it again from its source"


@dataclass(frozen=True)
class DecodedImage:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright (turned as the file says), in sRGB.
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
    size = checked_file(path)
    if size > MAX_BYTES:
        raise InputError("too_large", f"the file has {size:,} bytes, the limit is {MAX_BYTES:,}; re-encode it smaller")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError("missing", "no such file; it was moved or deleted while the run went on") from error
    except OSError as error:
        raise InputError("unreadable", f"the file cannot be read ({error.strerror}); check its permissions") from error
    if not data:
        raise InputError("empty", "the file has no bytes; copy it again from its source")
    return data


def checked_file(path: str | os.PathLike[str]) -> int:
    """The size in bytes of what must be a regular file and readable; nothing is opened that could block.

    Raises:
        InputError: `missing`, `unreadable` or `not_a_file`.
    """
    path = Path(path)
    link = os.path.islink(path)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        told = "no such file; check its path, and whether it was moved during the run"
        if link:
            told = f"a link to {_shown(os.readlink(path))}, which does not exist; give the file itself"
        raise InputError("missing", told) from error
    except ValueError as error:
        raise InputError("missing", f"no file can have this name ({error})") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError("missing", f"no file can have this name ({error.strerror})") from error
        told = f"the file cannot be read ({error.strerror}); check its permissions"
        if link:
            told = f"a link that cannot be followed ({error.strerror}); give the file itself"
        raise InputError("unreadable", told) from error
    if stat.S_ISDIR(found.st_mode):
        if link:
            raise InputError("not_a_file", "a link to a folder that is not read again through it; give the folder")
        if not os.access(path, os.R_OK | os.X_OK):
            raise InputError("unreadable", "the folder cannot be listed; check its permissions")
        told = "expected a file, got a folder; give the folder itself to `pixelsleuth detect`, or its files one by one"
        raise InputError("not_a_file", told)
    if not stat.S_ISREG(found.st_mode):
        raise InputError("not_a_file", "expected a regular file, got a device, pipe or socket")
    return found.st_size


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def decode(data: bytes, max_pixels: int = MAX_PIXELS, name: str = "", ground: Ground = "white") -> DecodedImage:
    """Decode a picture's bytes to upright RGB in sRGB.

    Of a file of several pages the largest is taken, of an animation the first; more than 8 bits are scaled to 8,
    colours are converted by profile, transparency is laid on `ground`. Each is noted.

    Args:
        name: of the file, of help only where its bytes are of no known format, or a TIFF's, as those of camera raw are.

    Raises:
        InputError: `unsupported_format`, `not_an_image`, `truncated`, `too_many_pixels`, `too_small` or `corrupt`.
    """
    found = format_of(data[: formats.HEAD])
    if not found.name:
        # Its bytes say nothing: no reader will take it, but its name may say what it was meant to be.
        claimed = formats.claimed_by(name)
        found = formats.UNKNOWN if claimed is None or claimed.readable else claimed
    elif found is formats.TIFF and formats.claimed_by(name) is formats.RAW:
        found = formats.RAW
    check_format(found, data)
    notes: list[Note] = []
    with warnings.catch_warnings():
        # The limits below are ours; Pillow's own warnings would only repeat them.
        warnings.simplefilter("ignore")
        try:
            pixels = _decoded(found, data, max_pixels, notes, ground)
        except InputError:
            raise
        except Image.DecompressionBombError as error:
            raise InputError("too_many_pixels", f"{error}; scale it down") from error
        except MemoryError as error:
            raise InputError("too_many_pixels", "there is not enough memory to decode it; scale it down") from error
        except Exception as error:
            # What a decoder makes of a broken file is not foreseeable.
            raise _broken(error) from error
    return DecodedImage(pixels, hashlib.sha256(data).hexdigest(), data, tuple(notes))


def check_format(found: Format, data: bytes) -> None:
    """Raise InputError where a file's format is none that is read as a picture: `unsupported_kind`, `not_an_image`, or
    `unsupported_format`, which names it and says what to do."""
    if found.kind == "image" and found.readable:
        return
    if found.kind in ("video", "volume") and found.readable:
        what = "a video" if found.kind == "video" else "a scan"
        raise InputError("unsupported_kind", f"expected a picture, got {what} ({found.name}); give it to `detect`")
    if not found.name or found.plain:
        if data and not any(data[: formats.HEAD]):
            told = "the bytes are all zero: it was not copied whole; copy it again from its source"
        else:
            told = f"{formats.READABLE}; the bytes are none of these"
        raise InputError("not_an_image", told)
    raise InputError("unsupported_format", found.refusal)


def _broken(error: Exception) -> InputError:
    told = " ".join(str(error).split())[:200] or type(error).__name__
    if _CUT_OFF.search(told):
        return InputError("truncated", "the picture ends before its data does; copy it again from its source")
    return InputError("corrupt", f"the pixels cannot be decoded ({_shown(told)}); copy it again")


def _decoded(found: Format, data: bytes, max_pixels: int, notes: list[Note], ground: Ground) -> np.ndarray:
    try:
        image = _opened(found, data)
    except UnidentifiedImageError:
        if found is formats.TIFF:
            made = _tiff_beyond_pillow(data, max_pixels, notes)
            return in_srgb(made, made, found, data, notes, ground=ground)
        _refuse_rare_jpeg(found, data)
        raise InputError("corrupt", _NO_HEADER) from None
    if found is formats.TIFF:
        tiffs.refuse_raw(image.tag_v2)  # type: ignore[attr-defined]
    _choose_page(image, notes)
    _check_size(image.size, max_pixels)
    if found is formats.TIFF and tiffs.misread(image.tag_v2):  # type: ignore[attr-defined]
        made = tiffs.picture_of(data, image.tell(), image.tag_v2, notes)  # type: ignore[attr-defined]
        return in_srgb(made, image, found, data, notes, ground=ground)
    told = image.tag_v2.get(ORIENTATION) if found is formats.TIFF else None  # type: ignore[attr-defined]
    image.load()
    # Of a TIFF Pillow turns the pixels as it decodes them, and forgets the tag.
    turned = isinstance(told, int) and told in TURNS and image.getexif().get(ORIENTATION) != told
    if image.mode in _DEEP_MODES:
        pixels = _grey_of_many_bits(image, found, data, notes)
        return in_srgb(Image.fromarray(pixels), image, found, data, notes, turned)
    many = _colours_of_many_bits(image, found, data, notes)
    if many is not None and turned:
        many = many.transpose(TURNS[told])  # type: ignore[index]
    return in_srgb(many if many is not None else image, image, found, data, notes, turned, ground)


def _tiff_beyond_pillow(data: bytes, max_pixels: int, notes: list[Note]) -> Image.Image:
    """The first page of a TIFF whose kind of pixels Pillow does not know, such as three channels of floating point; its
    profile and orientation with it."""
    if data.startswith(b"MM\0+"):
        raise InputError("unsupported_format", "BigTIFF of big-endian order is not read; save it as plain TIFF or PNG")
    try:
        tags = tiffs.directory(data)
        size = int(tags[tiffs.WIDTH]), int(tags[tiffs.HEIGHT])
    except Exception as error:
        raise InputError("corrupt", _NO_HEADER) from error
    tiffs.refuse_raw(tags)
    _check_size(size, max_pixels)
    made = tiffs.picture_of(data, 0, tags, notes)
    made.info["icc_profile"] = tags.get(tiffs.PROFILE)
    made.getexif()[ORIENTATION] = tags.get(ORIENTATION, 1)
    return made


def opened(data: bytes) -> Image.Image:
    """A picture whose pixels are not decoded yet, for what its header tells. Raises InputError, or what Pillow does."""
    found = format_of(data[: formats.HEAD])
    check_format(found, data)
    return _opened(found, data)


def _opened(found: Format, data: bytes) -> Image.Image:
    if found is not formats.HEIC:
        return Image.open(io.BytesIO(data), formats=[_PILLOW[found.name]])
    from pillow_heif import HeifImageFile

    try:
        return HeifImageFile(io.BytesIO(data))
    except SyntaxError as error:
        told = " ".join(str(error).split())[:200]
        if "security limit" in told.lower():
            raise InputError("too_many_pixels", f"{_shown(told)}; scale it down") from error
        if "unsupported" in told.lower() or "no primary" in told.lower():
            raise InputError(
                "unsupported_format",
                f"this kind of HEIF is not read ({_shown(told)}); save it as JPEG or PNG in a photo program",
            ) from error
        raise


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            "too_many_pixels",
            f"{width} x {height} has {width * height:,} pixels, the limit is {max_pixels:,}; scale it down",
        )
    if min(width, height) < MIN_SIDE:
        raise InputError("too_small", f"the picture is {width} x {height}, at least {MIN_SIDE} px on a side are needed")


def _choose_page(image: Image.Image, notes: list[Note]) -> None:
    """Go to the largest page of a TIFF; of anything else that has several pictures the first, or primary, one."""
    count = getattr(image, "n_frames", 1)
    if count <= 1:
        return
    kind = image.format
    if kind == "TIFF":
        sizes = []
        for page in range(min(count, MAX_PAGES)):
            image.seek(page)
            # A mask of transparency belongs to another page.
            mask = int(image.tag_v2.get(tiffs.SUBFILE, 0)) & 4  # type: ignore[attr-defined]
            sizes.append(0 if mask else image.size[0] * image.size[1])
        largest = int(np.argmax(sizes))
        image.seek(largest)
        if largest:
            notes.append(Note("largest_page", f"the largest of {count} pages taken, number {largest + 1}"))
            return
        notes.append(Note("first_frame", f"animated or multi-page, first of {count} frames taken"))
    elif kind == "HEIF":
        notes.append(Note("first_frame", f"{count} pictures in one file, the main one taken"))
    elif kind == "MPO":
        notes.append(Note("first_frame", f"{count} pictures in one JPEG (MPO), the first one taken"))
    else:
        notes.append(Note("first_frame", f"animated or multi-page, first of {count} frames taken"))
        image.seek(0)


# --- depth ---


def _grey_of_many_bits(image: Image.Image, found: Format, data: bytes, notes: list[Note]) -> np.ndarray:
    values = np.asarray(image)
    if found is formats.TIFF:
        return tiffs.grey_of(values, image.tag_v2, notes)  # type: ignore[attr-defined]
    if values.dtype == np.int32 and values.min() >= 0 and values.max() <= 65535:
        values = values.astype(np.uint16)
    return to_8_bits(values, _said_by_png(data) if found is formats.PNG else None, notes)


def _said_by_png(data: bytes) -> tuple[float, float] | None:
    """From 0 to the highest value of the significant bits; of a file whose values were spread over 16 bits, as they
    should, these contradict it and it does not count."""
    bits = png_chunks(data).get(b"sBIT", b"")
    return (0.0, float(2 ** bits[0] - 1)) if bits and 8 <= bits[0] < 16 else None


def _colours_of_many_bits(image: Image.Image, found: Format, data: bytes, notes: list[Note]) -> Image.Image | None:
    """Colours of 16 bits a channel, of which Pillow keeps the high byte; None where that is right, or there are 8."""
    deep, said = False, None
    if found is formats.PNG:
        deep, said = data[24] == 16, _said_by_png(data)
    elif found is formats.TIFF:
        tags = image.tag_v2  # type: ignore[attr-defined]
        deep, said = 16 in tuple(tags.get(tiffs.BITS, ())), tiffs.said_range(tags)
    elif found is formats.PNM:
        deep = bool(_WORDS_OF_PNM.match(data))
    elif found is formats.JPEG2000:
        deep = _bits_of_jpeg2000(data) > 8
    elif found is formats.HEIC and image.info.get("bit_depth", 8) > 8:
        notes.append(Note("reduced_to_8_bits", f"{image.info['bit_depth']}-bit picture reduced to 8 bits"))
    elif found is formats.AVIF and _avif_is_deep(data):
        notes.append(Note("reduced_to_8_bits", "10- or 12-bit picture reduced to 8 bits"))
    if not deep or image.mode not in ("RGB", "RGBA", "RGBX", "LA"):
        return None
    first = np.asarray(image)[..., :3]
    if np.percentile(first[:: max(1, len(first) // 500)], 99.99) >= FEW_BITS:
        notes.append(Note("reduced_to_8_bits", "16-bit picture reduced to 8 bits, by their high byte"))
        return None
    values = tiffs.unturned_words(data, image.tell()) if found is formats.TIFF else words_of(data)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values[..., 0].size != first[..., 0].size:
        return None
    made = Image.fromarray(to_8_bits(values[..., :3], said, notes))
    if values.shape[2] == 4 and image.mode != "RGBX":
        made.putalpha(Image.fromarray(alpha_of(values[..., 3])))
    return made


#: A PPM of words: its highest value is 65,535.
_WORDS_OF_PNM = re.compile(rb"P[36](?:\s+#[^\n]*)*\s+\d+\s+\d+\s+65535\s")


def _bits_of_jpeg2000(data: bytes) -> int:
    """Bits of the first channel, by the codestream's marker SIZ."""
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 8


def _avif_is_deep(data: bytes) -> bool:
    at = data.find(b"av1C", 0, 65536)
    return 0 <= at < len(data) - 7 and bool(data[at + 6] & 0x40)


# --- JPEG beyond Pillow ---


def _refuse_rare_jpeg(found: Format, data: bytes) -> None:
    """Names the JPEGs that no reader of pictures takes: of 12 bits, or without loss."""
    if found is not formats.JPEG:
        return
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            kind = f"{data[at + 4]}-bit" if data[at + 4] != 8 else "lossless" if marker in (0xC3, 0xC7) else ""
            if kind:
                raise InputError("unsupported_format", f"{kind} JPEG is not read; save it as PNG or TIFF")
            return
        at += 2 + length


def rgb_of(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a picture that a program has opened itself; its profile and orientation are not looked at.

    Raises:
        InputError: `unreadable`; Pillow opens files whose pixels it cannot read, and makes modes it cannot convert.
    """
    try:
        if image.mode in _DEEP_MODES:
            grey = to_8_bits(np.asarray(image), None, [])
            return np.repeat(grey[..., None], 3, axis=2)
        # Premultiplied grey is converted to grey with alpha alone.
        return np.ascontiguousarray(np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGB")))
    except Exception as error:
        told = f"Pillow cannot read the pixels of this {image.mode} picture ({error}); give its file, or an RGB copy"
        raise InputError("unreadable", told) from error


def read_picture(source: str | os.PathLike[str] | Image.Image | np.ndarray, ground: Ground = "white") -> DecodedImage:
    """Read and decode one image, or take one that a program has opened itself.

    Args:
        ground: what the transparency of a file is laid on.

    Raises:
        InputError: as `read_bytes`, `decode` and `rgb_of` do; `wrong_array`.
    """
    if isinstance(source, str | os.PathLike):
        try:
            data = read_bytes(source)
        except InputError as error:
            if error.code == "too_large":
                # What is no picture is refused for what it is.
                check_format(formats.sniffed(source), b"")
            raise
        try:
            return decode(data, name=Path(source).name, ground=ground)
        except InputError as error:
            raise InputError(error.code, error.sentence, hashlib.sha256(data).hexdigest()) from None
    array = rgb_of(source) if isinstance(source, Image.Image) else source
    if not isinstance(array, np.ndarray):
        told = f"expected a path, a PIL image or (H, W, 3) uint8 RGB, got {type(array).__name__}; convert it first"
        raise InputError("wrong_array", told)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InputError(
            "wrong_array", f"expected (H, W, 3) uint8 RGB, got {array.shape} {array.dtype}; convert it first"
        )
    array = np.ascontiguousarray(array)
    if min(array.shape[:2]) < MIN_SIDE:
        raise InputError(
            "too_small", f"the picture is {array.shape[1]} x {array.shape[0]}, at least {MIN_SIDE} px are needed"
        )
    return DecodedImage(array, hashlib.sha256(array.tobytes()).hexdigest(), b"")


def find_images(root: Path) -> Iterator[Path]:
    """Find every image below `root`, in sorted order: files with an image's suffix, or that begin like one; no hidden
    files."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not formats.is_litter(name))
        for name in sorted(names):
            path = Path(folder) / name
            if not formats.is_litter(name) and (
                path.suffix.lower() in IMAGE_SUFFIXES or (path.is_file() and formats.sniffed(path).kind == "image")
            ):
                yield path


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """(H, W, 3) uint8 RGB to JPEG bytes with 4:2:0 subsampling, the encoder's default."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def jpeg_round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, encoded as JPEG of `quality` and decoded again."""
    return np.asarray(Image.open(io.BytesIO(encode_jpeg(pixels, quality)), formats=("JPEG",)).convert("RGB"))
