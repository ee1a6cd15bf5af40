"""Simulate what happens to a whole image between the lens and the file: none of it is a forgery.

Both pictures of a pair pass the same chain, so that neither source nor coding tells them apart, and a detective learns
to take benign treatment calmly.
"""

from __future__ import annotations

import cv2
import numpy as np

from pixelsleuth.sources.images import jpeg_round_trip
from pixelsleuth.synthesis import anomalies
from pixelsleuth.synthesis.corruptions import h264_round_trip, webp_round_trip

_KERNELS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_NEAREST)


def treated(pixels: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """(H, W, 3) uint8 as a camera, an editor's whole-picture tools and the way to the reader leave it; the same for the
    same seed, whatever the picture."""
    generator = np.random.default_rng(seed)
    made = _developed(pixels, generator)
    if generator.random() < 0.35:
        made = _scaled(made, generator)
    return _coded(made, generator)


def _developed(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Tone, colour, focus, grain."""
    made = pixels
    if generator.random() < 0.5:
        made = _toned(made, generator)
    # Drawn whether or not they are used: a draw must not depend on the picture.
    choice, strength = generator.random(), generator.random()
    side = made.shape[0]
    if choice < 0.12:
        made = anomalies.blurred(made, 0.3 + strength * 0.006 * side)
    elif choice < 0.24:
        made = anomalies.sharpened(made, 0.2 + 1.2 * strength)
    elif choice < 0.29:
        made = cv2.bilateralFilter(made, -1, 10 + 35 * strength, 0.008 * side)
    elif choice < 0.32:
        made = cv2.medianBlur(made, 3)
    grain = generator.random()
    if grain < 0.2:
        sigma = float(np.exp(generator.uniform(np.log(1.0), np.log(10.0))))
        grey = generator.random() < 0.5
        noise = generator.normal(0, sigma, (*made.shape[:2], 1 if grey else 3))
        made = np.clip(made + noise, 0, 255).astype(np.uint8)
    return made


def _toned(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    made = pixels.astype(np.float32) / 255
    gamma, gain, lift = generator.uniform(0.7, 1.45), generator.uniform(0.8, 1.25), generator.uniform(-0.08, 0.08)
    tint, saturation = generator.uniform(0.9, 1.1, 3).astype(np.float32), generator.uniform(0.6, 1.4)
    made = np.clip((made**gamma - 0.5) * gain + 0.5 + lift, 0, 1)
    colour, vignette = generator.random(), generator.random()
    grey = made @ np.array([0.299, 0.587, 0.114], np.float32)
    if colour < 0.2:
        made = np.repeat(grey[..., None], 3, 2)
        if colour < 0.05:
            made = made * tint
    elif colour < 0.7:
        made = (grey[..., None] + (made - grey[..., None]) * saturation) * tint
    if vignette < 0.08:
        height, width = made.shape[:2]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        made = made * (1 - generator.uniform(0.1, 0.4) * (x**2 + y**2) / 2)[..., None]
    return np.clip(made * 255, 0, 255).astype(np.uint8)


def _scaled(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Scaled once, down or up, by some kernel; the size stays what it became."""
    height, width = pixels.shape[:2]
    factor = float(np.exp(generator.uniform(np.log(0.45), np.log(1.5))))
    kernel = _KERNELS[int(generator.choice(5, p=(0.35, 0.25, 0.25, 0.13, 0.02)))]
    size = (max(48, round(width * factor)), max(48, round(height * factor)))
    return cv2.resize(pixels, size, interpolation=kernel)


def _coded(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Nothing, JPEG of 40 to 100 once or twice, WebP, or a frame of H.264."""
    choice = generator.random()
    qualities = [int(100 - 60 * generator.beta(1.2, 1.8)) for _ in range(2)]
    if choice < 0.12:
        return pixels
    if choice < 0.57:
        return jpeg_round_trip(pixels, qualities[0])
    if choice < 0.77:
        return jpeg_round_trip(jpeg_round_trip(pixels, qualities[0]), qualities[1])
    if choice < 0.85:
        return webp_round_trip(pixels, float(generator.uniform(40, 95)))
    return h264_round_trip(pixels, float(generator.uniform(18, 33)))
