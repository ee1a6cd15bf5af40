"""Read one input of any kind and cut it to the crops that the networks see."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.progress import Progress, Step, unheard
from pixelsleuth.records import Box, Face, Note
from pixelsleuth.sources import faces
from pixelsleuth.sources.duplicates import perceptual_hash
from pixelsleuth.sources.faces import Framing
from pixelsleuth.sources.images import decode, read_picture
from pixelsleuth.sources.inputs import Input, Refused, check_kind, path_of
from pixelsleuth.sources.reencoding import REENCODINGS, cut_reencoded
from pixelsleuth.sources.scans.slices import (
    SCAN_REENCODINGS,
    SLICE_BATCH,
    SliceFraming,
    Slices,
    reencoded_slices,
    slices_of,
)
from pixelsleuth.sources.scans.volumes import Volume, key_of, read_volume
from pixelsleuth.sources.tracks import Policy, Sighting, black_frames, surrounded, tracks_of
from pixelsleuth.sources.videos import Video, frames_at, is_black, open_video

#: Frames judged as a whole where a face is wanted and none is found.
WHOLE_FRAMES = 4


@dataclass(frozen=True)
class CropSettings:
    """How inputs are cut, part of a model's preprocessing, and what else hangs on the kind of inputs it judges.

    Attributes:
        sizes: sides of a crop's views in pixels.
        crop: `face`, `none`: the largest centred square, or `volume`.
        face: which faces of an image are judged: `all`, `largest`, or the number of one, 1 being the largest.
        whole_without_face: whether the whole image, or whole frames, are taken where a face is wanted and none is
            found.
        hashed: whether an image's perceptual hash is taken, too.
        framing: of faces; slices: of volumes; None where there are none.
        takes: `images` (and videos) or `volumes`; kinds: the same as kinds of inputs, the usual one first.
        reencodings: names of the mild re-encodings under which a verdict must hold.
        together: whether several inputs are scored together; maps are pooled within a volume.
        batch: crops scored together unless told otherwise; None: as many as suit the networks.
    """

    sizes: faces.Sizes
    crop: str
    framing: Framing | None = None
    slices: SliceFraming | None = None
    policy: Policy = field(default_factory=Policy)
    face: str = "all"
    whole_without_face: bool = False
    hashed: bool = False
    takes: str = "images"
    kinds: tuple[str, ...] = ("image", "video")
    reencodings: tuple[str, ...] = REENCODINGS
    together: bool = True
    batch: int | None = None

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any], sizes: faces.Sizes) -> CropSettings:
        if preprocessing["crop"] == "volume":
            return cls(
                sizes,
                "volume",
                slices=SliceFraming.of(preprocessing),
                takes="volumes",
                kinds=("volume",),
                reencodings=SCAN_REENCODINGS,
                together=False,
                batch=SLICE_BATCH,
            )
        policy = Policy(pick=preprocessing.get("pick", "even"))
        return cls(sizes, preprocessing["crop"], Framing.of(dict(preprocessing)), policy=policy)

    def with_options(
        self,
        model: str,
        policy: Policy | None = None,
        face: str = "all",
        whole_without_face: bool = False,
        every_score: bool | None = None,
    ) -> CropSettings:
        """These settings under options of `Detector.detect_many`.

        Args:
            model: the name by which errors call it.

        Raises:
            PixelsleuthError: an option that the model cannot honour, as `Detector.detect_many` says. Frames must be
                picked as they were for calibration: the best frames of a video are more normal than its others.
        """
        if self.takes == "volumes":
            asked = {
                "whole_without_face": whole_without_face, "every_score": every_score is False, "face": face != "all",
                "policy": policy is not None,
            }  # fmt: skip
            for setting, given in asked.items():
                if given:
                    raise PixelsleuthError(f"{model} is a model for volumes, which know no such choice", setting)
        faces.check_choice(face)
        if policy is not None and policy.pick != self.policy.pick:
            raise PixelsleuthError(
                f"{model} was calibrated on frames picked {self.policy.pick!r}, {policy.pick!r} was asked for; "
                "train and calibrate on a store whose frames are picked so"
            )
        return replace(self, policy=policy or self.policy, face=face, whole_without_face=whole_without_face)


@dataclass(frozen=True)
class Crop:
    """One square to judge: of an image, a frame or a slice.

    Attributes:
        key: of its random draws, 64 hexadecimal digits.
        face: where it was cut, in pixels of the image, frame or slice; confidence 0 where it is the whole image for
            want of a face.
        views: the crop as the networks see it.
        index, time: of the frame or slice, -1 and 0 of an image.
        surroundings: of a frame, what lies around the crop, and the crop's place on it; else None.
        shape: (H, W) of the frame, which may be another than that of the frame before; None of an image or slice.
    """

    key: str
    face: Face
    views: faces.Views
    index: int = -1
    time: float = 0.0
    surroundings: tuple[np.ndarray, Box] | None = None
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class Sample:
    """One input, ready for the networks.

    Attributes:
        path: as it was given, or "<array>".
        kind: `image`, `video` or `volume`.
        source: an image's encoded bytes, or the array that was given: decoded pixels of many photos would fill memory;
            a volume; None of a video.
        shape: (H, W) of the upright image or of the first crop's frame, (X, Y, Z) of a volume.
        tracks: the crops: of an image one a face, of a video several a person, of a volume one track of slices.
        notes: what was done to read it.
        cut: of a volume, its slices.
        phash: of an image, the perceptual hash of the whole of it, where it was asked for: a face's square moves when
            an image is saved again, and its hash with it.
    """

    path: str
    sha256: str
    kind: str
    source: bytes | np.ndarray | Volume | None
    shape: tuple[int, ...]
    tracks: tuple[tuple[Crop, ...], ...]
    notes: tuple[Note, ...] = ()
    cut: Slices | None = None
    phash: np.uint64 | None = None

    @property
    def crops(self) -> list[Crop]:
        """The crops of all tracks, in order."""
        return [crop for track in self.tracks for crop in track]

    @property
    def rows(self) -> list[range]:
        """For each track, the numbers of its crops among all."""
        found, first = [], 0
        for track in self.tracks:
            found.append(range(first, first + len(track)))
            first += len(track)
        return found

    @property
    def main(self) -> Crop:
        """The first crop: the largest face."""
        return self.tracks[0][0]

    @property
    def volume(self) -> Volume:
        assert isinstance(self.source, Volume), "only a volume has one"
        return self.source

    @property
    def slices(self) -> Slices:
        assert self.cut is not None, "only a volume has slices"
        return self.cut

    def views(self, encoding: str, sizes: faces.Sizes) -> list[faces.Views]:
        """Its crops as the networks see them, of the `original` or after a mild re-encoding: of the whole image, of
        each frame around the face, of each slice."""
        if encoding == "original":
            return [crop.views for crop in self.crops]
        if self.kind == "volume":
            pixels = reencoded_slices(self.slices.pixels, encoding)
            return [crop.views._replace(square=square) for crop, square in zip(self.crops, pixels, strict=True)]
        if self.kind == "video":
            around = [crop.surroundings for crop in self.crops]
            return [cut_reencoded(*pair, sizes, encoding) for pair in around if pair is not None]
        assert isinstance(self.source, bytes | np.ndarray)
        pixels = decode(self.source).pixels if isinstance(self.source, bytes) else self.source
        return [cut_reencoded(pixels, crop.face.box, sizes, encoding) for crop in self.crops]


def read_sample(source: Input, kind: str, how: CropSettings, progress: Progress = unheard) -> Sample:
    """Read one input and cut its crops.

    Args:
        kind: as `inputs.kind_of` gives it.
        progress: gets how many frames of a video have been looked at, of how many.

    Raises:
        InputError: the input cannot be read, is of a kind that is not taken, or holds no face where one is wanted.
    """
    if isinstance(source, Refused):
        raise InputError(source.code, source.sentence)
    if kind == "image" and kind in how.kinds:
        return _image(source, how)
    check_kind(source, kind, how.takes)
    assert isinstance(source, str | os.PathLike)
    try:
        if kind == "volume":
            return _volume(source, how, progress)
        return _video(open_video(source), how, progress)
    except InputError:
        raise
    except Exception as error:
        # What a decoder makes of a broken file is not foreseeable; it must not stop a run of many.
        sentence = f"reading failed ({type(error).__name__}: {error}); look at the file"
        raise InputError("failed", sentence) from error


def _image(source: str | os.PathLike[str] | Image.Image | np.ndarray, how: CropSettings) -> Sample:
    picture = read_picture(source)
    notes = list(picture.notes)
    try:
        if how.crop == "face":
            found = faces.judged_faces(picture.pixels, how.framing, notes)
            if how.face != "all":
                found = faces.chosen(found, how.face, notes)
            if not how.whole_without_face:
                faces.check_room(found[0], picture.pixels.shape)
        else:
            found = [_whole(picture.pixels, 1.0)]
    except InputError as error:
        if not how.whole_without_face:
            raise InputError(error.code, error.sentence, picture.sha256, tuple(notes)) from None
        found = [_whole(picture.pixels, 0.0)]
    crops = [_cut(face, picture.sha256, -1, how, picture.pixels, face.box) for face in found]
    # The draws of an image's first crop are keyed by the image alone.
    crops[0] = replace(crops[0], key=picture.sha256)
    height, width = picture.pixels.shape[:2]
    kept = picture.encoded or picture.pixels
    tracks = tuple((crop,) for crop in crops)
    phash = perceptual_hash(picture.pixels) if how.hashed else None
    return Sample(path_of(source), picture.sha256, "image", kept, (height, width), tracks, tuple(notes), phash=phash)


def _video(video: Video, how: CropSettings, progress: Progress) -> Sample:
    if how.crop != "face":
        return _whole_frames(video, how, how.policy.keep, 1.0)

    def told(done: int, total: int) -> None:
        progress(Step(video.path, "video", "reading", done, total))

    try:
        tracks, seen = tracks_of(video, how.policy, how.framing or Framing(), told=told)
    except InputError as error:
        if not how.whole_without_face or error.code not in ("no_face", "face_too_small"):
            raise
        return _whole_frames(video, how, WHOLE_FRAMES, 0.0)
    crops = tuple(tuple(_sighted(s, video.sha256, how) for s in track.sightings) for track in tracks)
    notes = (*video.notes, Note("frames_seen", f"{seen} of {len(video):,} frames looked at"))
    return Sample(video.path, video.sha256, "video", None, tracks[0].sightings[0].shape, crops, notes)


def _volume(path: str | os.PathLike[str], how: CropSettings, progress: Progress) -> Sample:
    # Read in one go; its slices take longer.
    progress(Step(os.fspath(path), "volume", "reading", 0, 1))
    volume = read_volume(path)
    try:
        cut = slices_of(volume, how.slices or SliceFraming())
    except InputError as error:
        raise InputError(error.code, error.sentence, volume.sha256, volume.notes) from None
    crops = tuple(
        Crop(key_of(volume.sha256, int(index)), Face(cut.box, 1.0), faces.Views(pixels, None, None, *place), int(index))
        for index, pixels, *place in zip(cut.index, cut.pixels, cut.inside, cut.position, strict=True)
    )
    return Sample(os.fspath(path), volume.sha256, "volume", volume, cut.shape, (crops,), volume.notes, cut)


def _sighted(sighting: Sighting, sha256: str, how: CropSettings) -> Crop:
    around = (sighting.surroundings, sighting.box)
    crop = _cut(sighting.face, sha256, sighting.index, how, *around)
    return replace(crop, time=sighting.time, surroundings=around, shape=sighting.shape)


def _cut(face: Face, sha256: str, index: int, how: CropSettings, pixels: np.ndarray, box: Box) -> Crop:
    key = hashlib.sha256(f"{sha256} {index} {face.box.as_list()}".encode()).hexdigest()
    # What is cut again from the surroundings of a frame must be looked at as the frame itself is.
    views = faces.cut_views(pixels, box, how.sizes, face.box.width >= faces.NEAR_SIDE)
    return Crop(key, face, views, index)


def _whole_frames(video: Video, how: CropSettings, count: int, confidence: float) -> Sample:
    crops: list[Crop] = []
    black: list[Crop] = []
    for frame in frames_at(video, Policy(frames=count).indices(len(video))):
        face = _whole(frame.pixels, confidence)
        shape = (frame.pixels.shape[0], frame.pixels.shape[1])
        crop = _cut(face, video.sha256, frame.index, how, frame.pixels, face.box)
        kept = black if is_black(frame.pixels) else crops
        kept.append(replace(crop, time=frame.time, surroundings=surrounded(frame.pixels, face.box), shape=shape))
    if crops and black:
        video.say(black_frames(len(black), len(crops)))
    # Of a video that is black throughout the frames stand for themselves.
    crops = crops or black
    if not crops:
        raise InputError("no_frames", "no frame could be decoded; copy the video again from its source", video.sha256)
    return Sample(video.path, video.sha256, "video", None, crops[0].shape or (0, 0), (tuple(crops),), video.notes)


def _whole(pixels: np.ndarray, confidence: float) -> Face:
    return Face(faces.whole_picture(pixels), confidence)
