"""Read the wanted frames of a video one at a time, as a player shows them.

The file is first demuxed for the times of its frames, without decoding one, so that the track to judge, frames of
variable rate, broken tails and long files are known before anything is decoded. What a frame needs to be shown right
(`display`, `tone`) is found when it is decoded, and said then.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.files import sha256_of
from pixelsleuth.records import Note
from pixelsleuth.sources import display, tone

#: Frames of one file: about nine hours at 30 a second.
MAX_FRAMES = 1_000_000
#: Pixels of a frame: 8,192 x 4,320 passes. A decoder holds many frames at once, so that this is less than a picture's.
MAX_FRAME_PIXELS = 36_000_000
#: Pixels decoded for one reading, wanted or not: an hour of 1,920 x 1,080 at 50 frames a second without a key frame.
MAX_DECODED = 400_000_000_000
#: Tracks of one file that are looked at.
MAX_VIDEO_TRACKS = 16
#: Frames ahead beyond which seeking is worth its decoding from a key frame.
SEEK_FROM = 300
#: Seeks that may lead back behind what had been passed already; then key frames are no longer believed.
VAIN_SEEKS = 3
#: Seconds before the first frame that count as the start of a file: times of decoding begin before those of showing.
BEFORE_START = 10
#: A frame is black where none of its channels is above this, limited range's black and noise included.
BLACK = 32
#: Frames a second of a bare stream that names none.
USUAL_RATE = 25
#: A track moves where it has at least this share of the frames of the one with most: chapters have a picture each.
MOVES = 0.1
#: Frames are counted where those without a time are more than this many times those with one. As many without as with
#: are the second fields of broadcasts, whose packets are no frames of their own.
COUNTED_FROM = 2
#: Times between frames are called uneven from a longest (but for a twentieth) this many times the median.
UNEVEN = 1.5

#: What FFmpeg may take a file for. Playlists, scripts and numbered pictures would open other files.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,mxf,h264,hevc,dv,ivf,nut,rm,"
    "swf,wtv,gxf,vc1,obu,av1,m4v,yuv4mpegpipe,mp3,wav,aac,flac"
)
_ENCRYPTED = frozenset({"encv", "drmi", "drmv"})


@dataclass(frozen=True)
class Video:
    """A readable video.

    Attributes:
        sha256: of the file's bytes.
        stamps: (n,) presentation times of its frames in units of `unit`, ascending.
        unit: seconds a stamp.
        track: index of the stream that is read.
        keys: presentation times of the frames at which decoding can begin, ascending.
        by_ffmpeg: FFmpeg's muxer wrote the file.
        counted: the file gives its frames, or most of them, no times, so that they are counted.
        found: what was found odd or had to be done so far, by code; reading frames adds to it.
    """

    path: str
    sha256: str
    stamps: np.ndarray
    unit: Fraction
    track: int
    keys: np.ndarray
    by_ffmpeg: bool
    counted: bool = False
    found: dict[str, Note] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def notes(self) -> tuple[Note, ...]:
        """Notes on what was odd or had to be done, about the file and the frames read so far."""
        return tuple(self.found.values())

    def say(self, note: Note) -> None:
        """Add a note, the first of its code."""
        self.found.setdefault(note.code, note)

    def time(self, index: int) -> float:
        """Seconds from the first frame."""
        return float((self.stamps[index] - self.stamps[0]) * float(self.unit))

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        span = self.time(len(self) - 1)
        return (len(self) - 1) / span if span > 0 else 0.0


@dataclass(frozen=True)
class Frame:
    """`pixels` (H, W, 3) uint8 RGB, as shown, of the frame at `index`, `time` seconds from the first."""

    index: int
    time: float
    pixels: np.ndarray


@dataclass
class _Track:
    """What demuxing finds of one stream."""

    stream: Any
    stamps: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    hidden: int = 0
    untimed: int = 0
    counted: bool = False
    encrypted: bool = False

    @property
    def pixels(self) -> int:
        context = self.stream.codec_context
        return context.width * context.height if context is not None else 0


def is_black(pixels: np.ndarray) -> bool:
    """Whether a frame shows nothing, as before a fade-in; seen from every eighth pixel."""
    return bool(pixels[::8, ::8].max() <= BLACK)


def open_video(path: str | os.PathLike[str]) -> Video:
    """Find the track to judge and its frames, without decoding one.

    Raises:
        InputError: `missing`, `unreadable`, `not_a_file`, `empty`, `not_a_video`, `no_video_stream`,
            `unsupported_codec`, `encrypted`, `no_frames`, `too_many_pixels` or `too_long`.
    """
    import av

    path = Path(path)
    try:
        if not path.is_file():
            if path.exists():
                raise InputError("not_a_file", "expected a regular file, got a folder, device, pipe or socket")
            raise InputError("missing", "no such file; check its path, and whether it was moved during the run")
        if path.stat().st_size == 0:
            raise InputError("empty", "the file has no bytes; copy it again from its source")
        digest = sha256_of(path)
    except OSError as error:
        raise InputError("unreadable", f"the file cannot be read ({error.strerror}); check its permissions") from error
    notes: list[Note] = []
    try:
        with open_container(path) as container:
            tracks = [_Track(stream) for stream in container.streams.video[:MAX_VIDEO_TRACKS] if not _is_cover(stream)]
            if not tracks:
                held = "a cover picture but no video" if container.streams.video else "sound or data but no picture"
                raise InputError("no_video_stream", f"the file has {held}; expected a video", digest)
            _demux(container, tracks, digest, notes)
            track = _chosen(tracks, container.streams.video, digest, notes)
            _say_of_track(track, container.format.name, notes)
            unit = Fraction(track.stream.time_base or 1)
            if track.counted:
                unit = 1 / Fraction(track.stream.average_rate or USUAL_RATE)
            index = track.stream.index
            by_ffmpeg = tone.written_by_ffmpeg(container.metadata)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            "not_a_video",
            f"no video can be read from it ({_why(error)}); it may be cut off or be of another kind",
            digest,
        ) from error
    stamps, keys = (np.unique(np.array(times, np.int64)) for times in (track.stamps, track.keys))
    video = Video(str(path), digest, stamps, unit, index, keys, by_ffmpeg, track.counted)
    for note in notes:
        video.say(note)
    return video


def open_container(path: str | os.PathLike[str]) -> Any:
    """A file as PyAV opens it, which leads to no other file or address. Raises what PyAV raises."""
    import av

    # A path is never read as an address: the protocol is named. Nor does the file lead to others.
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
    return av.open(f"file:{os.fspath(path)}", metadata_errors="ignore", options=options)


def _why(error: Exception) -> str:
    if getattr(error, "errno", None) == errno.ENOMEM:
        # FFmpeg's word for sizes that cannot be.
        return "its header promises more than there can be"
    if isinstance(error, IndexError):
        # A stream may bring a track on its way that its head did not announce; PyAV does not know it then.
        return "a track comes that was not announced"
    return getattr(error, "strerror", None) or str(error)


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return bool(stream.disposition & pictures)


def _demux(container: Any, tracks: Sequence[_Track], digest: str, notes: list[Note]) -> None:
    """Find the frames of all tracks in one pass."""
    import av

    by_index = {track.stream.index: track for track in tracks}
    total = 0
    try:
        for packet in container.demux([track.stream for track in tracks]):
            track = by_index[packet.stream.index]
            stamp = _stamp_of(packet)
            if not packet.size:
                continue
            if not track.stamps:
                track.encrypted = any(side.data_type == "encryption_info" for side in packet.iter_sidedata())
            total += 1
            if total > MAX_FRAMES:
                raise InputError(
                    "too_long", f"the video has more than {MAX_FRAMES:,} frames; cut out the part in question", digest
                )
            if stamp is None:
                track.untimed += 1
                continue
            if packet.is_keyframe:
                track.keys.append(stamp)
            if packet.is_discard:
                # Needed to decode what an edit list shows, but not shown.
                track.hidden += 1
            else:
                track.stamps.append(stamp)
    except (av.error.FFmpegError, OSError, IndexError) as error:
        notes.append(Note("stopped_early", f"reading stopped after {total:,} frames ({_why(error)})"))
    for track in tracks:
        # MPEG-PS gives some packets a time and leaves the frames between them to be counted.
        if track.untimed > COUNTED_FROM * len(track.stamps):
            track.stamps, track.keys, track.counted = list(range(track.untimed + len(track.stamps))), [], True


def _stamp_of(item: Any) -> int | None:
    """When a packet or a frame is to be shown, in units of its stream; when it is decoded where that is not told."""
    found: int | None = item.pts if item.pts is not None else item.dts
    return found


def _chosen(tracks: Sequence[_Track], streams: Sequence[Any], digest: str, notes: list[Note]) -> _Track:
    """The largest track that moves; where none does, the largest.

    Raises:
        InputError: it cannot be read.
    """
    least = max(2, MOVES * max(len(track.stamps) for track in tracks))
    best = max(
        tracks, key=lambda track: (len(track.stamps) >= least, bool(track.stamps), track.pixels, len(track.stamps))
    )
    context = best.stream.codec_context
    if best.encrypted or (context is not None and context.codec_tag in _ENCRYPTED):
        raise InputError("encrypted", "the video is encrypted (DRM); expected one that any player can show", digest)
    if not best.stamps:
        raise InputError("no_frames", "the video stream holds no frame; copy it again from its source", digest)
    if context is None:
        raise InputError(
            "unsupported_codec", "there is no decoder for the video's codec; convert it to H.264 in MP4", digest
        )
    if best.pixels > MAX_FRAME_PIXELS:
        sentence = f"frames of {context.width} x {context.height}, the limit is {MAX_FRAME_PIXELS:,} pixels; scale it"
        raise InputError("too_many_pixels", f"{sentence} down", digest)
    others = [stream for stream in streams if stream.index != best.stream.index]
    if others:
        passed = ", ".join(_described(stream) for stream in others[:4])
        notes.append(Note(
            "other_tracks", f"{len(streams)} tracks with pictures: the largest video, {context.width} x "
            f"{context.height}, is judged; passed over: {passed}{', ...' if len(others) > 4 else ''}",
        ))  # fmt: skip
    return best


def _described(stream: Any) -> str:
    context = stream.codec_context
    size = f" of {context.width} x {context.height}" if context is not None else ""
    return f"{'cover or thumbnail' if _is_cover(stream) else 'a track'}{size}"


def _say_of_track(track: _Track, container: str, notes: list[Note]) -> None:
    """What is odd about the times of a track's frames."""
    shown, declared = len(track.stamps), track.stream.frames
    read = shown + track.hidden
    # MP4's index has all that its edit lists leave; that of other containers grows as they are read.
    whole = "mov" in container.split(",") and read >= len(track.stream.index_entries)
    if shown < declared and whole:
        notes.append(
            Note("edit_list", f"its edit list shows {shown:,} of {declared:,} frames; players, too, show these")
        )
    elif shown < declared:
        notes.append(Note("end_missing", f"{shown:,} of {declared:,} frames are there; the end is missing"))
    if track.counted and track.untimed < shown:
        rate = float(track.stream.average_rate or USUAL_RATE)
        sentence = f"{track.untimed:,} of {shown:,} frames have no time of their own: all are counted"
        sentence += f", {rate:.3g} a second"
        notes.append(Note("frames_counted", sentence))
    elif track.untimed and not track.counted:
        sentence = f"{track.untimed:,} of {read + track.untimed:,} packets have no time of their own: second fields"
        sentence += ", or frames that are not looked at"
        notes.append(Note("frames_untimed", sentence))
    gaps = np.diff(np.unique(np.array(track.stamps, np.int64)))
    if len(gaps) > 1 and np.percentile(gaps, 95) > UNEVEN * max(float(np.median(gaps)), 1.0):
        unit = float(track.stream.time_base or 1)
        sentence = f"frames follow each other after {gaps.min() * unit:.3g} to {gaps.max() * unit:.3g} seconds"
        notes.append(Note("variable_frame_rate", f"{sentence}; they are picked by number, not by time"))


# --- frames ---


def frames_at(video: Video, indices: Sequence[int]) -> Iterator[Frame]:
    """The frames at `indices` (ascending), one at a time; one that cannot be decoded is left out.

    Where a broken stream gives a later frame in a missing one's place, that one is given with its own index and time.

    Raises:
        InputError: `missing` or `unreadable`, where the file has vanished since; `unsupported_colour`.
    """
    import av

    try:
        container = open_container(video.path)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            "missing", f"the video can no longer be read ({error.strerror}); was it moved?", video.sha256
        ) from error
    with container:
        stream = container.streams[video.track]
        stream.thread_type = "AUTO"
        # Decoders refuse larger frames before they have memory for them; a stream may change its size on the way.
        stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        decoding = _Decoding(container, stream, video)
        try:
            yield from _given(decoding, stream, video, indices)
        finally:
            decoding.close()


def _given(decoding: _Decoding, stream: Any, video: Video, indices: Sequence[int]) -> Iterator[Frame]:
    wanted = [int(video.stamps[i]) for i in indices]
    beside: display.SideData | None = None
    given = -1
    at = 0
    while at < len(wanted):
        if indices[at] - max(given, 0) > SEEK_FROM:
            decoding.seek(wanted[at])
        found = decoding.until(wanted[at])
        if found is None:
            # The stream ended: what is wanted beyond cannot be decoded.
            return
        stamp, frame = found
        index = min(bisect_left(video.stamps, stamp), len(video) - 1)
        if index > given:
            given = index
            beside = display.SideData.of(frame, beside)
            yield Frame(index, video.time(index), _shown(frame, beside, stream, video))
        while at < len(wanted) and wanted[at] <= stamp:
            at += 1


class _Decoding:
    """Frames of one stream in the order they are shown, from where it was last sought."""

    def __init__(self, container: Any, stream: Any, video: Video) -> None:
        self._container, self._stream, self._video = container, stream, video
        self._keys = frozenset(video.keys.tolist())
        self._left = MAX_DECODED
        self._last: int | None = None
        self._vain = 0
        self._frames = self._begun()

    def _begun(self, at_key: bool = False) -> Iterator[tuple[int, Any]]:
        return display.whole_frames(self._decoded(at_key), self._video.unit, self._video.say)

    def close(self) -> None:
        """Let go of the frames; else this and its generator hold each other, and with them the decoder's threads."""
        self._frames = iter(())

    def seek(self, stamp: int) -> None:
        """Go on from the last key frame before a frame, unless that has been passed already.

        A seek may land behind the frame: in MPEG-TS and MPEG-PS FFmpeg seeks by the time of decoding, which is before
        that of showing, and where pictures are refreshed piece by piece the first whole one comes long after the key
        frame. So the frame that comes first is looked at, and where it is too late an earlier place is sought. What
        lies there before a key frame would be decoded onto a grey picture and is left out; so is a key frame whose time
        is not that of one: MPEG-PS times some packets only, and after a seek those between them are guessed.
        """
        import av

        keys = self._video.keys
        place = bisect_right(keys, stamp) - 1
        if self._vain >= VAIN_SEEKS or place < 0 or (self._last is not None and keys[place] <= self._last):
            return
        moved = False
        for target, at_key in self._places_before(stamp, place):
            try:
                self._container.seek(target, stream=self._stream, backward=True)
            except (av.error.FFmpegError, OSError):
                if not moved:
                    # Decoding on takes longer and gives the same.
                    return
                continue
            moved = True
            self._frames = self._begun(at_key)
            first = next(self._frames, None)
            if first is not None:
                self._frames = chain((first,), self._frames)
                if first[0] <= stamp:
                    # It led back behind what had been passed: decoding on would have been cheaper.
                    self._vain += self._last is not None and first[0] <= self._last
                    return

    def _places_before(self, stamp: int, place: int) -> Iterator[tuple[int, bool]]:
        """Where to seek for a frame, in units of the video, and whether a key frame is to be waited for there: to the
        frame itself, to the key frame before it, which is at `place`, to earlier ones by strides that double, to what
        lies before the first frame."""
        yield stamp, True
        back = 0
        while back < place:
            yield int(self._video.keys[place - back]), True
            back = 2 * back + 1
        yield int(self._video.keys[0]), True
        yield int(self._video.stamps[0]) - round(BEFORE_START / self._video.unit), False

    def until(self, stamp: int) -> tuple[int, Any] | None:
        """The next frame that is not before `stamp`."""
        for found, frame in self._frames:
            self._last = found
            if found >= stamp:
                return found, frame
        return None

    def _decoded(self, at_key: bool) -> Iterator[tuple[int, Any]]:
        import av

        number = 0
        for packet in self._packets():
            if at_key and packet.size and not (packet.is_keyframe and _stamp_of(packet) in self._keys):
                continue
            at_key = False
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError):
                # A damaged packet costs its own frames, not the video.
                continue
            for frame in frames:
                stamp = number if self._video.counted else _stamp_of(frame)
                number += 1
                pixels = frame.width * frame.height
                self._left -= pixels
                # A stream may change its size on the way.
                if stamp is not None and pixels <= MAX_FRAME_PIXELS:
                    yield stamp, frame
            if self._left < 0:
                sentence = f"decoding stopped after {MAX_DECODED:.0e} pixels; cut out the part in question"
                self._video.say(Note("stopped_early", sentence))
                return

    def _packets(self) -> Iterator[Any]:
        import av

        try:
            yield from self._container.demux(self._stream)
        except (av.error.FFmpegError, OSError, IndexError) as error:
            self._video.say(Note("stopped_early", f"reading stopped on the way ({_why(error)})"))


def _shown(frame: Any, beside: display.SideData, stream: Any, video: Video) -> np.ndarray:
    try:
        pixels = tone.rgb(frame, video.by_ffmpeg, beside.dolby, video.say)
    except InputError as error:
        raise InputError(error.code, error.sentence, video.sha256) from None
    pixels = display.squared(pixels, stream.sample_aspect_ratio, MAX_FRAME_PIXELS, video.say)
    return np.ascontiguousarray(display.upright(pixels, beside.matrix, video.say))
