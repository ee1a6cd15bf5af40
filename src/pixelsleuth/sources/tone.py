"""Convert the colours of a decoded frame to (H, W, 3) uint8 RGB as a standard screen shows it.

Which matrix turned RGB into luma and chroma is told by the stream's tags (ITU-T H.273). Untagged: BT.601 up to 719
lines, BT.709 from 720, as players take it; but BT.601 at any size where FFmpeg's muxer wrote the file, for its scaler
makes BT.601 of RGB unless told otherwise, and so do the programs built on it (OpenCV, PyAV, most makers of fakes).

High dynamic range (PQ, HLG; ITU-R BT.2100) and wide gamut are brought to BT.709's primaries and sRGB's curve: light in
nits, reference white at 203 (ITU-R BT.2408), highlights rolled off to it by the curve of ITU-R BT.2390-11, 5.4.1, on
the largest of R, G and B, from the frame's own peak. A frame without highlights is left as it was graded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.records import Note

#: Lines (the shorter side) from which an untagged video is taken for BT.709.
HD_LINES = 720
#: Luminance of diffuse white in high dynamic range, in nits (BT.2408).
WHITE = 203.0
#: Luminance of the brightest HLG signal on the reference screen, and the system gamma there (BT.2100).
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2
#: Brightest light that PQ can name.
PQ_PEAK = 10_000.0
#: Share of a frame's pixels that may be brighter than its peak: single sparks should not darken all else.
SPARKS = 0.001
#: Rows converted at a time, so that memory does not grow with the frame.
ROWS = 64

# Codes of ITU-T H.273 as FFmpeg numbers them.
_BT709, _BT601, _BT2020 = 1, 6, 9
_PQ, _HLG = 16, 18
_PRIMARIES_2020, _PRIMARIES_P3 = 9, 12
#: Matrices that the scaler knows; PyAV takes these numbers as they stand.
_KNOWN = frozenset({1, 4, 5, 6, 7, 9})
#: Matrices that neither the scaler nor the rule may stand in for: the colours would be plainly false.
_UNREADABLE = {8: "YCgCo", 10: "BT.2020 constant luminance", 11: "SMPTE 2085", 12: "chromaticity-derived",
               13: "chromaticity-derived, constant luminance", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re",
               17: "YCgCo-Ro"}  # fmt: skip

_TO_709 = {
    _PRIMARIES_2020: np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
        np.float32,
    ),
    _PRIMARIES_P3: np.array(
        [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], np.float32
    ),
}
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)


def rgb(frame: Any, by_ffmpeg: bool, dolby: bool, say: Callable[[Note], None]) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded PyAV frame; what had to be done is said.

    Args:
        by_ffmpeg: FFmpeg's muxer wrote the file; decides on the matrix of an untagged frame.
        dolby: Dolby Vision's metadata stands beside the frame.

    Raises:
        InputError: `unsupported_colour`.
    """
    transfer, primaries = frame.color_trc, frame.color_primaries
    if dolby and transfer not in (_PQ, _HLG) and frame.colorspace not in _KNOWN:
        # Profile 5: the base layer is IPT with its own curve, and only Dolby's metadata brings it back.
        raise InputError(
            "unsupported_colour",
            "expected colours in a public format, got Dolby Vision without a compatible base layer (profile 5, HDR); "
            "export it as HLG, HDR10 or SDR",
        )
    matrix = _matrix(frame, by_ffmpeg, say)
    if transfer in (_PQ, _HLG):
        name = "PQ (SMPTE 2084)" if transfer == _PQ else "HLG (ARIB STD-B67)"
        say(Note("tone_mapped", f"HDR, {name}: tone-mapped to standard range, white at {WHITE:.0f} nits (BT.2390)"))
        codes = _codes(frame, "rgb48le", matrix)
        return standard_range(codes, "pq" if transfer == _PQ else "hlg", _TO_709.get(primaries))
    if primaries in _TO_709:
        name = "BT.2020" if primaries == _PRIMARIES_2020 else "Display P3"
        say(Note("wide_gamut", f"colours in {name}: brought to BT.709, what lies outside is cut off"))
        return _narrowed(_codes(frame, "rgb48le", matrix), _TO_709[primaries])
    return _codes(frame, "rgb24", matrix)


def written_by_ffmpeg(metadata: dict[str, str]) -> bool:
    """Whether FFmpeg's muxer wrote a file: it names itself, or gives 512 as the minor version of MP4."""
    told = {name.lower(): value for name, value in metadata.items()}
    return told.get("encoder", "").startswith(("Lavf", "Lavc")) or told.get("minor_version") == "512"


def _codes(frame: Any, layout: str, matrix: int | None) -> np.ndarray:
    # One thread is as fast, and none outlives a frame that waits for the garbage collector.
    told = {} if matrix is None else {"src_colorspace": matrix}
    return frame.to_ndarray(format=layout, threads=1, **told)


def _matrix(frame: Any, by_ffmpeg: bool, say: Callable[[Note], None]) -> int | None:
    """The matrix as PyAV numbers it; None where the frame has no chroma, or is RGB already."""
    layout, tag = frame.format, frame.colorspace
    if layout.is_rgb or layout.has_palette or len(layout.components) < 3:
        return None
    if tag in _KNOWN:
        return int(tag)
    if tag in _UNREADABLE:
        raise InputError(
            "unsupported_colour",
            f"expected a colour matrix such as BT.709, got {_UNREADABLE[tag]}; export the video with BT.709 colours",
        )
    if frame.color_trc in (_PQ, _HLG):
        return _BT2020
    lines = min(frame.width, frame.height)
    if lines < HD_LINES:
        found, why = _BT601, f"as is usual under {HD_LINES} lines"
    elif by_ffmpeg:
        found, why = _BT601, "as FFmpeg, which wrote the file, makes of RGB"
    else:
        found, why = _BT709, f"as is usual from {HD_LINES} lines"
    name = "BT.709" if found == _BT709 else "BT.601"
    say(Note("colour_by_rule", f"the stream names no colour matrix; read as {name}, {why}"))
    return found


# --- high dynamic range ---


def standard_range(codes: np.ndarray, curve: str, to_709: np.ndarray | None = None) -> np.ndarray:
    """Tone-map one frame.

    Args:
        codes: (H, W, 3) uint16 RGB, of full range.
        curve: `pq` or `hlg`.
        to_709: (3, 3) from linear light in the frame's primaries to BT.709's; None: they are BT.709's.

    Returns:
        (H, W, 3) uint8, sRGB.
    """
    light = _light(curve)
    # Both curves rise, so that the brightest channel can be looked for among the codes.
    brightest = np.bincount(codes.max(2).ravel(), minlength=65536)
    above = np.cumsum(brightest[::-1])[::-1]
    peak_code = int(np.flatnonzero(above > SPARKS * codes.shape[0] * codes.shape[1])[-1])
    peak = float(light[peak_code])
    if curve == "hlg":
        peak = HLG_PEAK * peak**HLG_GAMMA
    grid, gains = _roll_off(max(peak, WHITE))
    shown = np.empty(codes.shape, np.uint8)
    encoded = _srgb()
    for top in range(0, len(codes), ROWS):
        nits = light[codes[top : top + ROWS]]
        if curve == "hlg":
            # BT.2100's opto-optical transfer: the screen's gamma is applied to luminance.
            nits *= HLG_PEAK * np.maximum(nits @ _LUMA_2020, 1e-6)[..., None] ** np.float32(HLG_GAMMA - 1)
        nits *= np.interp(nits.max(2), grid, gains).astype(np.float32)[..., None] / np.float32(WHITE)
        if to_709 is not None:
            nits = nits @ to_709.T
        shown[top : top + ROWS] = encoded[(np.clip(nits, 0, 1) * 65535 + 0.5).astype(np.int32)]
    return shown


def pq_to_nits(signal: np.ndarray) -> np.ndarray:
    """The electro-optical transfer function of SMPTE ST 2084: signal in [0, 1] -> nits."""
    root = np.power(np.clip(signal, 0, 1), 32 / 2523)
    return PQ_PEAK * np.power(np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root), 16384 / 2610)


def nits_to_pq(nits: np.ndarray) -> np.ndarray:
    """The inverse of `pq_to_nits`."""
    power = np.power(np.clip(nits, 0, PQ_PEAK) / PQ_PEAK, 2610 / 16384)
    return np.power((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power), 2523 / 32)


def hlg_to_scene(signal: np.ndarray) -> np.ndarray:
    """The inverse of ARIB STD-B67's opto-electronic transfer function: signal in [0, 1] -> scene light in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _light(curve: str) -> np.ndarray:
    return _light_of_pq() if curve == "pq" else _light_of_hlg()


@lru_cache(maxsize=1)
def _light_of_pq() -> np.ndarray:
    return pq_to_nits(np.arange(65536) / 65535).astype(np.float32)


@lru_cache(maxsize=1)
def _light_of_hlg() -> np.ndarray:
    return hlg_to_scene(np.arange(65536) / 65535).astype(np.float32)


@lru_cache(maxsize=1)
def _srgb() -> np.ndarray:
    """Linear light, of 65,535 -> sRGB's 8 bits."""
    light = np.arange(65536) / 65535
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(signal * 255).astype(np.uint8)


def _roll_off(peak: float) -> tuple[np.ndarray, np.ndarray]:
    """Light in nits, ascending, and the gain there: BT.2390's curve from a source of this peak to one of `WHITE`."""
    top = float(nits_to_pq(np.array(peak)))
    signal = np.linspace(0, 1, 2048)[1:]
    most = float(nits_to_pq(np.array(WHITE))) / top
    knee = 1.5 * most - 0.5
    t = np.clip((signal - knee) / max(1 - knee, 1e-9), 0, 1)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    mapped = np.where(signal < knee, signal, bent)
    grid = pq_to_nits(signal * top)
    return grid, pq_to_nits(mapped * top) / np.maximum(grid, 1e-9)


# --- wide gamut in standard range ---


def _narrowed(codes: np.ndarray, to_709: np.ndarray) -> np.ndarray:
    """Primaries changed in the light of a screen with BT.1886's gamma of 2.4, which is then taken back."""
    light = _screen_light()
    shown = np.empty(codes.shape, np.uint8)
    for top in range(0, len(codes), ROWS):
        part = np.clip(light[codes[top : top + ROWS]] @ to_709.T, 0, 1)
        shown[top : top + ROWS] = (part ** np.float32(1 / 2.4) * 255 + 0.5).astype(np.uint8)
    return shown


@lru_cache(maxsize=1)
def _screen_light() -> np.ndarray:
    return ((np.arange(65536) / 65535) ** 2.4).astype(np.float32)
