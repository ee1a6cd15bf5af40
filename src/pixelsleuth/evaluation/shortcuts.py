"""Trivial measures of images, to audit whether they alone separate two sets without a look at the content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.scoring.complexity import jpeg_bytes, laplacian_variance
from pixelsleuth.sources.formats import HEAD, JPEG, format_of
from pixelsleuth.sources.images import decode, opened, read_bytes
from pixelsleuth.sources.inputs import kind_of
from pixelsleuth.sources.videos import frames_at, open_video
from pixelsleuth.synthesis.anomalies import blurred


@dataclass(frozen=True)
class Probe:
    """Trivial measures of one picture; for all but the file's own facts it is first scaled to 128 px.

    Attributes:
        blur: minus the variance of the Laplacian; higher is blurrier.
        jpeg_size: minus the bytes as JPEG of quality 90; higher is plainer.
        brightness: mean luma in [0, 1].
        contrast: standard deviation of luma in [0, 1].
        file_bytes, width, height: of the file.
        quantisation: mean of the JPEG's luma quantisation table, 0 for other formats.
        is_jpeg: 1 or 0.
    """

    blur: float
    jpeg_size: float
    brightness: float
    contrast: float
    file_bytes: float
    width: float
    height: float
    quantisation: float
    is_jpeg: float


def probe(path: Path, size: int = 128, sigma: float = 0.0) -> Probe:
    """Measure one picture, first blurred by `sigma` pixels, or the middle frame of a video. Raises InputError where it
    cannot be read."""
    if kind_of(path) == "video":
        return _of_video(path, size)
    data = read_bytes(path)
    picture = decode(data)
    height, width = picture.pixels.shape[:2]
    small = cv2.resize(blurred(picture.pixels, sigma), (size, size), interpolation=cv2.INTER_AREA)
    jpeg = format_of(data[:HEAD]) is JPEG
    tables = getattr(opened(data), "quantization", None) or {} if jpeg else {}
    return Probe(
        **_looks(small),
        file_bytes=float(len(data)),
        width=float(width),
        height=float(height),
        quantisation=float(np.mean(tables[0])) if 0 in tables else 0.0,
        is_jpeg=float(jpeg),
    )


def _of_video(path: Path, size: int) -> Probe:
    video = open_video(path)
    frame = next(frames_at(video, [len(video) // 2]), None)
    if frame is None:
        raise InputError("no_frames", "its middle frame cannot be decoded", video.sha256)
    height, width = frame.pixels.shape[:2]
    small = cv2.resize(frame.pixels, (size, size), interpolation=cv2.INTER_AREA)
    file_bytes = float(path.stat().st_size)
    return Probe(**_looks(small), file_bytes=file_bytes, width=width, height=height, quantisation=0.0, is_jpeg=0.0)


def _looks(small: np.ndarray) -> dict[str, float]:
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    return {
        "blur": -laplacian_variance(small),
        "jpeg_size": -float(jpeg_bytes(small)),
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
    }
