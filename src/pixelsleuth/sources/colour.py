"""Convert the colours of still images to sRGB, from their ICC profile, their code points (CICP) or PNG's gamma.

Relative colorimetric: white becomes white, and a colour that sRGB does not hold becomes the nearest that it does. What
is sRGB already, to within `MAX_DEVIATION` levels, is left untouched to the bit.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from pixelsleuth.records import Note

#: Levels of 255 by which a profile's colours may differ from sRGB's and still count as these: makers write sRGB in
#: many roundings.
MAX_DEVIATION = 2.0
#: Chromaticities of red, green, blue and white, by their number in ITU-T H.273.
PRIMARIES = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), (0.3127, 0.3290)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290)),
}
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290))
_NAMES = {1: "BT.709", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
#: Transfer functions of H.273 that are a plain power of the signal; all others of standard range are read as sRGB's.
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
_PQ, _HLG = 16, 18
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
#: Bradford's adaptation of whites, and the white of profiles (D50).
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


@dataclass(frozen=True)
class CodePoints:
    """Colours by their numbers in ITU-T H.273, as HEIC, AVIF and PNG give them."""

    primaries: int
    transfer: int

    @property
    def high_range(self) -> bool:
        return self.transfer in (_PQ, _HLG)

    @property
    def plain(self) -> bool:
        """Whether they are sRGB's, or say nothing."""
        return self.primaries not in (9, 11, 12) and not self.high_range and self.transfer not in _GAMMAS


def by_profile(image: Image.Image, profile: bytes, notes: list[Note]) -> Image.Image:
    """A picture of mode RGB, L, CMYK or LAB in sRGB by its ICC profile; one that cannot be used is ignored, and noted.

    Returns:
        The same picture where its profile is sRGB's or cannot be used.
    """
    space, name, alike = _known(profile)
    wanted = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}.get(image.mode)
    if not space:
        notes.append(Note("colour_profile_ignored", f"its colour profile cannot be used ({name}); colours are read as "
                          "if it had none"))  # fmt: skip
        return image
    if space != wanted:
        # A grey picture with the profile of a colour scanner: common, and harmless where that is sRGB's.
        if not alike:
            told = f"its colour profile ({name}) is for {space.strip()}, the picture is {image.mode}; ignored"
            notes.append(Note("colour_profile_ignored", told))
        return image
    if alike:
        return image
    try:
        transform = _transform(profile, image.mode)
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, ValueError, OSError, MemoryError) as error:
        notes.append(Note("colour_profile_ignored", f"its colour profile cannot be used ({_line(error)})"))
        return image
    assert converted is not None
    notes.append(Note("colour_profile", f"colours converted from its profile ({name}) to sRGB, relative colorimetric"))
    return converted


@lru_cache(maxsize=32)
def _known(profile: bytes) -> tuple[str, str, bool]:
    """Colour space and name of a profile, and whether it is sRGB's or a grey of sRGB's curve; "" and the reason where
    it cannot be used."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = opened.profile.xcolor_space
        name = _line(opened.profile.profile_description or "unnamed")
        mode = {"RGB ": "RGB", "GRAY": "L"}.get(space)
        if mode is None:
            return space, name, False
        ramp = np.linspace(0, 255, 9).round().astype(np.uint8)
        if mode == "RGB":
            patches = np.stack(np.meshgrid(ramp, ramp, ramp, indexing="ij"), -1).reshape(1, -1, 3)
        else:
            patches = np.arange(256, dtype=np.uint8)[None]
        shown = ImageCms.applyTransform(Image.fromarray(patches), _transform(profile, mode))
        assert shown is not None
        as_rgb = patches if mode == "RGB" else patches[..., None]
        apart = np.abs(np.asarray(shown).astype(int) - as_rgb.astype(int)).max()
        return space, name, bool(apart <= MAX_DEVIATION)
    except (ImageCms.PyCMSError, ValueError, OSError, TypeError, AttributeError) as error:
        return "", _line(error), False


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), _srgb(), mode, "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=1)
def lab_profile() -> bytes:
    """The profile of images whose pixels are CIELAB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@lru_cache(maxsize=1)
def adobe_rgb() -> bytes:
    """Adobe RGB (1998), of pictures whose EXIF names it in place of a profile."""
    return matrix_profile(ADOBE_RGB, 563 / 256, "Adobe RGB, by EXIF")


def _line(text: object) -> str:
    """Whatever a file or a library says, as part of one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:80] or type(text).__name__


def by_code_points(image: Image.Image, points: CodePoints, notes: list[Note]) -> Image.Image:
    """An RGB picture in sRGB by its code points: primaries changed, high range tone-mapped."""
    if points.plain:
        return image
    if points.high_range:
        from pixelsleuth.sources.tone import WHITE, standard_range

        curve, name = ("pq", "PQ (SMPTE 2084)") if points.transfer == _PQ else ("hlg", "HLG (ARIB STD-B67)")
        codes = np.asarray(image).astype(np.uint16) * 257
        pixels = standard_range(codes, curve, _to_709(points.primaries))
        notes.append(Note("hdr", f"HDR, {name}: tone-mapped to standard range, white at {WHITE:.0f} nits"))
        return Image.fromarray(pixels)
    gamma = _GAMMAS.get(points.transfer)
    built = matrix_profile(PRIMARIES.get(points.primaries, PRIMARIES[1]), gamma)
    kept: list[Note] = []
    converted = by_profile(image, built, kept)
    if converted is not image:
        name = _NAMES.get(points.primaries, "BT.709") + (f", gamma {gamma:g}" if gamma else "")
        notes.append(Note("colour_profile", f"colours converted from {name} to sRGB, as its code points say"))
    return converted


def by_gamma(
    image: Image.Image, gamma: float | None, primaries: tuple[tuple[float, float], ...] | None, notes: list[Note]
) -> Image.Image:
    """An RGB picture in sRGB by PNG's gAMA (here the power of the signal, 2.2) and cHRM (red, green, blue, white)."""
    try:
        built = matrix_profile(primaries or PRIMARIES[1], gamma)
    except np.linalg.LinAlgError:
        return image
    # The plain power of 2.2 stands for sRGB's curve in PNG.
    if (gamma is None or abs(gamma - 2.2) < 0.05) and (primaries is None or _near_709(primaries)):
        return image
    converted = by_profile(image, built, [])
    if converted is not image:
        said = f"gamma {gamma:.3g}" if gamma else "its own primaries"
        notes.append(Note("gamma", f"brightness and colours converted to sRGB, as the PNG says ({said})"))
    return converted


def _near_709(primaries: tuple[tuple[float, float], ...]) -> bool:
    return bool(np.abs(np.array(primaries) - np.array(PRIMARIES[1])).max() < 0.005)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """(3, 3) from linear RGB to XYZ, white at Y = 1. Raises LinAlgError where the three span nothing."""
    xyz = np.array([(x / max(y, 1e-6), 1.0, (1 - x - y) / max(y, 1e-6)) for x, y in primaries]).T
    scale = np.linalg.solve(xyz[:, :3], xyz[:, 3])
    return xyz[:, :3] * scale


def _to_709(primaries: int) -> np.ndarray | None:
    if primaries not in (9, 11, 12):
        return None
    return (np.linalg.inv(_to_xyz(PRIMARIES[1])) @ _to_xyz(PRIMARIES[primaries])).astype(np.float32)


def matrix_profile(
    primaries: tuple[tuple[float, float], ...], gamma: float | None = None, name: str = "as the file's numbers say"
) -> bytes:
    """An ICC profile (version 4) of a screen with these primaries.

    Args:
        primaries: (x, y) of red, green, blue and white.
        gamma: light is the signal to this power; sRGB's curve unless given.
        name: its description, for people.

    Raises:
        numpy.linalg.LinAlgError: the primaries span no triangle.
    """
    to_xyz = _to_xyz(primaries)
    white = to_xyz.sum(1)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    columns = (adapt @ to_xyz).T

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", int(np.clip(round(v * 65536), -(2**31), 2**31 - 1))) for v in values)

    def text(words: str) -> bytes:
        encoded = words.encode("utf-16-be")
        return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(encoded), 28) + encoded

    curve = b"para" + bytes(4) + (
        struct.pack(">HH", 3, 0) + fixed(*_SRGB_CURVE) if gamma is None else struct.pack(">HH", 0, 0) + fixed(gamma)
    )  # fmt: skip
    tags = {
        b"desc": text(name), b"cprt": text("CC0"),
        b"wtpt": b"XYZ " + bytes(4) + fixed(*_D50),
        **{tag: b"XYZ " + bytes(4) + fixed(*c) for tag, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }  # fmt: skip
    table, body = struct.pack(">I", len(tags)), b""
    first = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += tag + struct.pack(">II", first + len(body), len(data))
        body += padded
    head = struct.pack(">I4sI4s4s4s", first + len(body), b"lcms", 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*_D50)
    return head + bytes(128 - len(head)) + table + body
