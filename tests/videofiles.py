"""Videos made at run time."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition
from skimage import data


def face_frames(count: int, side: int = 256, drift: float = 1.0, people: int = 1) -> list[np.ndarray]:
    """(side, side * people, 3) uint8 frames of NASA's portrait of Eileen Collins (public domain), moving slowly."""
    photo = cv2.resize(
        np.ascontiguousarray(data.astronaut()[:240, 104:344]), (side, side), interpolation=cv2.INTER_AREA
    )
    wide = np.concatenate([photo[:, ::-1] if i % 2 else photo for i in range(people)], 1)
    move = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    frames = []
    for number in range(count):
        move[0, 2] = drift * np.sin(number / 5 + drift) * 4
        frames.append(cv2.warpAffine(wide, move, wide.shape[1::-1], borderMode=cv2.BORDER_REFLECT))
    return frames


def numbered_frames(count: int, width: int = 160, height: int = 96) -> list[np.ndarray]:
    """Frames whose grey level says which they are, of every 40."""
    return [np.full((height, width, 3), 20 + 5 * (number % 40), np.uint8) for number in range(count)]


def write_video(
    path: Path, frames: Iterable[np.ndarray], rate: int = 25, rotation: int = 0, times: list[float] | None = None
) -> Path:
    """Writes H.264 (in the container that the suffix names); `times` in seconds give a variable frame rate."""
    frames = list(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        stream.options = {"crf": "18", "preset": "ultrafast"}
        # AVI has no times of its own, only a rate.
        unit = Fraction(1, rate) if path.suffix == ".avi" else Fraction(1, 1000)
        stream.time_base = stream.codec_context.time_base = unit
        if rotation:
            stream.set_display_rotation(rotation)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = round((times[number] if times else Fraction(number, rate)) / unit)
            frame.time_base = unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """An MP4 with sound and no picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def broken_videos(folder: Path) -> dict[Path, str]:
    """Paths of bad videos -> the reason's code."""
    whole = write_video(folder / "whole.mp4", numbered_frames(30)).read_bytes()
    (folder / "whole.mp4").unlink()
    made = {
        "truncated.mp4": (whole[: len(whole) // 2], "not_a_video"),
        "text.mp4": (b"this is no video\n" * 20, "not_a_video"),
        "empty.mp4": (b"", "empty"),
    }
    for name, (content, _) in made.items():
        (folder / name).write_bytes(content)
    found = {folder / name: code for name, (_, code) in made.items()}
    return found | {write_sound(folder / "sound.mp4"): "no_video_stream", folder / "gone.mp4": "missing"}


@dataclass(frozen=True)
class Coding:
    """How `write_coded` writes a video.

    Attributes:
        matrix, full: by which RGB is turned to luma and chroma (H.273: 1 BT.709, 6 BT.601, 9 BT.2020), and its range.
        tags: matrix, transfer, primaries and range (1 limited, 2 full) that the stream names; 2 or 0: not told.
        aspect: a pixel's width by its height.
        display: (a, b, c, d) of the display matrix.
    """

    codec: str = "libx264"
    layout: str = "yuv444p"
    options: tuple[tuple[str, str], ...] = (("qp", "1"), ("preset", "ultrafast"))
    matrix: int = 6
    full: bool = False
    tags: tuple[int, int, int, int] = (2, 2, 2, 0)
    aspect: Fraction | None = None
    display: tuple[float, float, float, float] | None = None
    keys: int = 12


def write_coded(
    path: Path, frames: Iterable[np.ndarray], how: Coding, rate: int = 25, index_first: bool = False
) -> Path:
    """Writes frames (uint8, or uint16 of full range) as a coding says; an MP4's index before them where asked for."""
    frames = list(frames)
    with av.open(str(path), "w", options={"movflags": "+faststart"} if index_first else {}) as container:
        _mux(container, [_coded_stream(container, frames, how, rate)])
    return path


def _coded_stream(container, frames, how: Coding, rate: int):
    stream = container.add_stream(how.codec, rate=rate, options=dict(how.options))
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = how.layout
    context = stream.codec_context
    context.gop_size = how.keys
    context.colorspace, context.color_trc, context.color_primaries, context.color_range = how.tags
    if how.aspect:
        context.sample_aspect_ratio = how.aspect
    if how.display is not None:
        a, b, c, d = (round(x * 65536) for x in how.display)
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
    return stream, [_planes(pixels, how) for pixels in frames]


def _planes(pixels: np.ndarray, how: Coding) -> av.VideoFrame:
    wide = pixels.dtype == np.uint16
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb48le" if wide else "rgb24")
    made = frame.reformat(format=how.layout, dst_colorspace=how.matrix, dst_color_range=2 if how.full else 1)
    made.colorspace, made.color_trc, made.color_primaries, made.color_range = how.tags
    return made


def _mux(container, streams) -> None:
    for stream, frames in streams:
        for number, frame in enumerate(frames):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_tracks(path: Path, tracks: list[list[np.ndarray]], cover: np.ndarray | None = None) -> Path:
    """Several video tracks, before them a cover picture."""
    with av.open(str(path), "w") as container:
        streams = []
        if cover is not None:
            how = Coding("mjpeg", "yuvj444p", ())
            stream, made = _coded_stream(container, [cover], how, 25)
            stream.disposition = Disposition.attached_pic
            streams.append((stream, made))
        streams += [_coded_stream(container, frames, Coding(), 25) for frames in tracks]
        _mux(container, streams)
    return path


def write_interlaced(path: Path, count: int = 10, codec: str = "libx264") -> Path:
    """A bright square that moves by 10 px from field to field, the upper first."""
    frames = []
    for number in range(count):
        pixels = np.full((240, 320, 3), 40, np.uint8)
        for field in (0, 1):
            left = 20 + (2 * number + field) * 10
            pixels[field::2][40:80, left : left + 60] = 220
        frames.append(pixels)
    options = {"libx264": (("x264-params", "tff=1:interlaced=1"), ("crf", "10"))}.get(
        codec, (("flags", "+ildct+ilme"), ("b", "6000000"))
    )
    return write_coded(path, frames, Coding(codec, "yuv420p", options))


def write_encrypted(path: Path) -> Path:
    """Common encryption, as protected streams have it."""
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    with av.open(str(path), "w", options=options) as container:
        _mux(container, [_coded_stream(container, numbered_frames(8), Coding(), 25)])
    return path


def with_edit_list(path: Path, skipped: int, shown: int, rate: int = 25) -> Path:
    """Changes an MP4's one edit to leave out its first frames and all after those shown."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    scale = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)[0]
    (began,) = struct.unpack_from(">i", content, at + 4)
    struct.pack_into(">Ii", content, at, shown * 1000 // rate, began + skipped * scale // rate)
    path.write_bytes(content)
    return path
