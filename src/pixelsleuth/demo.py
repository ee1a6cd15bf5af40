"""The demo's pictures: a public-domain photograph and tampered copies of it, made on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from pixelsleuth.files import whole_file
from pixelsleuth.records import Face
from pixelsleuth.sources.anomalies import (
    Edited,
    feature_ellipse,
    feature_swap,
    local_change,
    turned,
)
from pixelsleuth.sources.faces import main_face
from pixelsleuth.sources.images import encode_jpeg, jpeg_round_trip

#: All pictures of the demo, the untouched one too, are written as JPEG of this quality.
QUALITY = 95


def tampered_copies() -> Iterator[tuple[str, np.ndarray]]:
    """(name, (H, W, 3) uint8): the untouched photograph (NASA's portrait of Eileen Collins, public domain), then
    copies with one local edit each."""
    # One encoding for all, before and after the edit, so that the file says nothing.
    photo = jpeg_round_trip(np.ascontiguousarray(data.astronaut()), QUALITY)
    face = main_face(photo)
    yield "untouched", photo
    for name, edited in _edits(photo, face):
        yield name, edited.pixels


def _edits(photo: np.ndarray, face: Face) -> Iterator[tuple[str, Edited]]:
    centre, axes, _ = feature_ellipse(face, "mouth")
    yield "mouth_upside_down", local_change(photo, centre, axes[0], lambda p: turned(p, centre))
    eye, eye_axes, _ = feature_ellipse(face, "left_eye")
    forehead = (eye[0] + 1.3 * eye_axes[0], eye[1] - 1.6 * eye_axes[0])
    shift = np.array([[1.0, 0, forehead[0] - eye[0]], [0, 1.0, forehead[1] - eye[1]]])
    third_eye = cv2.warpAffine(photo, shift, photo.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    yield "third_eye", local_change(photo, forehead, eye_axes[0], lambda p: third_eye)
    cat = np.ascontiguousarray(data.chelsea())
    # Eyes, nose and mouth corners of scikit-image's cat (CC0), by hand.
    marks = ((172.0, 115.0), (318.0, 137.0), (262.0, 240.0), (225.0, 265.0), (290.0, 262.0))
    cat_face = Face(face.box, 1.0, marks)
    yield "cat_s_eye", feature_swap(photo, face, cat, cat_face, "right_eye", match_colours=True)
    mouth, mouth_axes, _ = feature_ellipse(face, "mouth")
    forehead = (mouth[0], face.landmarks[0][1] - 0.9 * mouth_axes[0])
    shift = np.array([[1.0, 0, forehead[0] - mouth[0]], [0, 1.0, forehead[1] - mouth[1]]])
    second_mouth = cv2.warpAffine(photo, shift, photo.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    yield "second_mouth", local_change(photo, forehead, 0.8 * mouth_axes[0], lambda p: second_mouth)


def write_pictures(folder: Path) -> list[Path]:
    """Writes the demo's pictures and gives their paths, the untouched one first."""
    paths = []
    for name, pixels in tampered_copies():
        path = folder / f"{name}.jpg"
        with whole_file(path) as partial:
            partial.write_bytes(encode_jpeg(pixels, QUALITY))
        paths.append(path)
    return paths
