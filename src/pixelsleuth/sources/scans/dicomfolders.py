"""Find the DICOM series of a folder, each one input, and what lies beside them: reports, indexes, scouts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.sources.scans.dicomheaders import (
    Header,
    alike,
    element,
    is_dicom,
    name_of,
    numbers_of,
    quiet,
    read_header,
    text_of,
    whole_of,
)

#: Between a folder and its series in the name of an input: `scans/day1#1.2.840.113619.2.1`.
MARK = "#"
#: Smallest number of slices in a series; shorter ones beside such a series are scouts.
MIN_SLICES = 3
#: Modalities whose pictures are no sections of a body, and those drawn on sections.
NOT_SECTIONS = frozenset({
    "US", "IVUS", "XA", "RF", "DX", "CR", "MG", "IO", "PX", "ES", "GM", "SM", "XC", "OP", "DG", "EC",
    "SEG", "RTDOSE", "RTIMAGE", "PR", "SR", "KO", "REG", "DOC",
})  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """Files of one series whose slices lie in one direction and have one size.

    Attributes:
        name: what `read_volume` takes for it.
        files: of the series, in sorted order.
    """

    name: str
    files: tuple[Path, ...]
    pictures: int
    what: str
    sections: bool
    uid: str
    heads: tuple[Header, ...]


@dataclass(frozen=True)
class Listing:
    """The DICOM files of a folder.

    Attributes:
        series: each is one input.
        left_out: path -> what it is: an index, a report, a scout; told in the notes of every series.
        cut: files that begin as DICOM pictures do and end within their header, with the series where it is known.
    """

    series: tuple[Stack, ...]
    left_out: dict[Path, str]
    cut: tuple[tuple[Path, str], ...]


def holds_series(folder: Path) -> bool:
    """Whether a folder has a DICOM file in it, or a path names a series of one."""
    if not os.path.isdir(folder):
        return named_series(folder) is not None
    try:
        return any(map(is_dicom, _files(folder)))
    except OSError:
        return False


def named_series(path: Path) -> tuple[Path, str | None] | None:
    """The folder and the series (None: the only one) that an input names; None where it names no folder."""
    if os.path.isdir(path):
        return path, None
    text = os.fspath(path)
    folder, mark, uid = text.rpartition(MARK)
    if mark and uid and "/" not in uid and not os.path.exists(path) and os.path.isdir(folder):
        return Path(folder), uid
    return None


def series_in(folder: Path) -> list[tuple[str, list[Path]]]:
    """The DICOM series of a folder: of each the name that `read_volume` takes, and all files that it answers for.

    The name is the folder's where it holds one series, the file's where one file holds it all, else the folder's with
    the series after a `#`. Files that belong to no series (an index, reports, scouts) are listed with the first; where
    no file holds a picture the list is empty. Without pydicom all files are one series, whose record says what to
    install.
    """
    try:
        found = list_folder(folder)
    except InputError:
        files = [path for path in _files(folder) if is_dicom(path)]
        return [(os.fspath(folder), files)] if files else []
    listed = [(one.name, list(one.files)) for one in found.series]
    if listed:
        listed[0][1].extend([*found.left_out, *(path for path, _ in found.cut)])
    elif found.cut:
        listed = [(os.fspath(path), [path]) for path, _ in found.cut]
    return listed


@quiet()
def list_folder(folder: Path) -> Listing:
    """Sort the DICOM files of one folder into series.

    Raises:
        InputError: `needs_extra` where pydicom is not installed, `unreadable` where the folder cannot be listed.
    """
    try:
        heads = [read_header(path) for path in _files(folder) if is_dicom(path)]
    except OSError as error:
        raise InputError("unreadable", f"the folder cannot be read ({error.strerror}); check its permissions") from None
    left_out, cut, pictures = {}, [], []
    for one in heads:
        if one.pictures and one.what != "index":
            pictures.append(one)
        elif one.what == "unreadable" or "Image Storage" in name_of(one.sop_class):
            cut.append((one.path, text_of(one.header, "SeriesInstanceUID") if one.header is not None else ""))
        else:
            left_out[one.path] = one.what
    stacks = stacks_of(pictures)
    whole = [one for one in stacks if one.sections and one.pictures >= MIN_SLICES]
    if whole:
        left_out |= {path: one.what for one in stacks if one not in whole for path in one.files}
    return Listing(tuple(with_names(folder, whole or stacks)), left_out, tuple(cut))


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]


def stacks_of(pictures: Sequence[Header]) -> list[Stack]:
    """Groups files by series, size and direction; a file of many frames is a group of its own."""
    groups: list[tuple[str, tuple[int, ...], np.ndarray | None, list[Header]]] = []
    for one in pictures:
        uid = text_of(one.header, "SeriesInstanceUID")
        size = tuple(whole_of(one.header, k, 1) for k in ("Rows", "Columns", "SamplesPerPixel"))
        turn = numbers_of(one.header, "ImageOrientationPatient", 6)
        same = next((g for g in groups if one.pictures == 1 and g[3][0].pictures == 1 and (uid, size) == g[:2]
                     and alike(turn, g[2])), None)  # fmt: skip
        if same:
            same[3].append(one)
        else:
            groups.append((uid, size, turn, [one]))
    found = []
    for uid, size, _, files in groups:
        header = files[0].header
        kinds = {str(part).upper() for part in np.atleast_1d(element(header, "ImageType") or [])}
        scout = "LOCALIZER" in kinds or "SCOUT" in kinds
        modality = text_of(header, "Modality")
        count = sum(file.pictures for file in files)
        what = "scout" if scout else f"{modality or 'DICOM'} series of {count}"
        sections = not scout and modality not in NOT_SECTIONS and size[2] == 1
        found.append(Stack("", tuple(file.path for file in files), count, what, sections, uid, tuple(files)))
    return found


def with_names(folder: Path, stacks: Sequence[Stack]) -> list[Stack]:
    """Give every stack a name of its own."""
    if len(stacks) == 1 and len(stacks[0].files) > 1:
        return [replace(stacks[0], name=os.fspath(folder))]
    counts: dict[str, int] = {}
    found = []
    for one in stacks:
        uid = one.uid or "unnamed"
        counts[uid] = counts.get(uid, 0) + 1
        uid += f"-{counts[uid]}" if counts[uid] > 1 else ""
        name = os.fspath(one.files[0]) if len(one.files) == 1 else f"{os.fspath(folder)}{MARK}{uid}"
        found.append(replace(one, name=name, uid=uid))
    return found
