"""Outlines of a face and its features from the five points of the face detector; forgeries are cut along them.

A linear model in the frame of the eyes, fitted to MediaPipe's face mesh on training faces
(`experiments/tools/fit_landmarks.py`); it follows pose and the opening of the mouth as far as five points tell of them.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import cv2
import numpy as np

#: Points of each region, in the order of the model's output.
COUNTS = {"face": 36, "left_eye": 16, "right_eye": 16, "left_brow": 10, "right_brow": 10, "nose": 12, "mouth": 20}
FEATURES = ("left_eye", "right_eye", "nose", "mouth")


def framed(five: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frame of (5, 2) points: the middle of the eyes, and the (2, 2) matrix that takes an offset from it, as a row, to
    units of the distance between the eyes, the eyes lying level."""
    left, right = five[0].astype(np.float64), five[1].astype(np.float64)
    across = right - left
    span = max(float(np.hypot(*across)), 1e-6)
    cos, sin = across / span
    return (left + right) / 2, np.array([[cos, -sin], [sin, cos]]) / span


def design(five: np.ndarray) -> np.ndarray:
    """(11,) float64, what the linear model is given of (5, 2) points: 1, and the points in their own frame."""
    origin, turn = framed(five)
    return np.concatenate([[1.0], ((five - origin) @ turn).ravel()])


@cache
def _weights() -> np.ndarray:
    from safetensors.numpy import load

    data = resources.files("pixelsleuth").joinpath("assets/landmarks/shape.safetensors").read_bytes()
    return load(data)["weights"].astype(np.float64)


def outlines(five: np.ndarray) -> dict[str, np.ndarray]:
    """Region -> (n, 2) float32 points in pixels, from the (5, 2) points of the face finder."""
    origin, turn = framed(five)
    flat = (design(five) @ _weights()).reshape(-1, 2) @ np.linalg.inv(turn) + origin
    found, first = {}, 0
    for name, count in COUNTS.items():
        found[name] = flat[first : first + count].astype(np.float32)
        first += count
    return found


def hull(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) float32, 1 within the convex hull of (n, 2) points, else 0."""
    mask = np.zeros(shape[:2], np.float32)
    corners = cv2.convexHull(np.clip(np.rint(points), -8192, 8192).astype(np.int32))
    cv2.fillConvexPoly(mask, corners, 1.0)
    return mask
