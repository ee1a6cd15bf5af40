"""Open one file of a volume by its content, whatever its name: NIfTI-1 and -2, Analyze, MGH; NRRD in `nrrdfiles`.

Nothing is decoded before the header's promises were held against the limits, and a gzip file counts only once its
checksum was compared.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import os
import stat
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.files import sha256_of
from pixelsleuth.records import Note
from pixelsleuth.sources.formats import sniffed

#: Voxels of one volume; whole-body CT passes, a header that announces terabytes does not.
MAX_VOXELS = 512 * 512 * 1024
#: Bytes on disk.
MAX_BYTES = 4_000_000_000
#: Bytes behind the voxels that are unpacked to reach a gzip file's checksum.
MAX_TAIL = 64 << 20
#: Bytes that a header of text may have.
MAX_HEADER = 1 << 20
#: NIfTI-2's header is the longest of fixed length.
HEAD = 540
#: What lengths of a header count in, as nibabel names it -> how many millimetres that is.
MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
#: sform and qform disagree where their axes lie further apart than this, in degrees, ...
MAX_TURN = 5.0
#: ... or their voxel sizes differ by more than this share.
MAX_STRETCH = 0.05

DAMAGED = "copy it again from its source"
_PACKED = b"\x1f\x8b"
_HEADERS, _IMAGES = (".hdr", ".hdr.gz"), (".img", ".img.gz")


@dataclass(frozen=True)
class Opened:
    """A volume whose header was read.

    Attributes:
        dtype: of the voxels as they are stored.
        load: gives the voxels, float32 or what casts to it, of `shape`. Raises InputError where they are damaged.
        affine: (4, 4) float64, voxel to RAS in units of `unit`.
        notes: what the header leaves open.
        unit: one of `MILLIMETRES`.
        format: its name; description: what a NIfTI header says of itself; files: how many hold it.
        close: lets go of the file where `load` is not called.
    """

    sha256: str
    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray
    load: Callable[[], np.ndarray]
    notes: tuple[Note, ...] = ()
    unit: str = "mm"
    format: str = ""
    description: bytes = b""
    files: int = 1
    close: Callable[[], None] = lambda: None


def open_file(path: Path) -> Opened:
    """Open a file that holds one volume; of a pair of `.hdr` and `.img` either may be given.

    Raises:
        InputError: `missing`, `not_a_file`, `unreadable`, `empty`, `too_large`, `missing_pair`, `truncated`,
            `corrupt`, `unsupported_format`, `not_3d`, `not_scalar` or `not_a_volume`.
    """
    sha256 = _hash_of(path)
    try:
        header = path
        head = unpacked_start(path)
        if path.name.lower().endswith(_IMAGES) and not _stands_alone(head):
            header = _partner(path, _HEADERS)
            head = unpacked_start(header)
        if head.startswith(b"NRRD"):
            from pixelsleuth.sources.scans.nrrdfiles import open_nrrd

            return open_nrrd(header, sha256)
        reader = _reader_of(head)
        if reader is None:
            raise _unknown(header, head)
        return _open_nibabel(header, head, reader, sha256)
    except InputError as error:
        raise InputError(error.code, error.sentence, sha256) from None
    except OSError as error:
        raise InputError("unreadable", f"the file cannot be read ({first_line(error)}); check it", sha256) from None


def unpacked_start(path: Path) -> bytes:
    """The first bytes of what a file holds, unpacked where it is gzipped, whatever its name."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    if not head.startswith(_PACKED):
        return head[:HEAD]
    try:
        found = zlib.decompressobj(31).decompress(head, HEAD)
    except zlib.error as error:
        raise InputError("corrupt", f"the compressed file is damaged ({error}); {DAMAGED}") from None
    if not found:
        raise InputError("truncated", f"the file ends too early; {DAMAGED}")
    return found


def _stands_alone(head: bytes) -> bool:
    """Whether header and voxels lie in one file of NIfTI, whatever its name."""
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def is_companion(path: Path) -> bool:
    """Whether a file is the header of a pair whose voxels lie beside it: the pair's record is its `.img`'s."""
    return path.name.lower().endswith(_HEADERS) and _beside(path, _IMAGES) is not None


def check_shape(shape: Sequence[int], dtype: np.dtype) -> tuple[int, ...]:
    """The shape without trailing axes of one voxel; refuses what is no single volume of numbers before it is read."""
    kept = tuple(int(n) for n in shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept = kept[:-1]
    if any(n < 1 for n in kept):
        raise InputError("not_a_volume", f"expected sides of at least one voxel, got {kept}; its header is damaged")
    if len(kept) != 3:
        raise InputError("not_3d", f"expected one 3-D volume, got shape {kept}; split a series into its volumes")
    if math.prod(kept) > MAX_VOXELS:
        raise InputError("too_large", f"{kept} are more than {MAX_VOXELS:,} voxels; crop or resample it")
    if dtype.fields is not None or dtype.kind not in "biuf":
        raise InputError("not_scalar", "expected one number a voxel, got a colour, vector or complex volume")
    return kept


def unknown_side(why: str) -> Note:
    """The note of a scan whose header does not say how it lies."""
    return Note("orientation_unknown", f"{why}: which side is left or right is not known")


def _hash_of(path: Path) -> str:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise InputError("not_a_file", "expected a regular file, got a folder, device, pipe or socket")
        if found.st_size == 0:
            raise InputError("empty", f"the file has no bytes; {DAMAGED}")
        if found.st_size > MAX_BYTES:
            raise InputError("too_large", f"the file has {found.st_size:,} bytes, the limit is {MAX_BYTES:,}")
        return sha256_of(path)
    except FileNotFoundError:
        raise InputError("missing", "no such file; check its path, and whether it was moved during the run") from None
    except (OSError, ValueError) as error:
        why = first_line(error)
        raise InputError("unreadable", f"the file cannot be read ({why}); check its permissions") from error


def _beside(path: Path, suffixes: Sequence[str]) -> Path | None:
    """The other file of a pair, its suffix in upper or lower case."""
    lower = path.name.lower()
    bare = next((path.name[: -len(s)] for s in reversed(_HEADERS + _IMAGES) if lower.endswith(s)), path.stem)
    wanted = {bare + suffix for suffix in suffixes} | {bare + suffix.upper() for suffix in suffixes}
    # With the other suffix a name may be longer than files' names can be.
    return next((path.with_name(name) for name in sorted(wanted) if os.path.isfile(path.with_name(name))), None)


def _partner(path: Path, suffixes: Sequence[str]) -> Path:
    found = _beside(path, suffixes)
    if found is None:
        raise InputError(
            "missing_pair", f"expected its {suffixes[0]} file beside it, got none; give both in one folder"
        )
    return found


def _unknown(header: Path, head: bytes) -> InputError:
    if len(head) < 348 and head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        return InputError("truncated", f"the file ends within its header; {DAMAGED}")
    known = sniffed(header).name
    if known and known not in ("NIfTI", "NRRD", "FreeSurfer (MGH)", "text"):
        return InputError("unsupported_format", f"expected NIfTI, MGH, NRRD or DICOM, got {known}; convert it to NIfTI")
    return InputError("not_a_volume", "expected a NIfTI, MGH, NRRD or DICOM file, got something else")


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Silence readers' warnings about headers that they repair; what matters becomes a note."""
    from nibabel.imageglobals import logger

    before = logger.level
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(before)


def _reader_of(head: bytes) -> Any:
    """nibabel's class for what a header says it is; None where it is none."""
    import nibabel

    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    if 348 in sizes and len(head) >= 348:
        magic = head[344:348]
        if magic == b"n+1\0":
            return nibabel.Nifti1Image
        return nibabel.Nifti1Pair if magic == b"ni1\0" else nibabel.AnalyzeImage
    if 540 in sizes and len(head) >= 540:
        return {b"n+2\0": nibabel.Nifti2Image, b"ni2\0": nibabel.Nifti2Pair}.get(head[4:8])
    if head[:4] == b"\0\0\0\1" and int.from_bytes(head[20:24], "big") in (0, 1, 3, 4) and len(head) >= 284:
        return nibabel.freesurfer.MGHImage
    return None


def _open_nibabel(header: Path, head: bytes, reader: Any, sha256: str) -> Opened:
    from nibabel.filebasedimages import ImageFileError
    from nibabel.fileholders import FileHolder
    from nibabel.freesurfer.mghformat import MGHError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        with quiet():
            raw = _raw_header(reader, head)
            shape = check_shape(raw.get_data_shape(), raw.get_data_dtype())
            paired = len(reader.files_types) > 1
            data = _partner(header, _IMAGES) if paired else header
            _check_length(data, raw, shape)
            # Not by name: nibabel would unpack what ends in .gz and nothing else.
            streams = {"image": _stream(data)} | ({"header": _stream(header)} if paired else {})
            files = {name: FileHolder(fileobj=stream) for name, stream in streams.items()}
            # Not mapped: a file that shrinks while it is read would end the process.
            image = reader.from_file_map(files, mmap=False)
            affine = _affine_of(image, raw)
            unit = _unit_of(raw)
            notes = _header_notes(raw, head, unit)
    except InputError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise broken(error) from None
    except (ImageFileError, HeaderDataError, WrapStructError, MGHError, ValueError, ArithmeticError, LookupError,
            TypeError) as error:  # fmt: skip
        why = first_line(error)
        raise InputError("not_a_volume", f"expected a NIfTI, Analyze or MGH file, got something else ({why})") from None

    def load() -> np.ndarray:
        try:
            with quiet():
                values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
                verify(streams["image"])
        except (EOFError, gzip.BadGzipFile, zlib.error, OSError, ValueError) as error:
            raise broken(error) from None
        finally:
            close()
        return values

    def close() -> None:
        for stream in streams.values():
            stream.close()

    name = {"MGHImage": "FreeSurfer (MGH)", "AnalyzeImage": "Analyze"}.get(reader.__name__, "NIfTI")
    said = bytes(raw["descrip"]).rstrip(b"\0") if name == "NIfTI" else b""
    count = 2 if paired else 1
    return Opened(sha256, shape, raw.get_data_dtype(), affine, load, notes, unit, name, said, count, close)


def _raw_header(reader: Any, head: bytes) -> Any:
    """The header as it is written, not as nibabel mends it."""
    kind = reader.header_class
    if kind.__name__ == "MGHHeader":
        return kind(head[:284] + bytes(20), check=False)
    return kind.from_fileobj(io.BytesIO(head), check=False)


def _check_length(data: Path, raw: Any, shape: tuple[int, ...]) -> None:
    """Refuse a file that is shorter than its header says; of a packed one that is seen once it is unpacked."""
    with open(data, "rb") as file:
        if file.read(2) == _PACKED:
            return
    offset = 284 if "goodRASFlag" in raw.keys() else max(0, int(raw.get_data_offset()))  # noqa: SIM118
    wanted = offset + math.prod(shape) * raw.get_data_dtype().itemsize
    got = data.stat().st_size
    if got < wanted:
        raise InputError("truncated", f"expected {wanted:,} bytes, got {got:,}: the file ends too early; {DAMAGED}")


def _stream(path: Path) -> Any:
    file = open(path, "rb")  # noqa: SIM115
    if file.read(2) != _PACKED:
        file.seek(0)
        return file
    file.close()
    return gzip.open(path, "rb")


def verify(stream: Any) -> None:
    """Read a gzip file to its end, where its checksum stands."""
    if not isinstance(stream, gzip.GzipFile):
        return
    left = MAX_TAIL
    try:
        while left > 0:
            got = len(stream.read(1 << 16))
            if not got:
                return
            left -= got
    except gzip.BadGzipFile as error:
        # Bytes behind a whole file that are no further part of it are no damage to what was read.
        if not str(error).startswith("Not a gzipped file"):
            raise
        return
    raise InputError("corrupt", "the file unpacks to far more than its header says; its header is damaged")


def broken(error: BaseException) -> InputError:
    why = first_line(error)
    if isinstance(error, gzip.BadGzipFile | zlib.error):
        return InputError("corrupt", f"the compressed file is damaged ({why}); {DAMAGED}")
    return InputError("truncated", f"the file ends too early or is damaged ({why}); {DAMAGED}")


def _affine_of(image: Any, raw: Any) -> np.ndarray:
    """sform where its code is set, as nibabel has it; but qform where sform is no orientation and qform is one."""
    affine = np.array(image.affine, np.float64)
    if "qform_code" in raw.keys() and int(raw["qform_code"]) > 0 and not _turns(affine):  # noqa: SIM118
        other = np.asarray(raw.get_qform(), np.float64)
        return other if _turns(other) else affine
    return affine


def _turns(affine: np.ndarray) -> bool:
    """Whether it can be inverted."""
    return bool(np.isfinite(affine).all()) and abs(float(np.linalg.det(affine[:3, :3]))) > 0


def _unit_of(raw: Any) -> str:
    """What a NIfTI header counts lengths in; where it does not say, or is of another format, millimetres."""
    code = int(raw["xyzt_units"]) & 7 if "xyzt_units" in raw.keys() else 0  # noqa: SIM118
    return {1: "meter", 3: "micron"}.get(code, "mm")


def _header_notes(raw: Any, head: bytes, unit: str) -> tuple[Note, ...]:
    """What a header leaves open about how the scan lies, and that it counts in another unit than millimetres."""
    keys = raw.keys()
    if "goodRASFlag" in keys:
        # nibabel mends the flag, so that only the bytes tell.
        return () if any(head[28:30]) else (unknown_side("the header gives no orientation"),)
    notes = []
    sizes = np.asarray(raw["pixdim"][1:4], np.float64)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        told = " x ".join(f"{size:g}" for size in sizes)
        sentence = f"the header gives voxels of {told} {unit}, which none can have; they are mended"
        notes.append(Note("voxel_size", sentence))
    if unit != "mm":
        sentence = f"the header counts lengths in the unit {unit}: sizes are told in mm, maps keep the file's unit"
        notes.append(Note("voxel_unit", sentence))
    if "qform_code" not in keys:
        return (unknown_side("an Analyze file gives no orientation"), *notes)
    codes = int(raw["sform_code"]), int(raw["qform_code"])
    if codes == (0, 0):
        return (unknown_side("sform and qform codes are both 0, so that the header gives no orientation"), *notes)
    if min(codes) > 0 and (found := _disagreement(raw)):
        notes.append(Note("sform_qform", found))
    return tuple(notes)


def _disagreement(raw: Any) -> str | None:
    """How the two orientations of a NIfTI header differ, where they do."""
    from nibabel.orientations import aff2axcodes

    try:
        told = [np.asarray(raw.get_sform(), np.float64)[:3, :3], np.asarray(raw.get_qform(), np.float64)[:3, :3]]
        sizes = [np.linalg.norm(one, axis=0) for one in told]
        if not all(np.isfinite(size).all() and (size > 0).all() for size in sizes):
            taken = "sform" if np.isfinite(told[0]).all() and np.linalg.det(told[0]) else "qform"
            return f"sform and qform disagree: one of them is no orientation; {taken} was taken"
        cosine = np.clip(((told[0] / sizes[0]) * (told[1] / sizes[1])).sum(0), -1, 1)
        turn = float(np.degrees(np.arccos(cosine)).max())
        axes = ["".join(str(one) for one in aff2axcodes(np.pad(m, (0, 1)))) for m in told]
    except (ValueError, np.linalg.LinAlgError):
        return "sform and qform disagree: qform is no orientation; sform was taken"
    stretch = float(np.abs(sizes[0] / sizes[1] - 1).max())
    if turn <= MAX_TURN and stretch <= MAX_STRETCH:
        return None
    what = f"axes point to {axes[0]} and to {axes[1]}" if axes[0] != axes[1] else f"they lie {turn:.0f} degrees apart"
    if turn <= MAX_TURN:
        what = f"voxel sizes differ by {stretch:.0%}"
    return f"sform and qform disagree ({what}); sform was taken, and left and right may be swapped"
