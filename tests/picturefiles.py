"""Pictures made at run time: profiles, depths, chunks and pages as cameras, phones and scanners write them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin
from skimage import data

from pixelsleuth.sources.colour import ADOBE_RGB as ADOBE_CORNERS
from pixelsleuth.sources.colour import PRIMARIES, matrix_profile

DISPLAY_P3 = matrix_profile(PRIMARIES[12])
ADOBE_RGB = matrix_profile(ADOBE_CORNERS, 2.19921875)
SRGB = matrix_profile(PRIMARIES[1])


def portrait(side: int = 256) -> np.ndarray:
    """(side, side, 3) uint8: NASA's portrait of Eileen Collins (public domain), head and shoulders."""
    face = np.ascontiguousarray(data.astronaut()[:240, 104:344])
    return cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float64 in [0, 1]: colours that change slowly, so that lossy formats keep them."""
    coarse = np.random.default_rng(seed).uniform(0, 1, (3, 3, 3))
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """Encoded by Pillow, where `kind` is HEIF by pillow-heif's plugin."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    if kind == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
        if "exif" in options:
            # Of an Exif object it would write no orientation.
            options["exif"] = options["exif"].tobytes()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def profile_of(space: bytes, connection: bytes, tags: dict[bytes, bytes], device: bytes = b"mntr") -> bytes:
    """An ICC profile of version 2 from its tags."""
    first = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", first + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", first + len(body), b"lcms", 0x02400000, device, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + table + body


_WHITE = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return profile_of(b"GRAY", b"XYZ ", {b"wtpt": _WHITE, b"kTRC": curve})


def cmyk_profile() -> bytes:
    """Of inks whose lightness falls evenly with the black alone, all else without colour: easily told from none."""
    grid = [lightness for _ in range(8) for lightness in (255, 0)]
    lattice = bytes(value for lightness in grid for value in (lightness, 128, 128))
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1" + bytes(4) + struct.pack(">4B", 4, 3, 2, 0) + identity + ramp * 4 + lattice + ramp * 3
    return profile_of(b"CMYK", b"Lab ", {b"wtpt": _WHITE, b"A2B0": lut, b"A2B1": lut}, b"prtr")


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return png[:33] + chunk + png[33:]


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment after its first."""
    after = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:after] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + jpeg[after:]


def png_of_words(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel from (H, W) or (H, W, 3) uint16."""
    good, encoded = cv2.imencode(".png", values if values.ndim == 2 else np.ascontiguousarray(values[..., ::-1]))
    assert good
    return encoded.tobytes()


def tiff_of_words(values: np.ndarray) -> bytes:
    """A TIFF from (H, W, 3) uint16 or float32."""
    good, encoded = cv2.imencode(".tiff", np.ascontiguousarray(values[..., ::-1]))
    assert good
    return encoded.tobytes()


def tiff_by_planes(values: np.ndarray, packed: bool = False) -> bytes:
    """A TIFF from (H, W, 3) of any type, each colour in a plane of its own."""
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    how: dict[str, Any] = {"compression": "deflate", "predictor": planes.dtype.kind in "iu"} if packed else {}
    return tiff_of(planes, photometric="rgb", planarconfig="separate", rowsperstrip=30, **how)


def tiff_of(values: np.ndarray, **options: Any) -> bytes:
    """A TIFF of any type that NumPy has."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def tiff_of_pages(pages: list[np.ndarray]) -> bytes:
    """A TIFF of colours, the first page marked as a thumbnail."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for number, page in enumerate(pages):
            writer.write(page, photometric="rgb", subfiletype=int(number == 0))
    return buffer.getvalue()


def by_opencv(values: np.ndarray, suffix: str) -> bytes:
    """(H, W, 3 or 4) uint16, as OpenCV writes it."""
    order = cv2.COLOR_RGB2BGR if values.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    good, encoded = cv2.imencode(suffix, cv2.cvtColor(values, order))
    assert good
    return encoded.tobytes()


def heic_of_words(values: np.ndarray) -> bytes:
    """A HEIC of 10 bits from (H, W, 3) uint16 of full range."""
    import pillow_heif

    buffer = io.BytesIO()
    made = pillow_heif.from_bytes("RGB;16", values.shape[1::-1], values.tobytes())
    made.save(buffer, quality=95, chroma=444)
    return buffer.getvalue()


def tiff_with_tags(image: Image.Image, tags: dict[int, Any]) -> bytes:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
    return saved(image, "TIFF", tiffinfo=directory)


def with_orientation(upright: np.ndarray, orientation: int) -> tuple[np.ndarray, Image.Exif]:
    """Pixels as a camera stores them, and the EXIF that turns them upright again."""
    undone = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    return np.ascontiguousarray(undone[orientation](upright)), exif


def write_odd_pictures(folder: Path) -> None:
    """Writes the pictures of `badfiles.ODD` that need more than Pillow's defaults, by their names there."""
    face = portrait(96)
    grey = np.asarray(Image.fromarray(face).convert("L"))
    words = grey.astype(np.uint16) * 16
    floats = grey.astype(np.float32)
    floats[3, 3] = np.inf
    small = Image.fromarray(face).resize((32, 32))
    png, jpeg = saved(face, "PNG"), saved(face, "JPEG", quality=95)
    lab = cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    stored = np.stack([lab[..., 0] * 2.55, lab[..., 1] % 256, lab[..., 2] % 256], -1).astype(np.uint8)
    made = {
        "phone.heic": saved(face, "HEIF", quality=90),
        "sequence.heic": _heic_of_two(face),
        "still.avif": saved(face, "AVIF", quality=90),
        "scan.jp2": saved(face, "JPEG2000"),
        "twelve_bits.png": png_of_words(words),
        "twelve_bits.tif": saved(Image.fromarray(words), "TIFF"),
        "twelve_bits_colour.tif": tiff_of_words(face.astype(np.uint16) * 16),
        "said_range.tif": tiff_with_tags(Image.fromarray(grey.astype(np.uint16) * 100), {280: 0, 281: 25_500}),
        "int32.tif": saved(Image.fromarray(grey.astype(np.int32) * 100_000 - 5_000_000), "TIFF"),
        "infinite.tif": saved(Image.fromarray(floats), "TIFF"),
        "float_colour.tif": tiff_of_words(face.astype(np.float32) / 255),
        "pages.tif": saved(small, "TIFF", save_all=True, append_images=[Image.fromarray(face), small]),
        "lab.tif": saved(Image.frombytes("LAB", (96, 96), stored.tobytes()), "TIFF"),
        "wide_gamut.jpg": saved(face, "JPEG", quality=95, icc_profile=DISPLAY_P3),
        "broken_profile.jpg": saved(face, "JPEG", quality=95, icc_profile=b"no profile at all" * 20),
        "press.jpg": saved(Image.fromarray(face).convert("CMYK"), "JPEG", icc_profile=cmyk_profile()),
        "linear_grey.png": saved(Image.fromarray(grey), "PNG", icc_profile=grey_profile(1.0)),
        "gamma.png": with_chunk(png, b"gAMA", struct.pack(">I", 100_000)),
        "hdr_pq.png": with_chunk(png, b"cICP", bytes([9, 16, 0, 1])),
        "gain_map.jpg": with_segment(jpeg, 0xE2, b"urn:iso:std:iso:ts:21496-1\0" + bytes(4)),
        "burst.mpo": saved(face, "MPO", save_all=True, append_images=[small]),
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)


def _heic_of_two(face: np.ndarray) -> bytes:
    import pillow_heif

    both = pillow_heif.from_pillow(Image.fromarray(face))
    both.add_from_pillow(Image.fromarray(face[:64, :64].copy()))
    buffer = io.BytesIO()
    both.save(buffer, quality=90, primary_index=0)
    return buffer.getvalue()


def write_refused_pictures(folder: Path) -> None:
    """Writes the files of `badfiles.BAD` that are refused by their names."""
    face = portrait(96)
    twelve = bytearray(saved(face, "JPEG"))
    frame = twelve.index(b"\xff\xc0")
    twelve[frame + 1], twelve[frame + 4] = 0xC1, 12
    made = {
        "next.jxl": b"\xff\x0a" + bytes(100),
        "layers.psd": b"8BPS\0\1" + bytes(100),
        "camera.dng": tiff_with_tags(Image.fromarray(face), {50706: b"\1\4\0\0"}),
        "camera.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100),
        "twelve_bits.jpg": bytes(twelve),
        "pages.pdf": b"%PDF-1.7\n" + bytes(100),
        "pictures.zip": b"PK\x03\x04" + bytes(100),
        "glow.exr": b"v/1\x01" + bytes(100),
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
