"""Read one DICOM series as a volume.

pydicom reads headers and plain pixels, SimpleITK unpacks compressed ones.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.files import sha256_of
from pixelsleuth.records import Note
from pixelsleuth.sources.scans.dicomfolders import (
    MIN_SLICES,
    NOT_SECTIONS,
    Stack,
    list_folder,
    named_series,
    stacks_of,
    with_names,
)
from pixelsleuth.sources.scans.dicomheaders import (
    Header,
    alike,
    items_of,
    name_of,
    need_pydicom,
    numbers_of,
    one_line,
    quiet,
    read_header,
    text_of,
    whole_of,
)
from pixelsleuth.sources.scans.dicompixels import LOSSY, NotUnpacked, Unpacker, stored_values, syntax_of
from pixelsleuth.sources.scans.scanfiles import Opened, check_shape, unknown_side

#: Air's CT number: lower ones fill what lies outside the scanner's circle.
AIR = -1024.0
#: Steps between slices may differ by this share, or this many mm.
STEP_SHARE, STEP_MM = 0.02, 0.01
#: Degrees between the way slices are stacked and their normal from which it is told.
TILT_FROM = 2.0
#: Names of files left out that are told.
TOLD = 4


@quiet()
def open_series(path: Path) -> Opened:
    """Open one series: a folder that holds one, a name of `series_in`, or one file.

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
        if of in ("", chosen[0].uid, text_of(chosen[0].heads[0].header, "SeriesInstanceUID")):
            raise _cut_off(damaged)
    notes = [Note("left_out", f"left out: {_counted(found.left_out)}")] if found.left_out else []
    return _open_stack(chosen[0], notes)


def _open_alone(path: Path) -> Opened:
    one = read_header(path)
    sha256 = sha256_of(path)
    try:
        if one.what == "index":
            raise InputError("not_a_volume", "a DICOMDIR is the index of a disc; give the folder with its pictures")
        if not one.pictures:
            if one.header is None or "Image Storage" in name_of(one.sop_class):
                raise _cut_off()
            raise InputError("not_a_volume", f"expected slices, got a DICOM file without pictures ({one.what})")
        (stack,) = with_names(path.parent, stacks_of([one]))
        if one.pictures < MIN_SLICES and stack.sections:
            raise InputError(
                "too_few_slices",
                f"one DICOM file with {one.pictures} slice(s), at least {MIN_SLICES} are needed; give the folder that "
                "holds the whole series",
            )
        return _open_stack(stack, [])
    except InputError as error:
        raise InputError(error.code, error.sentence, sha256, error.notes) from None


def _cut_off(path: Path | None = None) -> InputError:
    """The refusal of a damaged file; of one among others it gives the name."""
    expected, named = ("whole DICOM files", f" ({path.name})") if path else ("a whole DICOM file", "")
    return InputError("truncated", f"expected {expected}, got one that is cut off or damaged{named}; copy it again")


def _counted(left_out: dict[Path, str]) -> str:
    """`report.dcm (Basic Text SR), 000.dcm and 2 more (scout)`"""
    by_kind: dict[str, list[str]] = {}
    for path, what in sorted(left_out.items()):
        by_kind.setdefault(what, []).append(one_line(path.name))
    told = [f"{n[0]}{f' and {len(n) - 1} more' if len(n) > 1 else ''} ({what})" for what, n in by_kind.items()]
    return ", ".join(told[:TOLD]) + (f" and {len(told) - TOLD} other kinds" if len(told) > TOLD else "")


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
    """The volume of one stack; `notes` is added to, and a refusal carries what it holds by then."""
    try:
        return _of_stack(stack, notes)
    except InputError as error:
        raise InputError(error.code, error.sentence, error.sha256, tuple(notes)) from None


def _of_stack(stack: Stack, notes: list[Note]) -> Opened:
    heads, copies = _without_copies(stack.heads)
    if copies:
        notes.append(Note("copies", f"{copies} file(s) of the series are copies of others; each slice counts once"))
    first = heads[0].header
    rows, columns, samples = (whole_of(first, k, 1) for k in ("Rows", "Columns", "SamplesPerPixel"))
    count = sum(one.pictures for one in heads)
    photometric = text_of(first, "PhotometricInterpretation") or "MONOCHROME2"
    modality = text_of(first, "Modality")
    if samples != 1 or not photometric.startswith("MONOCHROME"):
        raise InputError("not_scalar", f"expected one number a voxel, got {photometric or samples}: a colour picture")
    if modality in NOT_SECTIONS:
        raise InputError("not_a_volume", f"expected sections of a body, got pictures of modality {modality}")
    shape = check_shape((columns, rows, count), np.dtype(np.float32))
    if count < MIN_SLICES:
        raise InputError("too_few_slices", f"{count} slices in the series, at least {MIN_SLICES} are needed")
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
    stored = _stored_type(first)
    return Opened(
        sha256, shape, stored, affine, lambda: ordered, tuple(notes), format=f"DICOM ({modality or '?'})",
        files=len(heads),
    )  # fmt: skip


def _stored_type(header: Any) -> np.dtype:
    sign = "i" if whole_of(header, "PixelRepresentation", 0) else "u"
    size = {8: 1, 16: 2, 32: 4}.get(whole_of(header, "BitsAllocated", 16), 2)
    return np.dtype(f"{sign}{size}")


def _without_copies(heads: Sequence[Header]) -> tuple[list[Header], int]:
    """Files that are not those of an object before: some programs give all slices one identifier, so that where they
    lie and their numbers count, too."""
    seen: set[tuple[str, tuple[float, ...], int]] = set()
    kept = []
    for one in heads:
        uid = text_of(one.header, "SOPInstanceUID") or str(one.path)
        place = numbers_of(one.header, "ImagePositionPatient", 3)
        key = uid, () if place is None else tuple(place.tolist()), whole_of(one.header, "InstanceNumber", 0)
        if key not in seen:
            seen.add(key)
            kept.append(one)
    return kept, len(heads) - len(kept)


def _of_frame(header: Any, number: int, sequence: str) -> Any:
    """What an enhanced file says of one frame, or of all; the header itself where it is no such file."""
    groups = [*items_of(header, "PerFrameFunctionalGroupsSequence")[number : number + 1]]
    groups += items_of(header, "SharedFunctionalGroupsSequence")[:1]
    return next((found[0] for group in groups if (found := items_of(group, sequence))), header)


def _frames(one: Header, file: int) -> list[_Frame]:
    found = []
    for number in range(one.pictures):
        turn = numbers_of(_of_frame(one.header, number, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        place = numbers_of(_of_frame(one.header, number, "PlanePositionSequence"), "ImagePositionPatient", 3)
        if one.pictures > 1 and not items_of(one.header, "PerFrameFunctionalGroupsSequence"):
            # One place for all of them is none.
            place = None
        scale = _of_frame(one.header, number, "PixelValueTransformationSequence")
        slope, intercept = numbers_of(scale, "RescaleSlope", 1), numbers_of(scale, "RescaleIntercept", 1)
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


def _geometry(heads: Sequence[Header], frames: Sequence[_Frame]) -> tuple[np.ndarray, np.ndarray, list[Note]]:
    """(4, 4) from (column, row, slice) to RAS, the order of the frames from first to last slice, and notes."""
    notes: list[Note] = []
    across = _pixel_sides(heads[0].header, notes)
    turn = frames[0].turn
    if any(not alike(frame.turn, turn) for frame in frames):
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
        found = numbers_of(place, keyword, 2)
        if found is not None and (found > 0).all():
            return float(found[1]), float(found[0])
    notes.append(Note("voxel_size", "the files give no spacing of pixels, or one that none can have; 1 mm is taken"))
    return 1.0, 1.0


def _thickness(header: Any) -> float:
    place = _of_frame(header, 0, "PixelMeasuresSequence")
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        found = numbers_of(place, keyword, 1)
        if found is not None and found[0] > 0:
            return float(found[0])
    return 1.0


def _instance(heads: Sequence[Header], frame: _Frame) -> tuple[int, int]:
    return whole_of(heads[frame.file].header, "InstanceNumber", 0), frame.number


def _values(heads: Sequence[Header], frames: Sequence[_Frame], shape: tuple[int, int, int]) -> tuple[np.ndarray, str]:
    """(frames, rows, columns) float32 in the order of `frames`, and the hash of the files."""
    values = np.empty(shape, np.float32)
    hashes: list[str] = []
    at = 0
    with Unpacker() as unpacker:
        for one in heads:
            # Of a file that stands alone whoever gave it knows the name, and a server has given it another.
            name = one.path.name if len(heads) > 1 else "the file"
            stored = _stored(one, name, hashes, unpacker).reshape(one.pictures, *shape[1:])
            for frame in frames[at : at + one.pictures]:
                scaled = stored[frame.number]
                if (frame.slope, frame.intercept) != (1.0, 0.0):
                    scaled = scaled.astype(np.float64) * frame.slope + frame.intercept
                values[at] = scaled
                at += 1
    if len(hashes) == 1:
        return values, hashes[0]
    return values, hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()


def _stored(one: Header, name: str, hashes: list[str], unpacker: Unpacker) -> np.ndarray:
    """The stored values of one file, which reasons call `name`; its hash is added to the others."""
    try:
        data = one.path.read_bytes()
    except OSError as error:
        raise InputError("unreadable", f"{name} cannot be read ({error.strerror}); check it") from None
    hashes.append(hashlib.sha256(data).hexdigest())
    try:
        found = stored_values(need_pydicom().dcmread(io.BytesIO(data), force=True), one.pictures, unpacker)
    except InputError:
        raise
    except NotUnpacked as error:
        raise InputError("unsupported_format", f"the pixels of {name} are packed as {error}; unpack them first, for "
                         "instance by `gdcmconv --raw IN OUT`") from None  # fmt: skip
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("truncated", f"the pixels of {name} cannot be read ({why[:120]}); copy it again") from None
    rows, columns = (whole_of(one.header, keyword, 1) for keyword in ("Rows", "Columns"))
    if found.size != one.pictures * rows * columns:
        raise _cut_off(one.path if name == one.path.name else None)
    return found


def _both_ends(header: Any, frame: _Frame) -> float:
    """Lowest plus highest value that a file can hold, scaled: less a value, it is that value turned over."""
    bits = whole_of(header, "BitsStored", 16)
    ends = -1 if whole_of(header, "PixelRepresentation", 0) else (1 << min(bits, 32)) - 1
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


def _packing_notes(heads: Sequence[Header]) -> list[Note]:
    notes = []
    first = heads[0]
    said = text_of(first.header, "LossyImageCompression") == "01"
    if said or syntax_of(first.header) in LOSSY:
        told = "its pixels were compressed with loss, which may hide small things or make them"
        notes.append(Note("lossy_compression", told))
    with open(first.path, "rb") as file:
        if file.read(132)[128:] != b"DICM":
            notes.append(Note("no_preamble", "its files lack the preamble that DICOM files begin with"))
    return notes
