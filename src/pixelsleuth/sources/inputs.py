"""Recognise inputs: which files of a folder are inputs, of which kind each is, and whether a model takes that kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pixelsleuth.errors import InputError
from pixelsleuth.files import sha256_of
from pixelsleuth.sources import formats
from pixelsleuth.sources.images import MAX_BYTES, checked_file
from pixelsleuth.sources.scans.dicomfolders import MARK, holds_series, series_in
from pixelsleuth.sources.scans.dicomheaders import is_index
from pixelsleuth.sources.scans.scanfiles import is_companion

#: Folders of pictures that stand beside records.
WRITTEN = ("heatmaps", "timelines")


@dataclass(frozen=True)
class Refused:
    """Something found in a folder that is refused without being read, and why."""

    path: str
    kind: str
    code: str
    sentence: str


Input = str | os.PathLike[str] | Image.Image | np.ndarray | Refused


def nothing_in(folder: str) -> Refused:
    """A folder without any input, which is one that cannot be judged: it gets a record."""
    return Refused(folder, "image", "not_a_file", "the folder holds nothing that could be judged; check the path")


def find_inputs(
    root: Path, leftovers: list[str] | None = None, out: str | os.PathLike[str] | None = None
) -> Iterator[Path | Refused]:
    """List everything in a folder and below, in sorted order, so that nothing vanishes: files, DICOM series (one input
    each), and what cannot be read.

    Links to folders are followed where they lead out of `root`; within it they would only repeat what is there.

    Args:
        leftovers: gets the paths, below `root`, of what is plainly no picture, video or scan, is hidden, or is a folder
            in `out` that is written with records.
        out: where records are written; what they are written with is no input.
    """
    into = None if out is None else os.path.realpath(out)
    written = set() if into is None else {into, *(os.path.join(into, name) for name in WRITTEN)}
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
            is_folder = os.path.isdir(path)
            if formats.is_litter(entry.name):
                said.append(os.path.relpath(path, root) + ("/" if is_folder else ""))
            elif not is_folder:
                names.append(path)
            elif written and (target := os.path.realpath(path)) in written:
                # A folder of such a name may have been there before any run.
                if target != into:
                    said.append(os.path.relpath(path, root) + "/")
            elif entry.is_symlink() and _leads_back(path, home, seen):
                told = "a link to a folder that is read already, or that it lies in; nothing is read twice"
                yield Refused(os.fspath(path), "image", "not_a_file", told)
            else:
                folders.append(path)
        yield from _found_in(folder, names, root, said)
        waiting += reversed(folders)


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
        if found.plain or (found is formats.DICOM and is_index(path)):
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
    # Unlike `Path.is_dir`, this takes names that no file can have, which lists of names do hold.
    if (MARK in path.name or os.path.isdir(path)) and holds_series(path):
        return "volume"
    kind = formats.sniffed(path).kind
    return "image" if kind == "other" else kind


def check_kind(source: str | os.PathLike[str] | Image.Image | np.ndarray, kind: str, takes: str) -> None:
    """Check that an input exists, is a file, and is of a kind that a model takes.

    Args:
        kind: of the input, as `kind_of` gives it.
        takes: `images` (and videos) or `volumes`.

    Raises:
        InputError: what `checked_file` raises, `unsupported_kind`, or, of what no model takes, `unsupported_format`.
    """
    if not isinstance(source, str | os.PathLike):
        if takes == "volumes":
            raise InputError(
                "unsupported_kind",
                "this model judges scans, got a picture; use a model for pictures, such as faces",
            )
        return
    volume = kind == "volume"
    if volume and takes == "volumes":
        return
    path = Path(source)
    size = 0 if volume and not os.path.isfile(path) else checked_file(path)
    found = formats.sniffed(path) if os.path.isfile(path) else formats.DICOM
    if not volume and takes == "images" and (found.readable or found.kind != "video"):
        return
    # What no model takes is refused for what it is, whatever the model.
    sha256 = sha256_of(path) if 0 < size <= MAX_BYTES else None
    if not found.readable and found.name and not found.plain:
        raise InputError("unsupported_format", found.refusal, sha256)
    if takes == "images":
        told = (
            f"this model judges pictures and videos, got a scan ({found.name}); use a model for scans, such as brain_t1"
        )
    else:
        known = found.kind in ("image", "video") and found.name
        got = f"a {'video' if found.kind == 'video' else 'picture'} ({found.name})" if known else "something else"
        told = f"this model judges scans (NIfTI, MGH, NRRD, DICOM), got {got}; use a model for pictures, such as faces"
    raise InputError("unsupported_kind", told, sha256)
