"""A second look at a picture in which the first finds no face: does one fill it, or is one small in a large picture?

Only where nothing was found: ordinary pictures are judged by the first look alone, as calibration was.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.records import Face, Note
from pixelsleuth.sources import faces
from pixelsleuth.sources.faces import Framing

#: Pixels of the copy that is searched for small faces: of 12 megapixels about a second, and 200 MB.
MOST_SEARCHED = 5_000_000
#: Shares of a picture that it is padded by on each side, one after the other.
PADDING = (0.25, 0.5)
#: Confidence of a face that the first look missed: more places are looked at, and more are mistaken for faces.
SURE = 0.98
#: A face on a padded copy fills the picture where its square is this much of the shorter side, and leaves it.
FILLS = 0.6
#: Side of a square, in that of the whole face by its landmarks, below which it is cut: squares of faces with room have
#: .93 (median of faces_world), of the tightest data set (DFDC's crops) .66 and more; of a normal face cropped closer
#: than that most are called anomalous for the crop alone.
TIGHTEST = 0.65
_FILLS = "the face fills the picture, brow, chin or cheeks cut off; use one that leaves more room around the face"


def check_room(face: Face, shape: tuple[int, ...]) -> None:
    """Raises InputError, `face_fills_picture`, where a picture leaves a face so little room that its square cuts it."""
    if face.box.width < 0.97 * min(shape[:2]) or len(face.landmarks) != 5:
        return
    _, whole, _ = faces.aligned_square(np.array(face.landmarks))
    if face.box.width < TIGHTEST * whole:
        raise InputError("face_fills_picture", _FILLS)


def found_again(pixels: np.ndarray, framing: Framing, notes: list[Note]) -> list[Face]:
    """Faces of a picture in which none was found, largest first.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Raises:
        InputError: `face_fills_picture`. Calibration saw no face that is cut off at brow or chin: most would be called
            anomalous for that alone.
    """
    surer = replace(framing, min_confidence=max(framing.min_confidence, SURE))
    if _fills(pixels, surer):
        raise InputError("face_fills_picture", _FILLS)
    height, width = pixels.shape[:2]
    first = faces.DETECTION_SIDE / max(height, width)
    scale = min(1.0, (MOST_SEARCHED / (height * width)) ** 0.5)
    if scale < 1.2 * first:
        return []
    found = faces.find_faces(pixels, surer, scale)
    if found:
        notes.append(Note("small_face", f"small in its picture: found on a second look, at {scale:.0%} of its size"))
    return found


def _fills(pixels: np.ndarray, framing: Framing) -> bool:
    """Whether a face as large as the picture is found once its border is drawn out on every side."""
    height, width = pixels.shape[:2]
    scale = min(1.0, faces.DETECTION_SIDE / max(height, width))
    small = pixels
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    for share in PADDING:
        edge = round(share * max(small.shape[:2]))
        padded = cv2.copyMakeBorder(small, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
        for face in faces.find_faces(padded, framing):
            box = [side - edge for side in face.box.as_list()]
            cut = min(box) < 0 or box[2] > small.shape[1] or box[3] > small.shape[0]
            if cut and face.box.width >= FILLS * min(small.shape[:2]):
                return True
    return False
