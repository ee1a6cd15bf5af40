"""Make a decoded frame ready for display: deinterlaced, with square pixels, rotated and mirrored as its file says."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from pixelsleuth.records import Note

Say = Callable[[Note], None]

#: Pixel aspects so near to 1 are taken for it; muxers round.
SQUARE = 0.01
#: Pixels wider or higher than this are no television's, but an error.
MAX_ASPECT = Fraction(4)
#: Degrees off a quarter turn from which it is said that the turn was rounded.
LEANING = 1.0
#: Filters of libavfilter that make whole frames of two fields, the better first.
_DEINTERLACERS = ("bwdif", "yadif")


@dataclass(frozen=True)
class SideData:
    """Display information stored beside a stream's frames.

    Attributes:
        rotation: of the frame that it was read from, in degrees as PyAV says it.
        matrix: (a, b, c, d) of the display matrix, by which a point goes to (a x + c y, b x + d y); None: none.
        dolby: Dolby Vision's own metadata is there.
    """

    rotation: float
    matrix: tuple[float, float, float, float] | None
    dolby: bool

    @classmethod
    def of(cls, frame: Any, known: SideData | None) -> SideData:
        """Of a PyAV frame; what is `known` of the stream's frames holds until a frame is turned otherwise.

        A frame and its side data hold each other until the garbage collector comes, with all pixels and threads, so
        that it is not asked of every frame.
        """
        from av.sidedata.sidedata import Type

        if known is not None and known.rotation == frame.rotation:
            return known
        beside = frame.side_data
        raw = bytes(found) if (found := beside.get(Type.DISPLAYMATRIX)) is not None else b""
        matrix = None
        if len(raw) >= 36:
            a, b, _, c, d, *_ = struct.unpack("=9i", raw[:36])
            matrix = (a / 65536, b / 65536, c / 65536, d / 65536)
        return cls(frame.rotation, matrix, beside.get(Type.DOVI_RPU_BUFFER) is not None)


def upright(pixels: np.ndarray, matrix: tuple[float, float, float, float] | None, say: Say) -> np.ndarray:
    """Turn and mirror a frame as its display matrix says, in quarter turns."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix
    if abs(a * d - b * c) < 1e-6:
        say(Note("display_matrix_unusable", "its display matrix shows nothing; shown as it is stored"))
        return pixels
    mirrored = a * d - b * c < 0
    if mirrored:
        # Mirrored left to right first, turned then.
        a, b = -a, -b
    degrees = math.degrees(math.atan2(b - c, a + d))
    quarters = round(degrees / 90) % 4
    off = abs(degrees - 90 * round(degrees / 90))
    if off > LEANING:
        sentence = f"its display matrix turns it by {degrees:.0f} degrees; rounded to a quarter turn"
        say(Note("display_matrix_rounded", sentence))
    if mirrored or quarters:
        say(Note("display_matrix", f"{_in_words(mirrored, quarters)}, as its display matrix says"))
    shown = pixels[:, ::-1] if mirrored else pixels
    # The matrix turns clockwise, for y points down; rot90 turns the other way.
    return np.ascontiguousarray(np.rot90(shown, -quarters))


def _in_words(mirrored: bool, quarters: int) -> str:
    if mirrored and quarters == 2:
        return "mirrored top to bottom"
    turn = ("", "turned 90 degrees clockwise", "turned 180 degrees", "turned 90 degrees counter-clockwise")[quarters]
    return " and ".join(word for word in ("mirrored left to right" if mirrored else "", turn) if word)


def squared(pixels: np.ndarray, aspect: Fraction | None, most_pixels: int, say: Say) -> np.ndarray:
    """Scale a frame up along one side until its pixels are square; `aspect` is a pixel's width by its height."""
    if not aspect or abs(float(aspect) - 1) < SQUARE:
        return pixels
    height, width = pixels.shape[:2]
    wide, high = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    told = f"{aspect.numerator}:{aspect.denominator}"
    if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT or wide * high > most_pixels:
        say(Note("pixel_aspect_ignored", f"its pixels are said to be {told}, which no screen shows; taken as square"))
        return pixels
    say(Note("pixel_aspect", f"pixels of {told}: {width} x {height} shown as {wide} x {high}, and boxes count in that"))
    return cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_CUBIC)


def whole_frames(decoded: Iterable[tuple[int, Any]], unit: Fraction, say: Say) -> Iterator[tuple[int, Any]]:
    """Stamped frames, those of two fields deinterlaced; the others untouched.

    From the first interlaced frame on all go through the filter, which looks at a frame's neighbours.

    Args:
        unit: seconds a stamp.
    """
    lines: _Deinterlacer | None = None
    for stamp, frame in decoded:
        if lines is None and not frame.interlaced_frame:
            yield stamp, frame
            continue
        if lines is not None and not lines.takes(frame):
            yield from lines.push(None)
            lines = None
        if lines is None:
            lines = _Deinterlacer.for_frame(frame, unit)
        if lines is None:
            say(Note("interlaced", "interlaced, and this build of FFmpeg cannot undo it; edges in motion are combed"))
            yield stamp, frame
            continue
        if frame.interlaced_frame:
            say(Note("deinterlaced", f"interlaced: whole frames were made of its fields ({lines.name})"))
        frame.pts = stamp
        yield from lines.push(frame)
    if lines is not None:
        yield from lines.push(None)


class _Deinterlacer:
    """One filter graph, for frames of one size and layout."""

    def __init__(self, name: str, frame: Any, unit: Fraction) -> None:
        from av.filter import Graph

        self.name = name
        self._unit = unit
        self._key = _key(frame)
        self._graph = Graph()
        # A graph and its nodes hold each other until the garbage collector comes; threads must not wait for it.
        self._graph.threads = 1
        nodes = (
            self._graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=unit),
            self._graph.add(name, "mode=send_frame:parity=auto:deint=interlaced"),
            self._graph.add("buffersink"),
        )
        self._graph.link_nodes(*nodes).configure()

    @classmethod
    def for_frame(cls, frame: Any, unit: Fraction) -> _Deinterlacer | None:
        from av.filter import filters_available

        name = next((name for name in _DEINTERLACERS if name in filters_available), None)
        return cls(name, frame, unit) if name else None

    def takes(self, frame: Any) -> bool:
        return self._key == _key(frame)

    def push(self, frame: Any) -> Iterator[tuple[int, Any]]:
        """Take one frame (None: the end) and give those that are ready."""
        from av.error import BlockingIOError as NothingYet
        from av.error import EOFError as End

        if frame is not None:
            frame.time_base = self._unit
        self._graph.vpush(frame)
        while True:
            try:
                made: Any = self._graph.vpull()
            except (NothingYet, End):
                return
            # The filter counts in halves of the unit, for it may give both fields.
            yield round(made.pts * made.time_base / self._unit), made


def _key(frame: Any) -> tuple[int, int, str, int, int]:
    return frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range
