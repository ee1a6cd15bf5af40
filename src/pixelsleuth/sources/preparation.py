"""Folders of pictures or videos into one store, by processes of their own, going on where a run was stopped."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.files import claimed, clear_partials, whole_file
from pixelsleuth.records import Box
from pixelsleuth.sources import faces
from pixelsleuth.sources.duplicates import NEAR, distances, perceptual_hash
from pixelsleuth.sources.faces import Framing
from pixelsleuth.sources.images import decode, find_images, read_bytes
from pixelsleuth.sources.layouts import Origin, names_of_root, origin_of
from pixelsleuth.sources.sharding import Shard, write_store
from pixelsleuth.sources.shards import LONG_SETTINGS
from pixelsleuth.sources.store import FORMAT, TEXT_COLUMNS, Store, Summary
from pixelsleuth.sources.tracks import Policy, Sighting, tracks_of
from pixelsleuth.sources.video_layouts import origins_of
from pixelsleuth.sources.videos import open_video

#: Pictures, and videos, written together: what a kill can cost.
PART = 512
VIDEO_PART = 4
#: Deepfake CSI's threshold for faces in videos.
VIDEO_CONFIDENCE = 0.995

#: Of pictures in which no face is looked for.
NO_LANDMARKS = np.full((5, 2), np.nan, np.float32)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Job:
    """One file to read.

    Attributes:
        policy: of a video; None: a picture.
    """

    path: str
    relative: str
    source: str
    origin: Origin
    size: int
    crop: str
    framing: Framing
    policy: Policy | None = None


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
    """Reads every picture below `sources` into one HDF5 store at `store`.

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
    jobs = []
    for source, root in roots_of(sources, "images"):
        for path in find_images(source) if source.is_dir() else [source]:
            relative = path.relative_to(root)
            origin = origin_of(relative, names_of_root(root), group_by_folder)
            jobs.append(_Job(str(path), relative.as_posix(), str(source), origin, size, crop, framing))
    if not jobs:
        raise PixelsleuthError(f"no picture found below {', '.join(map(str, sources))}; give a folder of images")
    settings = _settings(jobs, size, crop, framing) | {"pick": "even", "group_by_folder": group_by_folder}
    near = Apart()
    if not_near is not None:
        with Store(not_near) as other:
            phash, learned = other.table["phash"], other.table["split"] == "train"
            near = Apart(phash[learned], phash[~learned])
        settings |= {"not_near": str(not_near), "not_near_count": len(phash)}
    return _prepared(jobs, store, settings, PART, workers, progress, near, shards)


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
    """Reads the faces of every video below `sources` into one HDF5 store at `store`, as `prepare_images` does.

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
    jobs = []
    for source, root in roots_of(sources, "videos"):
        for path, origin in origins_of(source, labels).items():
            fake = origin.label == "anomalous" and policy.every
            how = replace(policy, every=every_fake) if fake else policy
            relative = path.relative_to(root).as_posix()
            jobs.append(_Job(str(path), relative, str(source), origin, size, "face", framing, how))
    if not jobs:
        raise PixelsleuthError(f"no video found below {', '.join(map(str, sources))}; give a folder of videos")
    settings = _settings(jobs, size, "face", framing)
    settings |= {"pick": policy.pick, "policy": asdict(policy), "every_fake": every_fake}
    settings |= {"origins": [list(asdict(job.origin).values()) for job in jobs]}
    return _prepared(jobs, store, settings, VIDEO_PART, workers, progress, Apart(), shards)


def roots_of(sources: Sequence[Path], what: str) -> Iterator[tuple[Path, Path]]:
    """Each source with the folder that its files are named from. Raises PixelsleuthError where one does not exist."""
    for source in sources:
        if not source.exists():
            raise PixelsleuthError(f"{source} does not exist; give a folder of {what}")
        yield source, source if source.is_dir() else source.parent


def already_made(store: Path, settings: dict[str, Any]) -> Summary | None:
    """The summary of a store that was made with these settings before; None where there is no store. Raises
    PixelsleuthError where it was made otherwise."""
    if not store.exists():
        return None
    with Store(store) as known:
        if known.table.made_of() == settings:
            return known.summary()
    raise PixelsleuthError(f"{store} exists and was made of other files or settings; delete it or name another")


def _settings(jobs: Sequence[_Job], size: int, crop: str, framing: Framing) -> dict[str, Any]:
    return {
        "format": FORMAT, "size": size, "crop": crop, "margin": faces.MARGIN,
        "min_confidence": framing.min_confidence, "edge": framing.edge, "align": framing.align,
        "level": framing.level,
        "files": [[job.source, job.relative] for job in jobs],
    }  # fmt: skip


def _prepared(
    jobs: Sequence[_Job], store: Path, settings: dict[str, Any], part_size: int, workers: int, progress: Progress,
    near: Apart, shards: int,
) -> Summary:  # fmt: skip
    # As it will be read back, or a store would never equal its own settings.
    settings = json.loads(json.dumps(settings))
    parts = store.with_name(store.name + ".parts")
    if known := already_made(store, settings):
        # A run that was killed at its very end has left them.
        shutil.rmtree(parts, ignore_errors=True)
        return known
    with claimed(parts):
        # Another process may have ended since.
        if known := already_made(store, settings):
            shutil.rmtree(parts)
            return known
        clear_partials(store.parent, store.name)
        if shards:
            part_size = min(part_size, math.ceil(len(jobs) / shards))
        open_parts(parts, settings | {"part_size": part_size})
        done = 0
        with get_context("spawn").Pool(workers) if workers > 1 else Serial() as pool:
            for number, start in enumerate(range(0, len(jobs), part_size)):
                chunk = jobs[start : start + part_size]
                part = parts / f"{number:06d}.h5"
                if not part.exists():
                    rows = []
                    read: Iterable[list[dict[str, Any]]] = pool.imap(
                        _read, chunk, chunksize=1 if part_size == VIDEO_PART else 8
                    )
                    for count, found in enumerate(read, 1):
                        rows += found
                        progress(done + count, len(jobs))
                    _write_part(part, rows, settings["size"], near)
                done += len(chunk)
                progress(done, len(jobs))
            whole = sorted(parts.glob("[0-9]*.h5"))
            keep = _first_of_each(whole)
            write_store(store, whole, keep, settings, per_part=part_size, shards=shards, write=_merge, pool=pool)
        shutil.rmtree(parts, ignore_errors=True)
        with Store(store) as made:
            return made.summary()


class Serial:
    """A pool of one, without a process."""

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def imap(self, work: Callable[[Any], Any], jobs: Iterable[Any], chunksize: int = 1) -> Any:
        return map(work, jobs)


def _read(job: _Job) -> list[dict[str, Any]]:
    """The rows of one file; a bad one comes back as its reason."""
    try:
        return _read_picture(job) if job.policy is None else _read_video(job, job.policy)
    except InputError as error:
        return [{"job": job, "skip": (job.relative, error.code, error.sentence)}]


def _read_picture(job: _Job) -> list[dict[str, Any]]:
    picture = decode(read_bytes(job.path))
    marks = NO_LANDMARKS
    if job.crop == "face":
        face = faces.main_face(picture.pixels, job.framing)
        box, confidence, padded = face.box, face.confidence, face.padded
        marks = np.array(face.landmarks, np.float32)
    else:
        box, confidence, padded = faces.whole_picture(picture.pixels), 1.0, 0.0
    pixels = faces.cut(picture.pixels, box, job.size)
    row = _row(job, pixels, picture.encoded, picture.sha256, box, confidence)
    return [row | {"place": box.as_list(), "padded": padded, "landmarks": marks}]


def _read_video(job: _Job, policy: Policy) -> list[dict[str, Any]]:
    # The processes share the cores.
    cv2.setNumThreads(1)
    try:
        tracks, _ = tracks_of(open_video(job.path), policy, job.framing)
    except InputError:
        raise
    except Exception as error:
        # What a decoder makes of a broken file is not foreseeable; it must not stop a run of days.
        raise InputError("failed", f"reading failed ({type(error).__name__}: {error}); look at the file") from error
    if job.origin.label == "anomalous":
        tracks = tracks[:1]
    return [_of_sighting(job, s, number) for number, track in enumerate(tracks) for s in track.sightings]


def _of_sighting(job: _Job, sighting: Sighting, track: int) -> dict[str, Any]:
    good, encoded = cv2.imencode(".png", np.ascontiguousarray(sighting.surroundings[..., ::-1]))
    if not good:
        raise InputError("failed", "the PNG encoder failed")
    data = encoded.tobytes()
    pixels = faces.cut(sighting.surroundings, sighting.box, job.size)
    row = _row(job, pixels, data, decode(data).sha256, sighting.box, sighting.face.confidence)
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


def _row(job: _Job, pixels: np.ndarray, encoded: bytes, sha256: str, box: Box, confidence: float) -> dict[str, Any]:
    return {
        "job": job,
        "pixels": pixels,
        "encoded": np.frombuffer(encoded, np.uint8),
        "sha256": sha256,
        "box": box.as_list(),
        "angle": box.angle,
        "confidence": confidence,
        "phash": perceptual_hash(pixels),
        "frame": -1, "time": 0.0, "track": 0, "sharpness": np.nan, "motion": np.nan,
    }  # fmt: skip


def open_parts(parts: Path, settings: dict[str, Any]) -> None:
    """Keeps finished parts if they were made with the same settings, else starts anew."""
    note = parts / "settings.json"
    text = json.dumps(settings)
    if note.exists() and note.read_text(encoding="utf-8") == text:
        return
    # The folder itself stays: this process holds it.
    for old in parts.iterdir():
        old.unlink()
    with whole_file(note) as partial:
        partial.write_text(text, encoding="utf-8")


_NUMBERS = {
    "confidence": np.float32, "angle": np.float32, "padded": np.float32, "phash": np.uint64, "frame": np.int32,
    "time": np.float64, "track": np.int32, "sharpness": np.float32, "motion": np.float32,
}  # fmt: skip


@dataclass(frozen=True)
class Apart:
    """Perceptual hashes, (n,) uint64 each, that pictures must keep apart from: of training pictures and of others."""

    trained: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    held_out: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    def near(self, phash: np.uint64, split: str) -> bool:
        others = self.held_out if split == "train" else self.trained
        return bool(len(others) and distances(np.array([phash]), others).min() <= NEAR)


def _write_part(path: Path, rows: list[dict[str, Any]], size: int, apart: Apart) -> None:
    skipped = [row["skip"] for row in rows if "skip" in row]
    kept = []
    sentence = f"within {NEAR} bits of a perceptual hash on the other side of training"
    for row in rows:
        if "skip" in row:
            continue
        if apart.near(row["phash"], row["job"].origin.split):
            skipped.append((row["job"].relative, "near_duplicate", sentence))
        else:
            kept.append(row)
    origins = [row["job"].origin for row in kept]
    columns = {
        "path": [row["job"].relative for row in kept],
        "sha256": [row["sha256"] for row in kept],
        "source": [row["job"].source for row in kept],
        "parts": [",".join(origin.parts) for origin in origins],
        **{name: [getattr(o, name) for o in origins] for name in ("label", "split", "group", "level", "method")},
    }
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file["pixels"] = np.stack([r["pixels"] for r in kept]) if kept else np.zeros((0, size, size, 3), np.uint8)
        file["encoded"] = np.concatenate([r["encoded"] for r in kept]) if kept else np.zeros(0, np.uint8)
        file["offset"] = np.cumsum([0, *(len(r["encoded"]) for r in kept)]).astype(np.int64)
        for name, values in columns.items():
            # Bytes of a name that are no text are escaped: HDF5 takes none.
            texts = [value.encode("utf-8", "backslashreplace").decode() for value in values]
            file[f"table/{name}"] = np.array(texts, dtype=h5py.string_dtype())
        for name in ("box", "place"):
            file[f"table/{name}"] = np.array([r[name] for r in kept], np.int32).reshape(-1, 4)
        file["table/landmarks"] = np.array([r["landmarks"] for r in kept], np.float32).reshape(-1, 5, 2)
        for name, kind in _NUMBERS.items():
            file[f"table/{name}"] = np.array([r[name] for r in kept], kind)
        file.attrs["skipped"] = json.dumps(skipped)


def _first_of_each(parts: list[Path]) -> list[np.ndarray]:
    """Of each part the rows that are kept: byte-identical pictures once."""
    seen: set[str] = set()
    keep = []
    for part in parts:
        with h5py.File(part) as file:
            shas = file["table/sha256"].asstr()[:]
        fresh = np.zeros(len(shas), bool)
        for i, sha in enumerate(shas):
            fresh[i] = sha not in seen
            seen.add(sha)
        keep.append(np.flatnonzero(fresh))
    return keep


def _merge(shard: Shard) -> None:
    """Writes parts as one file."""
    assert shard.keep is not None, "pictures are stored once"
    total_bytes = duplicates = 0
    skipped: list[list[str]] = []
    for part, rows in zip(shard.parts, shard.keep, strict=True):
        with h5py.File(part) as file:
            lengths_here = np.diff(file["offset"][:])
            duplicates += len(lengths_here) - len(rows)
            total_bytes += int(lengths_here[rows].sum())
            skipped += json.loads(file.attrs["skipped"])
    count, size = sum(map(len, shard.keep)), shard.settings["size"]
    with whole_file(shard.path) as partial, h5py.File(partial, "w") as out:
        pixels = out.create_dataset(
            "pixels", (count, size, size, 3), np.uint8, chunks=(1, size, size, 3) if count else None
        )
        encoded = out.create_dataset("encoded", (total_bytes,), np.uint8)
        lengths: list[int] = []
        columns: dict[str, list[Any]] = {}
        at = byte = 0
        for part, rows in zip(shard.parts, shard.keep, strict=True):
            with h5py.File(part) as file:
                offset, blob, block = file["offset"][:], file["encoded"][:], file["pixels"][:]
                pixels[at : at + len(rows)] = block[rows]
                for i in rows:
                    piece = blob[offset[i] : offset[i + 1]]
                    encoded[byte : byte + len(piece)] = piece
                    byte += len(piece)
                    lengths.append(len(piece))
                for name in file["table"]:
                    values = file[f"table/{name}"]
                    values = values.asstr()[:] if name in TEXT_COLUMNS else values[:]
                    columns.setdefault(name, []).append(values[rows])
                at += len(rows)
        out["offset"] = np.cumsum([0, *lengths]).astype(np.int64)
        for name, blocks in columns.items():
            values = np.concatenate(blocks)
            out[f"table/{name}"] = values.astype(h5py.string_dtype()) if name in TEXT_COLUMNS else values
        out.attrs["duplicates"] = duplicates
        # Attributes are limited to 64 KiB; these can be longer.
        out.attrs["settings"] = json.dumps({k: v for k, v in shard.settings.items() if k not in LONG_SETTINGS})
        for name in LONG_SETTINGS:
            if name in shard.settings:
                out[name] = json.dumps(shard.settings[name])
        out["skipped"] = json.dumps(skipped)
