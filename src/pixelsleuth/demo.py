"""The demo's images: a public-domain photograph, and tampered copies made of it on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from pixelsleuth.files import whole_file
from pixelsleuth.records import Face
from pixelsleuth.sources.duplicates import perceptual_hash
from pixelsleuth.sources.faces import main_face
from pixelsleuth.sources.images import encode_jpeg, jpeg_round_trip
from pixelsleuth.synthesis.anomalies import (
    Edited,
    feature_ellipse,
    feature_swap,
    local_change,
    turned,
)

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
    """Four edits that the bundled model can see; LOG.md names others that it cannot."""
    mouth, mouth_axes, _ = feature_ellipse(face, "mouth")
    yield "mouth_upside_down", local_change(photo, mouth, mouth_axes[0], lambda p: turned(p, mouth))
    eye, eye_axes, _ = feature_ellipse(face, "left_eye")
    down = 0.9 * mouth_axes[0]
    moved = cv2.warpAffine(photo, np.array([[1.0, 0, 0], [0, 1.0, down]]), photo.shape[1::-1])
    yield "eye_on_the_cheek", local_change(photo, (eye[0], eye[1] + down), 1.1 * eye_axes[0], lambda p: moved)
    cat = np.ascontiguousarray(data.chelsea())
    # Eyes, nose and mouth corners of scikit-image's cat (CC0), by hand.
    marks = ((172.0, 115.0), (318.0, 137.0), (262.0, 240.0), (225.0, 265.0), (290.0, 262.0))
    yield "cat_s_nose", feature_swap(photo, face, cat, Face(face.box, 1.0, marks), "nose", match_colours=True)
    hole = np.zeros(photo.shape[:2], np.uint8)
    half = (round(mouth_axes[0]), round(0.8 * mouth_axes[1]))
    cv2.ellipse(hole, (round(mouth[0]), round(mouth[1])), half, 0, 0, 360, 255, -1)
    yield "mouth_removed", Edited(cv2.inpaint(photo, hole, 5, cv2.INPAINT_TELEA), hole > 0)


def hashes() -> set[str]:
    """Perceptual hashes, 16 hexadecimal digits each, of the demo's pictures."""
    return {f"{int(perceptual_hash(pixels)):016x}" for _, pixels in tampered_copies()}


def write_pictures(folder: Path) -> list[Path]:
    """Write the demo's pictures and give their paths, the untouched one first."""
    paths = []
    for name, pixels in tampered_copies():
        path = folder / f"{name}.jpg"
        with whole_file(path) as partial:
            partial.write_bytes(encode_jpeg(pixels, QUALITY))
        paths.append(path)
    return paths
