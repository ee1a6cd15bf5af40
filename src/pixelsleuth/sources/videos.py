"""Reading a video frame by frame: the frames asked for, one at a time, upright.

The file is first demuxed for the times of its frames, without decoding one, so that frames of variable rate, broken
tails and long files are known before anything is decoded.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.files import sha256_of
from pixelsleuth.records import Note
from pixelsleuth.sources.images import MAX_PIXELS

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts"})
#: Frames of one file: about nine hours at 30 a second.
MAX_FRAMES = 1_000_000
#: Frames ahead beyond which seeking is worth its decoding from a key frame.
SEEK_FROM = 300


@dataclass(frozen=True)
class Video:
    """A readable video.

    Attributes:
        sha256: of the file's bytes.
        stamps: (n,) presentation times of its frames in units of `unit`, ascending.
        unit: seconds a stamp.
        notes: what was found odd.
    """

    path: str
    sha256: str
    stamps: np.ndarray
    unit: float
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.stamps)

    def time(self, index: int) -> float:
        """Seconds from the first frame."""
        return float((self.stamps[index] - self.stamps[0]) * self.unit)

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        span = self.time(len(self) - 1)
        return (len(self) - 1) / span if span > 0 else 0.0


@dataclass(frozen=True)
class Frame:
    """`pixels` (H, W, 3) uint8 RGB, upright, of the frame at `index`, `time` seconds from the first."""

    index: int
    time: float
    pixels: np.ndarray


def looks_like_video(head: bytes) -> bool:
    """Whether a file's first bytes are those of MP4 or QuickTime, Matroska or WebM, AVI, or an MPEG stream."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")
        or head.startswith((b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3"))
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
    )


def open_video(path: str | os.PathLike[str]) -> Video:
    """Finds the frames of a video without decoding them.

    Raises:
        InputError: `missing`, `unreadable`, `not_a_file`, `empty`, `not_a_video`, `no_video_stream`, `no_frames`,
            `too_many_pixels` or `too_long`.
    """
    import av

    path = Path(path)
    try:
        if not path.is_file():
            if path.exists():
                raise InputError("not_a_file", "expected a regular file, got a folder, device, pipe or socket")
            raise InputError("missing", "no such file; check the path, or it was moved while the run went on")
        if path.stat().st_size == 0:
            raise InputError("empty", "the file has no bytes; copy it again from its source")
        digest = sha256_of(path)
    except OSError as error:
        raise InputError("unreadable", f"the file cannot be read ({error.strerror}); check its permissions") from error
    notes: list[Note] = []
    try:
        # A path is never read as an address: the protocol is named.
        with av.open(f"file:{path}", metadata_errors="ignore") as container:
            if not container.streams.video:
                raise InputError("no_video_stream", "the file has sound but no picture; expected a video", digest)
            stream = container.streams.video[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS:
                raise InputError(
                    "too_many_pixels", f"frames of {width} x {height}, the limit is {MAX_PIXELS:,} pixels", digest
                )
            stamps = _stamps(container, stream, digest, notes)
            unit = float(stream.time_base or 1)
    except av.error.FFmpegError as error:
        raise InputError(
            "not_a_video",
            f"no video can be read from it ({error.strerror}); it may be cut off or be of another kind",
            digest,
        ) from error
    if not len(stamps):
        raise InputError("no_frames", "the video stream holds no frame; copy it again from its source", digest)
    return Video(str(path), digest, stamps, unit, tuple(notes))


def _stamps(container: Any, stream: Any, digest: str, notes: list[Note]) -> np.ndarray:
    import av

    found: list[int] = []
    try:
        for packet in container.demux(stream):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if packet.size and stamp is not None:
                found.append(stamp)
            if len(found) > MAX_FRAMES:
                raise InputError(
                    "too_long", f"the video has more than {MAX_FRAMES:,} frames; cut out the part in question", digest
                )
    except av.error.FFmpegError as error:
        notes.append(Note("stopped_early", f"reading stopped after {len(found):,} frames ({error.strerror})"))
    declared = stream.frames
    if declared and len(found) < declared:
        notes.append(Note("end_missing", f"{len(found):,} of {declared:,} frames are there; the end is missing"))
    return np.unique(np.array(found, np.int64))


def frames_at(video: Video, indices: Sequence[int]) -> Iterator[Frame]:
    """The frames at `indices` (ascending), one at a time; one that cannot be decoded is left out.

    Where a broken stream gives a later frame in a missing one's place, that one is given with its own index and time.

    Raises:
        InputError: `missing` or `unreadable`, where the file has vanished since.
    """
    import av

    wanted = [int(video.stamps[i]) for i in indices]
    try:
        container = av.open(f"file:{video.path}", metadata_errors="ignore")
    except (OSError, av.error.FFmpegError) as error:
        raise InputError(
            "missing", f"the video can no longer be read ({error.strerror}); was it moved?", video.sha256
        ) from error
    with container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        given = -1
        at = 0
        while at < len(wanted):
            stop = at + 1
            # What lies near is decoded through; what lies far is sought.
            while stop < len(wanted) and indices[stop] - indices[stop - 1] <= SEEK_FROM:
                stop += 1
            if indices[at] - max(given, 0) > SEEK_FROM:
                container.seek(wanted[at], stream=stream, backward=True)
            for stamp, frame in _decoded(container, stream):
                if stamp < wanted[at]:
                    continue
                index = min(bisect_left(video.stamps, stamp), len(video) - 1)
                if index > given:
                    given = index
                    yield Frame(index, video.time(index), _upright(frame))
                while at < stop and wanted[at] <= stamp:
                    at += 1
                if at >= stop:
                    break
            else:
                # The stream ended: what is wanted beyond cannot be decoded.
                return


def _decoded(container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
    import av

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            # A damaged packet costs its own frames, not the video.
            continue
        for frame in frames:
            stamp = frame.pts if frame.pts is not None else frame.dts
            # A stream may change its size on the way.
            if stamp is not None and frame.width * frame.height <= MAX_PIXELS:
                yield stamp, frame


def _upright(frame: Any) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
