"""Videos made at run time."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
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
