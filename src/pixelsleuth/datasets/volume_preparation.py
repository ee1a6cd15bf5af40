"""Prepare folders of volumes: normalise them once, and write their slices into one store.

Beside what a store of images has (see datasets.store; `pixels` is (N, size, size, 1)), `inside` (N, size, size) bool
is the head, `lesion` (N, size, size) bool what a mask marks, `table/slice` and `table/position` where a slice lies,
`table/traits` (N, T) float64 what its volume shows beside its content (see sources.scans.scantraits).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.layouts import Origin, names_of_root, origin_of
from pixelsleuth.datasets.store import FORMAT, Summary
from pixelsleuth.datasets.store_writer import Progress, Recipe, Rows, StoreInput, roots_of, write_store
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.sources.scans.dicomfolders import holds_series, series_in
from pixelsleuth.sources.scans.scanfiles import is_companion
from pixelsleuth.sources.scans.scantraits import scan_traits
from pixelsleuth.sources.scans.slices import SliceFraming, slices_of
from pixelsleuth.sources.scans.volumes import VOLUME_SUFFIXES, is_volume, key_of, read_mask, read_volume, stem_of

#: Folders whose volumes are masks of those in the folder beside them.
MASK_FOLDERS = frozenset({"mask", "masks", "seg", "label", "labels", "pixel"})
#: Fewest volumes that calibrate: with them a rate of 10% can be promised.
CALIBRATION_VOLUMES = 10
CALIBRATION_SHARE = 0.15


def find_volumes(root: Path) -> Iterator[Path]:
    """Find every file with a volume below `root` and every DICOM series, in sorted order, without hidden files, folders
    of masks and headers whose voxels lie beside them."""
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
    """Read every volume below `sources` into one HDF5 store at `store`, normalised, as slices.

    A slice with anything of its mask is anomalous and is never trained on. Where a tree has training volumes and none
    that calibrate, some of the former do (the larger of 10 and 15%, by hash). A broken volume is a line in the summary.

    Args:
        masks: folder of masks, matched by relative path without suffix; a folder beside the volumes' unless given.

    Raises:
        PixelsleuthError: no volume found, or the store was made with other settings.
    """
    framing = framing or SliceFraming()
    inputs = []
    for source, root in roots_of(sources, "volumes"):
        for path in find_volumes(source) if source.is_dir() else [source]:
            relative = path.relative_to(root)
            origin = origin_of(relative, names_of_root(root))
            origin = replace(origin, group=f"{source.name}/{stem_of(path)}")
            mask = mask_of(path, root, masks)
            inputs.append(StoreInput(str(path), relative.as_posix(), str(source), origin, str(mask) if mask else None))
    if not inputs:
        raise PixelsleuthError(
            f"no volume found below {', '.join(map(str, sources))}; give a folder of NIfTI, MGH, NRRD or DICOM files"
        )
    inputs = _some_calibrate(inputs)
    settings = {
        "format": FORMAT, "crop": "volume", "margin": 0.0, "min_confidence": 0.0, "channels": 1, **asdict(framing),
        "files": [[item.source, item.relative] for item in inputs],
    }  # fmt: skip
    recipe = Recipe(settings, partial(_read_volume, framing=framing), _no_rows(framing.size), part_size=1, once=False)
    return write_store(inputs, store, recipe, workers, shards, progress)


def _some_calibrate(inputs: list[StoreInput]) -> list[StoreInput]:
    """The inputs, with the calibration volumes that their trees lack."""
    training = [item for item in inputs if item.origin.split == "train" and item.origin.label != "anomalous"]
    if any(item.origin.split == "calib" for item in inputs) or len(training) < 2 * CALIBRATION_VOLUMES:
        return inputs
    count = max(CALIBRATION_VOLUMES, math.ceil(CALIBRATION_SHARE * len(training)))
    ranked = sorted(training, key=lambda item: hashlib.sha256(item.origin.group.encode()).hexdigest())
    chosen = {item.path for item in ranked[:count]}
    return [
        replace(item, origin=replace(item.origin, split="calib")) if item.path in chosen else item for item in inputs
    ]


def _read_volume(item: StoreInput, framing: SliceFraming) -> Rows:
    volume = read_volume(item.path)
    found = slices_of(volume, framing)
    lesion = found.cut(read_mask(Path(item.mask), volume)) if item.mask else np.zeros_like(found.inside)
    columns = item.columns(len(found.pixels)) | {
        "sha256": [key_of(volume.sha256, int(k)) for k in found.index],
        "slice": found.index.astype(np.int32),
        "position": found.position,
        "traits": np.tile(scan_traits(volume, found), (len(found.pixels), 1)),
    }
    if item.mask:
        columns["label"] = ["anomalous" if marked else "normal" for marked in np.asarray(lesion.any((1, 2)))]
    blocks = {"pixels": found.pixels, "inside": found.inside, "lesion": lesion}
    return Rows(blocks, columns, [b""] * len(found.pixels))


def _no_rows(size: int) -> Rows:
    masks = np.zeros((0, size, size), bool)
    blocks = {"pixels": np.zeros((0, size, size, 1), np.uint8), "inside": masks, "lesion": masks}
    return Rows(blocks, StoreInput("", "", "", Origin("", "")).columns(0) | {"sha256": []}, [])
