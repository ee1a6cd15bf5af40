"""Image corruptions at graded severities (common corruptions: Hendrycks & Dietterich 2019)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from pixelsleuth.sources.images import jpeg_round_trip
from pixelsleuth.synthesis.anomalies import blurred, noisy


@dataclass(frozen=True)
class Corruption:
    """One kind.

    Attributes:
        unit: of the severities.
        severities: from mild to strong.
        change: (H, W, 3) uint8 and a severity -> the same shape.
        largest: side in pixels that its format can hold at most; None: any.
    """

    unit: str
    severities: tuple[float, ...]
    change: Callable[[np.ndarray, float], np.ndarray]
    largest: int | None = None

    def at(self, severity: float) -> Callable[[np.ndarray], np.ndarray]:
        """The change at one severity."""
        return lambda pixels: self.change(pixels, severity)


def webp_round_trip(pixels: np.ndarray, quality: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB, encoded as lossy WebP of `quality` and decoded again."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=round(quality))
    return np.asarray(Image.open(buffer, formats=("WEBP",)).convert("RGB"))


def h264_round_trip(pixels: np.ndarray, crf: float) -> np.ndarray:
    """(H, W, 3) uint8 RGB, encoded as the one frame of an H.264 video (4:2:0) at this constant rate factor, and decoded
    again."""
    import av

    height, width = pixels.shape[:2]
    # Chroma is halved, so sides must be even.
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = even.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": f"{crf:g}", "preset": "veryfast"}
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as made:
        frame = next(made.decode(video=0))
    return np.ascontiguousarray(frame.to_ndarray(format="rgb24")[:height, :width])


def scaled_and_back(pixels: np.ndarray, share: float) -> np.ndarray:
    """(H, W, 3) uint8 scaled to `share` of its sides and back, so that faces keep their size in pixels."""
    height, width = pixels.shape[:2]
    small = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(cv2.resize(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), (width, height)))


def with_noise(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W, 3) uint8 with Gaussian noise that the picture itself keys, so that it is the same in every run."""
    key = int(hashlib.sha256(pixels.tobytes()).hexdigest()[:32], 16)
    return noisy(pixels, sigma, np.random.Generator(np.random.Philox(key=key)))


CORRUPTIONS = {
    # What libjpeg, libwebp and x264 take at most.
    "jpeg": Corruption("quality", (90, 75, 50, 30), lambda pixels, q: jpeg_round_trip(pixels, round(q)), 65_500),
    "webp": Corruption("quality", (90, 75, 50, 30), webp_round_trip, 16_383),
    "h264": Corruption("rate factor", (18, 23, 28, 35), h264_round_trip, 16_384),
    "resize": Corruption("share of the sides", (0.9, 0.75, 0.5, 0.35), scaled_and_back),
    "blur": Corruption("sigma in pixels", (0.5, 1, 2, 3), blurred),
    "noise": Corruption("sigma in grey levels", (2, 5, 10, 20), with_noise),
}
