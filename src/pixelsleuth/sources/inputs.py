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
from pixelsleuth.files import sha256_of
from pixelsleuth.records import Box, Face, Note
from pixelsleuth.sources import faces, formats
from pixelsleuth.sources.dicom import holds_series, series_in
from pixelsleuth.sources.faces import Framing
from pixelsleuth.sources.images import (
    MAX_BYTES,
    MIN_SIDE,
    Picture,
    check_format,
    checked_file,
    decode,
    read_bytes,
    rgb_of,
)
from pixelsleuth.sources.retries import check_room
from pixelsleuth.sources.scanfiles import is_companion
from pixelsleuth.sources.tracks import Policy, Sighting, surrounded, tracks_of
from pixelsleuth.sources.videos import Video, frames_at, open_video


@dataclass(frozen=True)
class Refused:
    """Something found in a folder that is refused without being read, and why."""

    path: str
    kind: str
    code: str
    sentence: str


Input = str | os.PathLike[str] | Image.Image | np.ndarray | Refused

#: Frames judged as a whole where a face is wanted and none is found.
WHOLE_FRAMES = 4


@dataclass(frozen=True)
class Preparation:
    """How inputs are cut; from a model's preprocessing.

    Attributes:
        sizes: sides of the square's views in pixels.
        crop: `face`, or `none`: the largest centred square.
        face: which faces of a picture are judged: `all`, `largest`, or the number of one, 1 being the largest.
    """

    sizes: faces.Sizes
    crop: str
    framing: Framing
    policy: Policy
    face: str = "all"


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


def find_inputs(root: Path, leftovers: list[str] | None = None) -> Iterator[Path | Refused]:
    """Everything in a folder and below, in sorted order, so that nothing vanishes: files, DICOM series (each is one
    input), and what cannot be read.

    Links to folders are followed where they lead out of `root`; within it they would only repeat what is there.

    Args:
        leftovers: gets the paths, below `root`, of what is plainly no picture, video or scan, or is hidden.
    """
    said = leftovers if leftovers is not None else []
    home = os.path.realpath(root)
    seen = {home}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            told = f"the folder cannot be listed ({error.strerror}); check its permissions"
            yield Refused(os.fspath(folder), "image", "unreadable", told)
            continue
        names, folders = [], []
        for entry in entries:
            path = folder / entry.name
            inside = _is_folder(path)
            if formats.is_litter(entry.name):
                said.append(os.path.relpath(path, root) + ("/" if inside else ""))
            elif not inside:
                names.append(path)
            elif entry.is_symlink() and _leads_back(path, home, seen):
                told = "a link to a folder that is read already, or that it lies in; nothing is read twice"
                yield Refused(os.fspath(path), "image", "not_a_file", told)
            else:
                folders.append(path)
        yield from _found_in(folder, names, root, said)
        waiting += reversed(folders)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _leads_back(path: Path, home: str, seen: set[str]) -> bool:
    """Whether a link leads to where the search is, was or will be; else it is remembered."""
    target = os.path.realpath(path)
    for other in (home, *seen):
        if os.path.commonpath((target, other)) in (target, other):
            return True
    seen.add(target)
    return False


def _found_in(folder: Path, names: list[Path], root: Path, leftovers: list[str]) -> Iterator[Path | Refused]:
    kinds = {path: formats.sniffed(path) for path in names}
    slices = [path for path, found in kinds.items() if found is formats.DICOM]
    # One alone is a file like any other.
    series = series_in(folder) if len(slices) > 1 else []
    claimed = {path for _, files in series for path in files}
    yield from (Path(name) for name, _ in series)
    for path, found in kinds.items():
        if path in claimed:
            continue
        if found.plain:
            leftovers.append(os.path.relpath(path, root))
        elif found.kind == "volume" and is_companion(path):
            told = "the header of a pair; its record is that of the file beside it that holds the voxels"
            yield Refused(os.fspath(path), "volume", "part_of_pair", told)
        else:
            yield path


def path_of(source: Input) -> str:
    """An input's path as it was given, or "<array>"."""
    if isinstance(source, Refused):
        return source.path
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "<array>"


def kind_of(source: Input) -> str:
    """`image`, `video` or `volume` (a folder is a DICOM series), by what the file begins with, else by its suffix; what
    is none of these counts as an image."""
    if isinstance(source, Refused):
        return source.kind
    if not isinstance(source, str | os.PathLike):
        return "image"
    path = Path(source)
    if holds_series(path):
        return "volume"
    kind = formats.sniffed(path).kind
    return "image" if kind == "other" else kind


def check_kind(source: Input, takes: str) -> None:
    """That an input is there, is a file, and is of a kind that a model takes.

    Args:
        takes: `pictures` (and videos) or `volumes`.

    Raises:
        InputError: what `checked_file` raises, `unsupported_kind`, or, of what no model takes, `unsupported_format`.
    """
    if isinstance(source, Refused):
        raise InputError(source.code, source.sentence)
    if not isinstance(source, str | os.PathLike):
        if takes == "volumes":
            raise InputError(
                "unsupported_kind",
                "this model judges scans, got a picture; take one for pictures, such as faces",
            )
        return
    volume = kind_of(source) == "volume"
    if volume and takes == "volumes":
        return
    path = Path(source)
    size = 0 if volume and not path.is_file() else checked_file(path)
    if not volume and takes == "pictures":
        return
    found = formats.sniffed(path) if path.is_file() else formats.DICOM
    # What no model takes is refused for what it is, whatever the model.
    sha256 = sha256_of(path) if 0 < size <= MAX_BYTES else None
    if not found.readable and found.name and not found.plain:
        raise InputError("unsupported_format", found.refusal, sha256)
    if takes == "pictures":
        told = f"this model judges pictures and videos, got a scan ({found.name}); take one for scans, such as brain_t1"
    else:
        known = found.kind in ("image", "video") and found.name
        got = f"a {'video' if found.kind == 'video' else 'picture'} ({found.name})" if known else "something else"
        told = f"this model judges scans (NIfTI, MGH, NRRD, DICOM), got {got}; take one for pictures, such as faces"
    raise InputError("unsupported_kind", told, sha256)


def prepare(source: Input, how: Preparation, whole_without_face: bool = False) -> Prepared:
    """Reads one input and cuts the squares that the networks see.

    Args:
        whole_without_face: take the whole picture, or whole frames, where a face is wanted and none is found.

    Raises:
        InputError: the input cannot be read, or holds no face where one is wanted.
    """
    check_kind(source, "pictures")
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
    notes = list(picture.notes)
    try:
        if how.crop == "face":
            found = faces.judged_faces(picture.pixels, how.framing, notes)
            found = faces.chosen(found, how.face, notes)
            if not whole_without_face:
                check_room(found[0], picture.pixels.shape)
        else:
            found = [_whole(picture.pixels, 1.0)]
    except InputError as error:
        if not whole_without_face:
            raise InputError(error.code, error.sentence, picture.sha256, tuple(notes)) from None
        found = [_whole(picture.pixels, 0.0)]
    looks = tuple((_look(face, how, picture.pixels, face.box),) for face in found)
    height, width = picture.pixels.shape[:2]
    kept = picture.encoded or picture.pixels
    return Prepared(path, picture.sha256, "image", kept, (height, width), looks, tuple(notes))


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
    assert not isinstance(source, Refused)
    if isinstance(source, str | os.PathLike):
        name = Path(source).name
        try:
            data = read_bytes(source)
        except InputError as error:
            if error.code == "too_large":
                check_format(formats.sniffed(source), b"")
            raise
        try:
            return path, decode(data, name=name)
        except InputError as error:
            raise InputError(error.code, error.sentence, hashlib.sha256(data).hexdigest()) from None
    array = rgb_of(source) if isinstance(source, Image.Image) else source
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
