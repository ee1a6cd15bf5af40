"""One input of any kind, read and cut as the networks saw pictures in training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pixelsleuth.errors import InputError
from pixelsleuth.records import Box, Face, Note
from pixelsleuth.sources import faces
from pixelsleuth.sources.dicom import holds_series
from pixelsleuth.sources.faces import Framing
from pixelsleuth.sources.images import IMAGE_SUFFIXES, MIN_SIDE, Picture, decode, read_bytes
from pixelsleuth.sources.tracks import Policy, Sighting, surrounded, tracks_of
from pixelsleuth.sources.videos import VIDEO_SUFFIXES, Video, frames_at, looks_like_video, open_video
from pixelsleuth.sources.volumes import is_volume

Input = str | os.PathLike[str] | Image.Image | np.ndarray

#: Frames judged as a whole where a face is wanted and none is found.
WHOLE_FRAMES = 4


@dataclass(frozen=True)
class Preparation:
    """How inputs are cut; from a model's preprocessing.

    Attributes:
        sizes: sides of the square's views in pixels.
        crop: `face`, or `none`: the largest centred square.
    """

    sizes: faces.Sizes
    crop: str
    framing: Framing
    policy: Policy


@dataclass(frozen=True)
class Look:
    """One square to judge.

    Attributes:
        face: where it was cut, in pixels of the input; confidence 0 where it is the whole picture for want of a face.
        views: the square as the networks see it.
        index, time: of the frame, -1 and 0 for a picture.
        surroundings: of a frame, what lies around the square, and the square's place on it; None for a picture.
    """

    face: Face
    views: faces.Views
    index: int = -1
    time: float = 0.0
    surroundings: tuple[np.ndarray, Box] | None = None


@dataclass(frozen=True)
class Prepared:
    """One input, ready for the networks.

    Attributes:
        path: as it was given, or "<array>".
        kind: `image` or `video`.
        source: a picture's encoded bytes, or the array that was given: decoded pixels of many photos would fill
            memory; None for a video.
        shape: (H, W) of the upright input.
        tracks: the squares to judge, by person: a picture's faces have one each, a video's tracks several.
        notes: what was done to read it.
    """

    path: str
    sha256: str
    kind: str
    source: bytes | np.ndarray | None
    shape: tuple[int, int]
    tracks: tuple[tuple[Look, ...], ...]
    notes: tuple[Note, ...] = ()

    @property
    def main(self) -> Look:
        """The first square: the largest face."""
        return self.tracks[0][0]

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB of a whole picture."""
        assert self.source is not None, "a video has no pixels of its own"
        return decode(self.source).pixels if isinstance(self.source, bytes) else self.source


def find_inputs(root: Path) -> Iterator[Path]:
    """Every file below `root` with the suffix of a picture, a video or a volume, in sorted order, hidden files left
    out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            known = Path(name).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES or is_volume(name)
            if known and not name.startswith("."):
                yield Path(folder) / name


def path_of(source: Input) -> str:
    """An input's path as it was given, or "<array>"."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "<array>"


def kind_of(source: Input) -> str:
    """`image`, `video` or `volume` (a folder is a DICOM series), by what the file begins with, else by its suffix; what
    cannot be read counts as an image."""
    if not isinstance(source, str | os.PathLike):
        return "image"
    path = Path(source)
    if is_volume(path) or (path.is_dir() and holds_series(path)):
        return "volume"
    try:
        if path.is_file():
            with open(path, "rb") as file:
                head = file.read(64)
            if looks_like_video(head):
                return "video"
            if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")):
                return "image"
    except OSError:
        pass
    return "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image"


def prepare(source: Input, how: Preparation, whole_without_face: bool = False) -> Prepared:
    """Reads one input and cuts the squares that the networks see.

    Args:
        whole_without_face: take the whole picture, or whole frames, where a face is wanted and none is found.

    Raises:
        InputError: the input cannot be read, or holds no face where one is wanted.
    """
    if kind_of(source) == "video":
        assert isinstance(source, str | os.PathLike)
        try:
            return _prepared_video(open_video(source), how, whole_without_face)
        except InputError:
            raise
        except Exception as error:
            # What a decoder makes of a broken file is not foreseeable; it must not stop a run of many.
            sentence = f"reading failed ({type(error).__name__}: {error}); look at the file"
            raise InputError("failed", sentence) from error
    path, picture = _read(source)
    try:
        found = faces.judged_faces(picture.pixels, how.framing) if how.crop == "face" else [_whole(picture.pixels, 1.0)]
    except InputError as error:
        if not whole_without_face:
            raise InputError(error.code, error.sentence, picture.sha256) from None
        found = [_whole(picture.pixels, 0.0)]
    looks = tuple((_look(face, how, picture.pixels, face.box),) for face in found)
    height, width = picture.pixels.shape[:2]
    return Prepared(
        path, picture.sha256, "image", picture.encoded or picture.pixels, (height, width), looks, picture.notes
    )


def _prepared_video(video: Video, how: Preparation, whole_without_face: bool) -> Prepared:
    if how.crop != "face":
        return _whole_frames(video, how, how.policy.keep, 1.0)
    try:
        tracks, seen = tracks_of(video, how.policy, how.framing)
    except InputError as error:
        if not whole_without_face or error.code not in ("no_face", "face_too_small"):
            raise
        return _whole_frames(video, how, WHOLE_FRAMES, 0.0)
    looks = tuple(tuple(_sighted(s, how) for s in track.sightings) for track in tracks)
    notes = (*video.notes, Note("frames_seen", f"{seen} of {len(video):,} frames looked at"))
    return Prepared(video.path, video.sha256, "video", None, tracks[0].sightings[0].shape, looks, notes)


def _sighted(sighting: Sighting, how: Preparation) -> Look:
    around = (sighting.surroundings, sighting.box)
    return _look(sighting.face, how, *around, index=sighting.index, time=sighting.time, surroundings=around)


def _look(face: Face, how: Preparation, pixels: np.ndarray, box: Box, **about: Any) -> Look:
    # What is cut again from the surroundings of a frame must be looked at as the frame itself is.
    return Look(face, faces.cut_views(pixels, box, how.sizes, face.box.width >= faces.NEAR_SIDE), **about)


def _whole_frames(video: Video, how: Preparation, count: int, confidence: float) -> Prepared:
    looks = []
    shape = (0, 0)
    for frame in frames_at(video, Policy(frames=count).indices(len(video))):
        face = _whole(frame.pixels, confidence)
        shape = (frame.pixels.shape[0], frame.pixels.shape[1])
        about = {"index": frame.index, "time": frame.time, "surroundings": surrounded(frame.pixels, face.box)}
        looks.append(_look(face, how, frame.pixels, face.box, **about))
    if not looks:
        raise InputError("no_frames", "no frame could be decoded; copy the video again from its source", video.sha256)
    return Prepared(video.path, video.sha256, "video", None, shape, (tuple(looks),), video.notes)


def _whole(pixels: np.ndarray, confidence: float) -> Face:
    return Face(faces.whole_picture(pixels), confidence)


def _read(source: Input) -> tuple[str, Picture]:
    path = path_of(source)
    if isinstance(source, str | os.PathLike):
        data = read_bytes(source)
        try:
            return path, decode(data)
        except InputError as error:
            code, sentence = error.code, error.sentence
            if code == "not_an_image" and path.lower().endswith((".nii", ".nii.gz")):
                code = "unsupported_kind"
                sentence = "this model judges pictures and videos; give --model one that was trained on volumes"
            raise InputError(code, sentence, hashlib.sha256(data).hexdigest()) from None
    array = np.asarray(source.convert("RGB")) if isinstance(source, Image.Image) else source
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InputError(
            "wrong_array", f"expected (H, W, 3) uint8 RGB, got {array.shape} {array.dtype}; convert it first"
        )
    array = np.ascontiguousarray(array)
    if min(array.shape[:2]) < MIN_SIDE:
        raise InputError(
            "too_small", f"the picture is {array.shape[1]} x {array.shape[0]}, at least {MIN_SIDE} px are needed"
        )
    return path, Picture(array, hashlib.sha256(array.tobytes()).hexdigest(), b"")
