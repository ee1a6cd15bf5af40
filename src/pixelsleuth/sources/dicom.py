"""DICOM: the series of a folder, and one series as a volume.

pydicom reads headers and plain pixels, SimpleITK unpacks compressed ones.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.files import sha256_of
from pixelsleuth.records import Note
from pixelsleuth.sources.dicompixels import (
    INSTALL,
    LOSSY,
    NotUnpacked,
    Unpacker,
    inflates_too_far,
    stored_values,
    syntax_of,
)
from pixelsleuth.sources.formats import DICOM, head_of, sniffed
from pixelsleuth.sources.scanfiles import MAX_BYTES, Opened, check_shape, unknown_side

#: Between a folder and its series in the name of an input: `scans/day1#1.2.840.113619.2.1`.
MARK = "#"
#: Fewest slices of a series; beside one that has them, shorter ones are scouts.
FEWEST = 3
#: Modalities whose pictures are no sections of a body, and those drawn on sections.
NOT_SECTIONS = frozenset({
    "US", "IVUS", "XA", "RF", "DX", "CR", "MG", "IO", "PX", "ES", "GM", "SM", "XC", "OP", "DG", "EC",
    "SEG", "RTDOSE", "RTIMAGE", "PR", "SR", "KO", "REG", "DOC",
})  # fmt: skip
#: Air's CT number: lower ones fill what lies outside the scanner's circle.
AIR = -1024.0
#: Steps between slices may differ by this share, or this many mm.
STEP_SHARE, STEP_MM = 0.02, 0.01
#: Degrees between the way slices are stacked and their normal from which it is told.
TILT_FROM = 2.0
#: Names of files left out that are told.
TOLD = 4
_INDEX = "1.2.840.10008.1.3.10"


@contextmanager
def _quiet() -> Iterator[None]:
    """pydicom warns of every value that is not as the standard says; what matters of it becomes a note or a reason."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(before)


@dataclass(frozen=True)
class _File:
    """A DICOM file's header; `header` is None where it cannot be read."""

    path: Path
    header: Any
    sop_class: str

    @property
    def pictures(self) -> int:
        if self.header is None or "Rows" not in self.header or "Columns" not in self.header:
            return 0
        return max(1, _whole(self.header, "NumberOfFrames", 1))

    @property
    def what(self) -> str:
        """What kind of file it is, for people."""
        if self.sop_class == _INDEX or self.path.name.upper() == "DICOMDIR":
            return "index"
        if self.header is None:
            return "unreadable"
        name = _name_of(self.sop_class).removesuffix(" Storage")
        return name or _text(self.header, "Modality") or "no pictures"


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
    heads: tuple[_File, ...]


@dataclass(frozen=True)
class Listing:
    """What DICOM there is in a folder.

    Attributes:
        series: each is one input.
        left_out: path -> what it is: an index, a report, a scout; told in the notes of every series.
        cut: files that begin as DICOM pictures do and end within their header, with the series where it is known.
    """

    series: tuple[Stack, ...]
    left_out: dict[Path, str]
    cut: tuple[tuple[Path, str], ...]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, with its preamble or without."""
    try:
        return path.is_file() and sniffed(path) is DICOM and bool(head_of(path))
    except OSError:
        return False


def holds_series(folder: Path) -> bool:
    """Whether a folder has a DICOM file in it, or a path names a series of one."""
    if not folder.is_dir():
        return named_series(folder) is not None
    try:
        return any(map(is_dicom, _files(folder)))
    except OSError:
        return False


def named_series(path: Path) -> tuple[Path, str | None] | None:
    """The folder and the series (None: the only one) that an input names; None where it names no folder."""
    if path.is_dir():
        return path, None
    text = os.fspath(path)
    folder, mark, uid = text.rpartition(MARK)
    if mark and uid and "/" not in uid and not path.exists() and Path(folder).is_dir():
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


@_quiet()
def list_folder(folder: Path) -> Listing:
    """Sorts the DICOM files of one folder into series.

    Raises:
        InputError: `needs_extra` where pydicom is not installed, `unreadable` where the folder cannot be listed.
    """
    try:
        heads = [_header(path) for path in _files(folder) if is_dicom(path)]
    except OSError as error:
        raise InputError("unreadable", f"the folder cannot be read ({error.strerror}); check its permissions") from None
    left_out, cut, pictures = {}, [], []
    for one in heads:
        if one.pictures and one.what != "index":
            pictures.append(one)
        elif one.what == "unreadable" or "Image Storage" in _name_of(one.sop_class):
            cut.append((one.path, _text(one.header, "SeriesInstanceUID") if one.header is not None else ""))
        else:
            left_out[one.path] = one.what
    stacks = _stacks(pictures)
    whole = [one for one in stacks if one.sections and one.pictures >= FEWEST]
    if whole:
        left_out |= {path: one.what for one in stacks if one not in whole for path in one.files}
    return Listing(tuple(_named(folder, whole or stacks)), left_out, tuple(cut))


@_quiet()
def open_series(path: Path) -> Opened:
    """Opens one series: a folder that holds one, a name of `series_in`, or one file.

    Raises:
        InputError: `needs_extra`, `not_a_volume`, `several_series`, `missing`, `truncated`, `uneven_slices`,
            `unsupported_format`, `too_few_slices`, `not_3d` or `not_scalar`.
    """
    named = named_series(path)
    if named is None:
        return _open_alone(path)
    folder, uid = named
    found = list_folder(folder)
    chosen = [one for one in found.series if uid is None or one.uid == uid]
    if not chosen:
        if uid is not None:
            raise InputError("missing", f"the folder holds no DICOM series {uid}; give the folder to have them all")
        if found.cut:
            raise _cut_off(found.cut[0][0])
        told = f"but {_counted(found.left_out)}" if found.left_out else "at all"
        raise InputError(
            "not_a_volume", f"expected a DICOM series, got no pictures {told}; give the folder of its slices"
        )
    if len(chosen) > 1:
        names = ", ".join(one.name for one in chosen[:TOLD])
        raise InputError("several_series", f"expected one DICOM series, got {len(chosen)}; give one of {names}")
    for damaged, of in found.cut:
        if of in ("", chosen[0].uid, _text(chosen[0].heads[0].header, "SeriesInstanceUID")):
            raise _cut_off(damaged)
    notes = [Note("left_out", f"left out: {_counted(found.left_out)}")] if found.left_out else []
    return _open_stack(chosen[0], notes)


def _open_alone(path: Path) -> Opened:
    one = _header(path)
    sha256 = sha256_of(path)
    try:
        if one.what == "index":
            raise InputError("not_a_volume", "a DICOMDIR is the index of a disc; give the folder with its pictures")
        if not one.pictures:
            if one.header is None or "Image Storage" in _name_of(one.sop_class):
                raise _cut_off(path)
            raise InputError("not_a_volume", f"expected slices, got a DICOM file without pictures ({one.what})")
        (stack,) = _named(path.parent, _stacks([one]))
        if one.pictures < FEWEST and stack.sections:
            raise InputError("too_few_slices", f"one DICOM file with {one.pictures} slice(s), at least {FEWEST} are "
                             "needed; give the folder that holds the whole series")  # fmt: skip
        return _open_stack(stack, [])
    except InputError as error:
        raise InputError(error.code, error.sentence, sha256) from None


def _cut_off(path: Path) -> InputError:
    return InputError("truncated", f"expected whole DICOM files, got one that is cut off or damaged ({path.name}); "
                      "copy it again")  # fmt: skip


def _counted(left_out: dict[Path, str]) -> str:
    """`report.dcm (Basic Text SR), 000.dcm and 2 more (scout)`"""
    by_kind: dict[str, list[str]] = {}
    for path, what in sorted(left_out.items()):
        by_kind.setdefault(what, []).append(_one_line(path.name))
    told = [f"{n[0]}{f' and {len(n) - 1} more' if len(n) > 1 else ''} ({what})" for what, n in by_kind.items()]
    return ", ".join(told[:TOLD]) + (f" and {len(told) - TOLD} other kinds" if len(told) > TOLD else "")


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        raise InputError("needs_extra", f"DICOM {INSTALL}") from None
    return pydicom


def _name_of(uid: str) -> str:
    from pydicom.uid import UID

    return str(UID(uid).name) if uid else ""


def _header(path: Path) -> _File:
    pydicom = _pydicom()
    try:
        if path.stat().st_size > MAX_BYTES or inflates_too_far(path):
            return _File(path, None, "")
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        sop_class = _text(header, "SOPClassUID") or _text(header.file_meta, "MediaStorageSOPClassUID")
        return _File(path, header, sop_class)
    except Exception:
        # A parser fed with damaged bytes raises what it will.
        return _File(path, None, "")


def _value(header: Any, keyword: str) -> Any:
    """An element's value; None where there is none, or where it is damaged: it is decoded when it is asked for."""
    try:
        return header.get(keyword)
    except Exception:
        return None


def _text(header: Any, keyword: str) -> str:
    value = _value(header, keyword)
    return "" if value is None else _one_line(str(value)).strip()


def _one_line(text: str) -> str:
    """For sentences: names and damaged elements may hold anything."""
    return "".join(c if c.isprintable() else " " for c in text)


def _whole(header: Any, keyword: str, default: int) -> int:
    try:
        return int(_value(header, keyword) or default)
    except (TypeError, ValueError, OverflowError):
        return default


def _numbers(header: Any, keyword: str, count: int) -> np.ndarray | None:
    """So many finite numbers of an element; None where it has not got them."""
    try:
        value = _value(header, keyword)
        found = np.atleast_1d(np.asarray(value if value is not None else [], np.float64))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def _stacks(pictures: Sequence[_File]) -> list[Stack]:
    """Groups files by series, size and direction; a file of many frames is a group of its own."""
    groups: list[tuple[str, tuple[int, ...], np.ndarray | None, list[_File]]] = []
    for one in pictures:
        uid = _text(one.header, "SeriesInstanceUID")
        size = tuple(_whole(one.header, k, 1) for k in ("Rows", "Columns", "SamplesPerPixel"))
        turn = _numbers(one.header, "ImageOrientationPatient", 6)
        same = next((g for g in groups if one.pictures == 1 and g[3][0].pictures == 1 and (uid, size) == g[:2]
                     and _alike(turn, g[2])), None)  # fmt: skip
        if same:
            same[3].append(one)
        else:
            groups.append((uid, size, turn, [one]))
    found = []
    for uid, size, _, files in groups:
        header = files[0].header
        kinds = {str(part).upper() for part in np.atleast_1d(_value(header, "ImageType") or [])}
        scout = "LOCALIZER" in kinds or "SCOUT" in kinds
        modality = _text(header, "Modality")
        count = sum(file.pictures for file in files)
        what = "scout" if scout else f"{modality or 'DICOM'} series of {count}"
        sections = not scout and modality not in NOT_SECTIONS and size[2] == 1
        found.append(Stack("", tuple(file.path for file in files), count, what, sections, uid, tuple(files)))
    return found


def _alike(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, atol=0.02))


def _named(folder: Path, stacks: Sequence[Stack]) -> list[Stack]:
    """Gives every stack a name of its own."""
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


@dataclass(frozen=True)
class _Frame:
    """One slice: where its pixels are, where it lies (LPS, mm), and what its stored values mean."""

    file: int
    number: int
    turn: np.ndarray | None
    place: np.ndarray | None
    slope: float
    intercept: float


def _open_stack(stack: Stack, notes: list[Note]) -> Opened:
    heads, copies = _without_copies(stack.heads)
    if copies:
        notes.append(Note("copies", f"{copies} file(s) of the series are copies of others; each slice counts once"))
    first = heads[0].header
    rows, columns, samples = (_whole(first, k, 1) for k in ("Rows", "Columns", "SamplesPerPixel"))
    count = sum(one.pictures for one in heads)
    photometric = _text(first, "PhotometricInterpretation") or "MONOCHROME2"
    modality = _text(first, "Modality")
    if samples != 1 or not photometric.startswith("MONOCHROME"):
        raise InputError("not_scalar", f"expected one number a voxel, got {photometric or samples}: a colour picture")
    if modality in NOT_SECTIONS:
        raise InputError("not_a_volume", f"expected sections of a body, got pictures of modality {modality}")
    shape = check_shape((columns, rows, count), np.dtype(np.float32))
    if count < FEWEST:
        raise InputError("too_few_slices", f"{count} slices in the series, at least {FEWEST} are needed")
    frames = [frame for k, one in enumerate(heads) for frame in _frames(one, k)]
    affine, order, told = _geometry(heads, frames)
    notes += told
    values, sha256 = _values(heads, frames, (count, rows, columns))
    if len({(frame.slope, frame.intercept) for frame in frames}) > 1:
        notes.append(Note("rescaled", "slices have scales of their own (RescaleSlope, RescaleIntercept): applied"))
    if photometric == "MONOCHROME1":
        values = _both_ends(first, frames[0]) - values
        notes += _turned_over(values)
    if modality == "CT" and float(values.min()) < AIR:
        values = np.maximum(values, np.float32(AIR))
        notes.append(Note("ct_padding", f"values below {AIR:.0f}, outside the scanner's circle, count as air"))
    notes += _packing_notes(heads)
    ordered = np.ascontiguousarray(values[order].transpose(2, 1, 0))
    return Opened(sha256, shape, ordered.dtype, affine, lambda: ordered, tuple(notes))


def _without_copies(heads: Sequence[_File]) -> tuple[list[_File], int]:
    """Files whose object is not that of one before."""
    seen: set[str] = set()
    kept = []
    for one in heads:
        uid = _text(one.header, "SOPInstanceUID") or str(one.path)
        if uid not in seen:
            seen.add(uid)
            kept.append(one)
    return kept, len(heads) - len(kept)


def _of_frame(header: Any, number: int, sequence: str) -> Any:
    """What an enhanced file says of one frame, or of all; the header itself where it is no such file."""
    groups = [*_items(header, "PerFrameFunctionalGroupsSequence")[number : number + 1]]
    groups += _items(header, "SharedFunctionalGroupsSequence")[:1]
    return next((found[0] for group in groups if (found := _items(group, sequence))), header)


def _items(header: Any, sequence: str) -> list[Any]:
    from pydicom.sequence import Sequence as Items

    found = _value(header, sequence)
    return list(found) if isinstance(found, Items) else []


def _frames(one: _File, file: int) -> list[_Frame]:
    found = []
    for number in range(one.pictures):
        turn = _numbers(_of_frame(one.header, number, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        place = _numbers(_of_frame(one.header, number, "PlanePositionSequence"), "ImagePositionPatient", 3)
        if one.pictures > 1 and not _items(one.header, "PerFrameFunctionalGroupsSequence"):
            # One place for all of them is none.
            place = None
        scale = _of_frame(one.header, number, "PixelValueTransformationSequence")
        slope, intercept = _numbers(scale, "RescaleSlope", 1), _numbers(scale, "RescaleIntercept", 1)
        found.append(_Frame(file, number, turn if _upright(turn) else None, place,
                            float(slope[0]) if slope is not None and slope[0] else 1.0,
                            float(intercept[0]) if intercept is not None else 0.0))  # fmt: skip
    return found


def _upright(turn: np.ndarray | None) -> bool:
    """Whether two directions are of length one and square to each other."""
    if turn is None:
        return False
    pair = turn.reshape(2, 3)
    return bool(np.allclose(pair @ pair.T, np.eye(2), atol=0.05))


def _geometry(heads: Sequence[_File], frames: Sequence[_Frame]) -> tuple[np.ndarray, np.ndarray, list[Note]]:
    """(4, 4) from (column, row, slice) to RAS, the order of the frames from first to last slice, and notes."""
    notes: list[Note] = []
    across = _pixel_sides(heads[0].header, notes)
    turn = frames[0].turn
    if any(not _alike(frame.turn, turn) for frame in frames):
        raise InputError(
            "not_3d", "expected parallel slices, got several directions: a scout, or several series in one"
        )
    # DICOM's world points left and back, NIfTI's right and front.
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = np.eye(4)
    if turn is None or any(frame.place is None for frame in frames):
        notes.append(unknown_side("the files give no orientation or place of the slices"))
        order = np.array(sorted(range(len(frames)), key=lambda k: (_instance(heads, frames[k]), k)))
        affine[:3, :3] = np.diag([*across, _thickness(heads[0].header)])
        return to_ras @ affine, order, notes
    row, column = turn.reshape(2, 3)
    normal = np.cross(row, column)
    places = np.array([frame.place for frame in frames])
    order = np.argsort(places @ normal, kind="stable")
    along = (places @ normal)[order]
    steps = np.diff(along)
    if float(steps.min()) < STEP_MM / 10:
        distinct = int((steps >= STEP_MM / 10).sum()) + 1
        raise InputError("not_3d", f"expected one volume, got {len(along)} slices at {distinct} places (points in "
                         "time, or echoes); export one of them")  # fmt: skip
    if not np.allclose(steps, steps.mean(), rtol=STEP_SHARE, atol=STEP_MM):
        raise InputError("uneven_slices", f"expected evenly spaced slices, got steps of {steps.min():g} to "
                         f"{steps.max():g} mm; is a file missing?")  # fmt: skip
    stacked = (places[order[-1]] - places[order[0]]) / (len(order) - 1)
    tilt = float(np.degrees(np.arccos(np.clip(stacked @ normal / max(np.linalg.norm(stacked), 1e-9), -1, 1))))
    if tilt >= TILT_FROM:
        notes.append(Note("tilted_gantry", f"slices are stacked {tilt:.0f} degrees off their normal (a tilted gantry): "
                          "they are judged as they are, not resampled"))  # fmt: skip
    affine[:3, :3] = np.column_stack([row * across[0], column * across[1], stacked])
    affine[:3, 3] = places[order[0]]
    return to_ras @ affine, order, notes


def _pixel_sides(header: Any, notes: list[Note]) -> tuple[float, float]:
    """A pixel's width and height in mm; 1 where they are not given."""
    for place, keyword in (
        (_of_frame(header, 0, "PixelMeasuresSequence"), "PixelSpacing"), (header, "PixelSpacing"),
        (header, "ImagerPixelSpacing"), (header, "NominalScannedPixelSpacing"),
    ):  # fmt: skip
        found = _numbers(place, keyword, 2)
        if found is not None and (found > 0).all():
            return float(found[1]), float(found[0])
    notes.append(Note("voxel_size", "the files give no spacing of pixels, or one that none can have; 1 mm is taken"))
    return 1.0, 1.0


def _thickness(header: Any) -> float:
    place = _of_frame(header, 0, "PixelMeasuresSequence")
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        found = _numbers(place, keyword, 1)
        if found is not None and found[0] > 0:
            return float(found[0])
    return 1.0


def _instance(heads: Sequence[_File], frame: _Frame) -> tuple[int, int]:
    return _whole(heads[frame.file].header, "InstanceNumber", 0), frame.number


def _values(heads: Sequence[_File], frames: Sequence[_Frame], shape: tuple[int, int, int]) -> tuple[np.ndarray, str]:
    """(frames, rows, columns) float32 in the order of `frames`, and the hash of the files."""
    values = np.empty(shape, np.float32)
    hashes: list[str] = []
    at = 0
    with Unpacker() as unpacker:
        for one in heads:
            stored = _stored(one, hashes, unpacker).reshape(one.pictures, *shape[1:])
            for frame in frames[at : at + one.pictures]:
                scaled = stored[frame.number]
                if (frame.slope, frame.intercept) != (1.0, 0.0):
                    scaled = scaled.astype(np.float64) * frame.slope + frame.intercept
                values[at] = scaled
                at += 1
    if len(hashes) == 1:
        return values, hashes[0]
    return values, hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _stored(one: _File, hashes: list[str], unpacker: Unpacker) -> np.ndarray:
    """The stored values of one file; its hash is added to the others."""
    name = one.path.name
    try:
        data = one.path.read_bytes()
    except OSError as error:
        raise InputError("unreadable", f"{name} cannot be read ({error.strerror}); check it") from None
    hashes.append(hashlib.sha256(data).hexdigest())
    try:
        found = stored_values(_pydicom().dcmread(io.BytesIO(data), force=True), one.pictures, unpacker)
    except InputError:
        raise
    except NotUnpacked as error:
        raise InputError("unsupported_format", f"the pixels of {name} are packed as {error}; unpack them first, for "
                         "instance by `gdcmconv --raw IN OUT`") from None  # fmt: skip
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("truncated", f"the pixels of {name} cannot be read ({why[:120]}); copy it again") from None
    rows, columns = (_whole(one.header, keyword, 1) for keyword in ("Rows", "Columns"))
    if found.size != one.pictures * rows * columns:
        raise _cut_off(one.path)
    return found


def _both_ends(header: Any, frame: _Frame) -> float:
    """Lowest plus highest value that a file can hold, scaled: less a value, it is that value turned over."""
    bits = _whole(header, "BitsStored", 16)
    ends = -1 if _whole(header, "PixelRepresentation", 0) else (1 << min(bits, 32)) - 1
    return frame.slope * ends + 2 * frame.intercept


def _turned_over(values: np.ndarray) -> list[Note]:
    """(n, rows, columns), turned over already."""
    notes = [Note("turned_over", "its high values mean dark (MONOCHROME1): turned over")]
    rim = np.concatenate([values[:, [0, -1]].ravel(), values[:, :, [0, -1]].ravel()])
    low, high = np.quantile(values, (0.02, 0.98))
    if float(np.median(rim)) > (low + high) / 2:
        notes.append(Note("bright_air", "after that what surrounds the body is bright: the tag MONOCHROME1 may be "
                          "wrong, and the finding with it"))  # fmt: skip
    return notes


def _packing_notes(heads: Sequence[_File]) -> list[Note]:
    notes = []
    first = heads[0]
    said = _text(first.header, "LossyImageCompression") == "01"
    if said or syntax_of(first.header) in LOSSY:
        told = "its pixels were compressed with loss, which may hide small things or make them"
        notes.append(Note("lossy_compression", told))
    with open(first.path, "rb") as file:
        if file.read(132)[128:] != b"DICM":
            notes.append(Note("no_preamble", "its files lack the preamble that DICOM files begin with"))
    return notes
