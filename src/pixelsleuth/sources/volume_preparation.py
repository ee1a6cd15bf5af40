"""Folders of volumes into one HDF5 store: normalised once, a slice read with one seek, stopped runs gone on with.

Beside what a store of pictures has (see sources.store; `pixels` is (N, size, size, 1)), `inside` (N, size, size) bool
is the head, `lesion` (N, size, size) bool what a mask marks, `table/slice` and `table/position` where a slice lies,
`table/traits` (N, T) float64 what its volume shows beside its content (see sources.scantraits).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.files import claimed, clear_partials, whole_file
from pixelsleuth.sources.dicomfolders import holds_series, series_in
from pixelsleuth.sources.layouts import Origin, names_of_root, origin_of
from pixelsleuth.sources.preparation import Progress, Serial, already_made, open_parts, roots_of
from pixelsleuth.sources.scanfiles import is_companion
from pixelsleuth.sources.scantraits import scan_traits
from pixelsleuth.sources.sharding import Shard, write_store
from pixelsleuth.sources.slices import SliceFraming, slices_of
from pixelsleuth.sources.store import FORMAT, TEXT_COLUMNS, Store, Summary
from pixelsleuth.sources.volumes import VOLUME_SUFFIXES, is_volume, key_of, read_mask, read_volume, stem_of

#: Folders whose volumes are masks of those in the folder beside them.
MASK_FOLDERS = frozenset({"mask", "masks", "seg", "label", "labels", "pixel"})
#: Fewest volumes that calibrate: with them a rate of 10% can be promised.
CALIBRATION_VOLUMES = 10
CALIBRATION_SHARE = 0.15


@dataclass(frozen=True)
class _Job:
    """One volume to read."""

    path: str
    relative: str
    source: str
    origin: Origin
    mask: str | None
    framing: SliceFraming


def find_volumes(root: Path) -> Iterator[Path]:
    """Every file with a volume below `root` and every DICOM series, in sorted order; hidden files, folders of masks and
    headers whose voxels lie beside them are left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and not _holds_masks(n))
        files = [Path(folder) / n for n in sorted(names) if not n.startswith(".")]
        found = [path for path in files if is_volume(path) and not is_companion(path)]
        yield from found
        # What is named as a volume is none of a series: nothing is opened to see.
        if len(found) < len(files) and holds_series(Path(folder)):
            yield from (Path(name) for name, _ in series_in(Path(folder)))


def _holds_masks(folder: str) -> bool:
    return folder.lower() in MASK_FOLDERS or folder.lower().endswith(("_label", "_labels", "_mask", "_masks"))


def mask_of(path: Path, root: Path, masks: Path | None = None) -> Path | None:
    """The mask of a volume: below `masks` at the same place without suffix; else of the same name in a folder of masks
    beside the volume's (`flair/` and `mask/`; MOOD's `toy/` and `toy_label/pixel/`)."""
    if masks is not None:
        place = path.relative_to(root).parent if path != root else Path()
        names = (masks / place / f"{stem_of(path)}{suffix}" for suffix in VOLUME_SUFFIXES)
        return next((name for name in names if name.is_file()), None)
    beside = path.parent.parent
    folders = [beside / name for name in sorted(MASK_FOLDERS)] + [
        beside / f"{path.parent.name}_label" / "pixel", beside / f"{path.parent.name}_mask",
    ]  # fmt: skip
    names = (folder / f"{stem_of(path)}{suffix}" for folder in folders for suffix in VOLUME_SUFFIXES)
    return next((name for name in names if name.is_file()), None)


def prepare_volumes(
    sources: Sequence[Path],
    store: Path,
    *,
    framing: SliceFraming | None = None,
    masks: Path | None = None,
    workers: int = 2,
    shards: int = 0,
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Reads every volume below `sources` into one HDF5 store at `store`, normalised, as slices.

    A slice with anything of its mask is anomalous and is never trained on. Where a tree has training volumes and none
    that calibrate, some of the former do (the larger of 10 and 15%, by hash). A broken volume is a line in the summary.

    Args:
        masks: folder of masks, matched by relative path without suffix; a folder beside the volumes' unless given.

    Raises:
        PixelsleuthError: no volume found, or the store was made with other settings.
    """
    framing = framing or SliceFraming()
    jobs = []
    for source, root in roots_of(sources, "volumes"):
        for path in find_volumes(source) if source.is_dir() else [source]:
            relative = path.relative_to(root)
            origin = origin_of(relative, names_of_root(root))
            origin = replace(origin, group=f"{source.name}/{stem_of(path)}")
            mask = mask_of(path, root, masks)
            jobs.append(_Job(str(path), relative.as_posix(), str(source), origin, str(mask) if mask else None, framing))
    if not jobs:
        raise PixelsleuthError(
            f"no volume found below {', '.join(map(str, sources))}; give a folder of NIfTI, MGH, NRRD or DICOM files"
        )
    jobs = _some_calibrate(jobs)
    settings = json.loads(json.dumps({
        "format": FORMAT, "crop": "volume", "margin": 0.0, "min_confidence": 0.0, "channels": 1, **asdict(framing),
        "files": [[job.source, job.relative] for job in jobs],
    }))  # fmt: skip
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
        open_parts(parts, settings)
        missing = [(job, parts / f"{k:06d}.h5") for k, job in enumerate(jobs) if not (parts / f"{k:06d}.h5").exists()]
        done = len(jobs) - len(missing)
        with get_context("spawn").Pool(workers) if workers > 1 and len(missing) > 1 else Serial() as pool:
            for count, _ in enumerate(pool.imap(_write_part, missing), done + 1):
                progress(count, len(jobs))
            whole = sorted(parts.glob("[0-9]*.h5"))
            write_store(store, whole, None, settings, per_part=1, shards=shards, write=_merge, pool=pool)
        shutil.rmtree(parts, ignore_errors=True)
        with Store(store) as made:
            return made.summary()


def _some_calibrate(jobs: list[_Job]) -> list[_Job]:
    """Jobs with the calibration volumes that their trees lack."""
    training = [job for job in jobs if job.origin.split == "train" and job.origin.label != "anomalous"]
    if any(job.origin.split == "calib" for job in jobs) or len(training) < 2 * CALIBRATION_VOLUMES:
        return jobs
    count = max(CALIBRATION_VOLUMES, math.ceil(CALIBRATION_SHARE * len(training)))
    ranked = sorted(training, key=lambda job: hashlib.sha256(job.origin.group.encode()).hexdigest())
    chosen = {job.path for job in ranked[:count]}
    return [replace(j, origin=replace(j.origin, split="calib")) if j.path in chosen else j for j in jobs]


def _write_part(item: tuple[_Job, Path]) -> None:
    """The slices of one volume as a file of their own; a bad volume as its reason."""
    job, path = item
    skipped: list[tuple[str, str, str]] = []
    columns: dict[str, Any] = {}
    size = job.framing.size
    pixels, inside = np.zeros((0, size, size, 1), np.uint8), np.zeros((0, size, size), bool)
    lesion: np.ndarray = inside
    try:
        volume = read_volume(job.path)
        found = slices_of(volume, job.framing)
        pixels, inside = found.pixels, found.inside
        lesion = found.cut(read_mask(Path(job.mask), volume)) if job.mask else np.zeros_like(inside)
        count = len(pixels)
        labels = ["anomalous" if any_ else "normal" for any_ in np.asarray(lesion.any((1, 2)))] if job.mask else None
        columns = {
            "path": [job.relative] * count,
            "sha256": [key_of(volume.sha256, int(k)) for k in found.index],
            "source": [job.source] * count,
            "label": labels or [job.origin.label] * count,
            "split": [job.origin.split] * count,
            "group": [job.origin.group] * count,
            "slice": found.index.astype(np.int32),
            "position": found.position,
            "traits": np.tile(scan_traits(volume, found), (count, 1)),
        }
    except InputError as error:
        skipped.append((job.relative, error.code, error.sentence))
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file["pixels"], file["inside"], file["lesion"] = pixels, inside, lesion
        for name, values in columns.items():
            text = name in TEXT_COLUMNS
            file[f"table/{name}"] = np.array(values, dtype=h5py.string_dtype()) if text else np.asarray(values)
        file.attrs["skipped"] = json.dumps(skipped)


def _merge(shard: Shard) -> None:
    """Writes parts as one file, one slice a chunk."""
    settings, parts = shard.settings, shard.parts
    skipped: list[list[str]] = []
    counts = []
    for part in parts:
        with h5py.File(part) as file:
            counts.append(len(file["pixels"]))
            skipped += json.loads(file.attrs["skipped"])
    total, size = sum(counts), settings["size"]
    columns: dict[str, list[np.ndarray]] = {}
    with whole_file(shard.path) as partial, h5py.File(partial, "w") as out:
        shapes = {"pixels": ((size, size, 1), np.uint8), "inside": ((size, size), bool), "lesion": ((size, size), bool)}
        for name, (shape, kind) in shapes.items():
            out.create_dataset(name, (total, *shape), kind, chunks=(1, *shape) if total else None)
        at = 0
        for part, count in zip(parts, counts, strict=True):
            with h5py.File(part) as file:
                if not count:
                    continue
                for name in shapes:
                    out[name][at : at + count] = file[name][:]
                for name in file["table"]:
                    values = file[f"table/{name}"]
                    columns.setdefault(name, []).append(values.asstr()[:] if name in TEXT_COLUMNS else values[:])
                at += count
        for name, blocks in columns.items():
            values = np.concatenate(blocks)
            out[f"table/{name}"] = values.astype(h5py.string_dtype()) if name in TEXT_COLUMNS else values
        if not columns:
            for name in ("path", "sha256", "source", "label", "split", "group"):
                out[f"table/{name}"] = np.zeros(0, h5py.string_dtype())
        out["encoded"], out["offset"] = np.zeros(0, np.uint8), np.zeros(total + 1, np.int64)
        out.attrs["duplicates"] = 0
        out.attrs["settings"] = json.dumps({k: v for k, v in settings.items() if k != "files"})
        out["files"] = json.dumps(settings["files"])
        out["skipped"] = json.dumps(skipped)
