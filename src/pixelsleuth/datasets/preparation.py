"""Prepare folders of images or videos: read them, cut their faces, and write the crops into one store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pixelsleuth.datasets.layouts import Origin, names_of_root, origin_of
from pixelsleuth.datasets.store import FORMAT, Store, Summary
from pixelsleuth.datasets.store_writer import Progress, Recipe, Rows, StoreInput, roots_of, write_store
from pixelsleuth.datasets.video_layouts import origins_of
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.records import Box
from pixelsleuth.sources import faces
from pixelsleuth.sources.duplicates import MAX_DISTANCE, distances, perceptual_hash
from pixelsleuth.sources.faces import Framing
from pixelsleuth.sources.images import decode, find_images, read_bytes
from pixelsleuth.sources.tracks import Policy, Sighting, tracks_of
from pixelsleuth.sources.videos import open_video

#: Images, and videos, written together: what a kill can cost.
PART = 512
VIDEO_PART = 4
#: Deepfake CSI's threshold for faces in videos.
VIDEO_CONFIDENCE = 0.995

#: Of images in which no face is looked for.
NO_LANDMARKS = np.full((5, 2), np.nan, np.float32)
#: Columns of numbers: type, and shape of one value.
_NUMBERS: dict[str, tuple[type, tuple[int, ...]]] = {
    "box": (np.int32, (4,)), "place": (np.int32, (4,)), "landmarks": (np.float32, (5, 2)),
    "confidence": (np.float32, ()), "angle": (np.float32, ()), "padded": (np.float32, ()), "phash": (np.uint64, ()),
    "frame": (np.int32, ()), "time": (np.float64, ()), "track": (np.int32, ()), "sharpness": (np.float32, ()),
    "motion": (np.float32, ()),
}  # fmt: skip


def prepare_images(
    sources: Sequence[Path],
    store: Path,
    *,
    size: int = 128,
    crop: str = "face",
    framing: Framing | None = None,
    group_by_folder: bool = False,
    not_near: Path | None = None,
    workers: int = 2,
    shards: int = 0,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Read every picture below `sources` into one HDF5 store at `store`.

    Work is kept in parts of `PART` pictures beside the store, so that a run that was stopped goes on where
    it was. Byte-identical pictures are stored once (the first path in order stays).

    Args:
        size: side of the stored square in pixels.
        crop: `face` (MTCNN, largest face) or `none` (largest centred square).
        group_by_folder: a picture's folder is its group (a person, a video), kept within one split.
        shards: write a folder of so many files at the same time, which read as one store; 0: one file.
        not_near: a store whose near-duplicates are left out and counted: of a training picture those in its other
            splits, of any other picture those among its training pictures.

    Raises:
        PixelsleuthError: no picture found, or the store was made with other settings.
    """
    if crop not in ("face", "none"):
        raise PixelsleuthError(f"crop: expected 'face' or 'none', got {crop!r}")
    framing = framing or Framing()
    inputs = []
    for source, root in roots_of(sources, "images"):
        for path in find_images(source) if source.is_dir() else [source]:
            relative = path.relative_to(root)
            origin = origin_of(relative, names_of_root(root), group_by_folder)
            inputs.append(StoreInput(str(path), relative.as_posix(), str(source), origin))
    if not inputs:
        raise PixelsleuthError(f"no picture found below {', '.join(map(str, sources))}; give a folder of images")
    settings = _settings(inputs, size, crop, framing) | {"pick": "even", "group_by_folder": group_by_folder}
    apart = Apart()
    if not_near is not None:
        with Store(not_near) as other:
            phash, learned = other.table["phash"], other.table["split"] == "train"
            apart = Apart(phash[learned], phash[~learned])
        settings |= {"not_near": str(not_near), "not_near_count": len(phash)}
    read = partial(_read_image, size=size, crop=crop, framing=framing)
    recipe = Recipe(settings, read, _no_rows(size), PART, once=True, check=apart.check)
    return write_store(inputs, store, recipe, workers, shards, progress)


def prepare_videos(
    sources: Sequence[Path],
    store: Path,
    *,
    size: int = 128,
    framing: Framing | None = None,
    policy: Policy | None = None,
    every_fake: int = 10,
    labels: Path | None = None,
    workers: int = 2,
    shards: int = 0,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Read the faces of every video below `sources` into one HDF5 store at `store`, as `prepare_images` does.

    Of an anomalous video only the longest track is stored: a bystander is no fake. A broken video is a line in the
    summary.

    Args:
        framing: confidence `VIDEO_CONFIDENCE` unless given.
        policy: which frames; every 4th, at most 32 a track, unless given.
        every_fake: in place of `policy.every` for anomalous videos, where that is set.
        labels: CSV with columns file,label[,split,group,method].
        shards: as of `prepare_images`.

    Raises:
        PixelsleuthError: no video found, labels that cannot be read, or the store was made with other settings.
    """
    framing = framing or Framing(min_confidence=VIDEO_CONFIDENCE)
    policy = policy or Policy(every=4, keep=32)
    inputs = []
    for source, root in roots_of(sources, "videos"):
        for path, origin in origins_of(source, labels).items():
            inputs.append(StoreInput(str(path), path.relative_to(root).as_posix(), str(source), origin))
    if not inputs:
        raise PixelsleuthError(f"no video found below {', '.join(map(str, sources))}; give a folder of videos")
    settings = _settings(inputs, size, "face", framing)
    settings |= {"pick": policy.pick, "policy": asdict(policy), "every_fake": every_fake}
    settings |= {"origins": [list(asdict(item.origin).values()) for item in inputs]}
    read = partial(_read_video, size=size, framing=framing, policy=policy, every_fake=every_fake)
    recipe = Recipe(settings, read, _no_rows(size), VIDEO_PART, once=True)
    return write_store(inputs, store, recipe, workers, shards, progress)


def _settings(inputs: Sequence[StoreInput], size: int, crop: str, framing: Framing) -> dict[str, Any]:
    return {
        "format": FORMAT, "size": size, "crop": crop, "margin": faces.MARGIN,
        "min_confidence": framing.min_confidence, "edge": framing.edge, "align": framing.align,
        "level": framing.level,
        "files": [[item.source, item.relative] for item in inputs],
    }  # fmt: skip


@dataclass(frozen=True)
class Apart:
    """Perceptual hashes, (n,) uint64 each, that images must keep apart from: of training images and of others."""

    trained: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    held_out: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    def check(self, item: StoreInput, rows: Rows) -> None:
        """Raise InputError for an image that is too near one on the other side."""
        others = self.held_out if item.origin.split == "train" else self.trained
        if len(others) and distances(rows.columns["phash"], others).min() <= MAX_DISTANCE:
            raise InputError(
                "near_duplicate", f"within {MAX_DISTANCE} bits of a perceptual hash on the other side of training"
            )


def _read_image(item: StoreInput, size: int, crop: str, framing: Framing) -> Rows:
    picture = decode(read_bytes(item.path))
    marks = NO_LANDMARKS
    if crop == "face":
        face = faces.main_face(picture.pixels, framing)
        box, confidence, padded = face.box, face.confidence, face.padded
        marks = np.array(face.landmarks, np.float32)
    else:
        box, confidence, padded = faces.whole_picture(picture.pixels), 1.0, 0.0
    row = _row(faces.cut(picture.pixels, box, size), picture.encoded, picture.sha256, box, confidence)
    return _rows(item, size, [row | {"place": box.as_list(), "padded": padded, "landmarks": marks}])


def _read_video(item: StoreInput, size: int, framing: Framing, policy: Policy, every_fake: int) -> Rows:
    # The processes share the cores.
    cv2.setNumThreads(1)
    fake = item.origin.label == "anomalous"
    if fake and policy.every:
        policy = replace(policy, every=every_fake)
    try:
        tracks, _ = tracks_of(open_video(item.path), policy, framing)
    except InputError:
        raise
    except Exception as error:
        # What a decoder makes of a broken file is not foreseeable; it must not stop a run of days.
        raise InputError("failed", f"reading failed ({type(error).__name__}: {error}); look at the file") from error
    # A bystander of a fake is none.
    seen = enumerate(tracks[:1] if fake else tracks)
    return _rows(item, size, [_of_sighting(sighting, size, k) for k, track in seen for sighting in track.sightings])


def _of_sighting(sighting: Sighting, size: int, track: int) -> dict[str, Any]:
    good, encoded = cv2.imencode(".png", np.ascontiguousarray(sighting.surroundings[..., ::-1]))
    if not good:
        raise InputError("failed", "the PNG encoder failed")
    data = encoded.tobytes()
    pixels = faces.cut(sighting.surroundings, sighting.box, size)
    row = _row(pixels, data, decode(data).sha256, sighting.box, sighting.face.confidence)
    return row | {
        "place": sighting.face.box.as_list(),
        "padded": sighting.face.padded,
        "landmarks": _moved(sighting),
        "frame": sighting.index,
        "time": sighting.time,
        "track": track,
        "sharpness": sighting.quality["sharpness"],
        "motion": sighting.quality["motion"],
    }


def _moved(sighting: Sighting) -> np.ndarray:
    """A face's landmarks in pixels of the surroundings that are kept of the frame."""
    there, here = sighting.face.box, sighting.box
    marks = np.array(sighting.face.landmarks, np.float32)
    return (marks - (there.x0, there.y0)) * (here.width / there.width) + (here.x0, here.y0)


def _row(pixels: np.ndarray, encoded: bytes, sha256: str, box: Box, confidence: float) -> dict[str, Any]:
    return {
        "pixels": pixels, "encoded": encoded, "sha256": sha256,
        "box": box.as_list(), "angle": box.angle, "confidence": confidence, "phash": perceptual_hash(pixels),
        "frame": -1, "time": 0.0, "track": 0, "sharpness": np.nan, "motion": np.nan,
    }  # fmt: skip


def _rows(item: StoreInput, size: int, rows: Sequence[dict[str, Any]]) -> Rows:
    """What the store keeps of one image, or of the frames of one video."""
    count = len(rows)
    return Rows(
        {"pixels": np.array([row["pixels"] for row in rows], np.uint8).reshape(count, size, size, 3)},
        {
            **item.columns(count),
            "sha256": [row["sha256"] for row in rows],
            "parts": [",".join(item.origin.parts)] * count,
            "level": [item.origin.level] * count,
            "method": [item.origin.method] * count,
            **{
                name: np.array([row[name] for row in rows], kind).reshape(count, *shape)
                for name, (kind, shape) in _NUMBERS.items()
            },
        },
        [row["encoded"] for row in rows],
    )


def _no_rows(size: int) -> Rows:
    return _rows(StoreInput("", "", "", Origin("", "")), size, [])
