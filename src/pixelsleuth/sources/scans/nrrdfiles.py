"""Read a volume from NRRD, whose header is text."""

from __future__ import annotations

import bz2
import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.records import Note
from pixelsleuth.sources.scans.scanfiles import (
    DAMAGED,
    MAX_HEADER,
    Opened,
    broken,
    check_shape,
    first_line,
    quiet,
    unknown_side,
    verify,
)


def open_nrrd(path: Path, sha256: str) -> Opened:
    """Open a file that begins with `NRRD`. Raises InputError as `scanfiles.open_file` does."""
    import nrrd

    with open(path, "rb") as file:
        start = file.read(MAX_HEADER)
    end = min((at + len(gap) for gap in (b"\n\n", b"\r\n\r\n") if (at := start.find(gap)) >= 0), default=0)
    if not end:
        if b"data file" in start or b"datafile" in start:
            end = len(start)
        else:
            raise InputError("truncated", f"the file ends within its header; {DAMAGED}")
    try:
        with quiet():
            header = nrrd.read_header(start[:end].splitlines())
            if {"data file", "datafile"} & set(header):
                # Its voxels could be any file on this machine.
                raise InputError("unsupported_format", "expected voxels in the file, got a header that names other "
                                 "files (detached NRRD); save it as one .nrrd")  # fmt: skip
            dtype = nrrd.reader._determine_datatype(header)
            shape = _shape(header, dtype)
            affine, notes = _space(header)
    except InputError:
        raise
    except (nrrd.NRRDError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise InputError("not_a_volume", f"its NRRD header is damaged ({first_line(error)}); export it again") from None
    sides = tuple(int(n) for n in header["sizes"])

    def load() -> np.ndarray:
        return _values(path, end, header, dtype, sides).reshape(shape)

    return Opened(sha256, shape, dtype, affine, load, notes, format="NRRD")


def _shape(header: Any, dtype: np.dtype) -> tuple[int, ...]:
    """The volume's sides; an axis of colours, vectors or times is refused unless it has one entry."""
    sides = [int(n) for n in header["sizes"]]
    if int(header["dimension"]) != len(sides):
        raise ValueError(f"dimension {header['dimension']} of {len(sides)} sizes")
    spatial = _spatial_axes(header)
    others = [n for axis, n in enumerate(sides) if axis not in spatial]
    if any(n != 1 for n in others):
        if len(spatial) == 3 and spatial[0] == 1:
            raise InputError("not_scalar", f"expected one number a voxel, got {others[0]} (sizes {sides})")
        raise InputError("not_3d", f"expected one 3-D volume, got sizes {sides}; split a series into its volumes")
    return check_shape([sides[axis] for axis in spatial], dtype)


def _spatial_axes(header: Any) -> list[int]:
    count = len(header["sizes"])
    directions = header.get("space directions")
    if directions is not None:
        rows = [np.atleast_1d(np.asarray(np.nan if row is None else row, np.float64)) for row in directions]
        found = [axis for axis, row in enumerate(rows) if not np.isnan(row).all()]
        if len(found) == 3:
            return found
    kinds = header.get("kinds")
    if kinds is not None:
        found = [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space")]
        if len(found) == 3:
            return found
    return list(range(count))


def _space(header: Any) -> tuple[np.ndarray, tuple[Note, ...]]:
    """(4, 4) to RAS, and what is not known of it."""
    spatial = _spatial_axes(header)
    affine = np.eye(4)
    directions = header.get("space directions")
    space = str(header.get("space", "")).lower()
    short = {"ras": "right-anterior-superior", "las": "left-anterior-superior", "lps": "left-posterior-superior"}
    axes = short.get(space, space).removesuffix("-time").split("-")
    known = len(axes) == 3 and {axes[0]} <= {"left", "right"} and {axes[1]} <= {"anterior", "posterior"}
    known = known and axes[2] in ("superior", "inferior")
    if directions is None:
        sizes = np.asarray(header.get("spacings", np.ones(len(header["sizes"]))), np.float64)[spatial]
        odd = not (np.isfinite(sizes).all() and (sizes > 0).all())
        affine[:3, :3] = np.diag(np.where(np.isfinite(sizes) & (sizes != 0), np.abs(sizes), 1.0))
        note = Note("voxel_size", "the header gives voxel sizes that none can have; they count as 1 mm")
        return affine, (unknown_side("the header gives no orientation"), *((note,) if odd else ()))
    rows = np.array([np.asarray(directions[axis], np.float64) for axis in spatial])
    affine[:3, :3] = rows.T
    origin = header.get("space origin")
    if origin is not None:
        affine[:3, 3] = np.asarray(origin, np.float64)
    if not known:
        return affine, (unknown_side(f"the header's space is {space or 'not given'}"),)
    signs = [-1.0 if name in ("left", "posterior", "inferior") else 1.0 for name in axes]
    return np.diag([*signs, 1.0]) @ affine, ()


def _values(path: Path, start: int, header: Any, dtype: np.dtype, sides: tuple[int, ...]) -> np.ndarray:
    """The voxels, first axis fastest; never more is unpacked than the header promises."""
    wanted = math.prod(sides) * dtype.itemsize
    coding = str(header["encoding"]).lower()
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    lines = int(header.get("line skip", header.get("lineskip", 0)))
    try:
        with open(path, "rb") as file:
            file.seek(start)
            for _ in range(min(lines, 1000)):
                file.readline(MAX_HEADER)
            if coding == "raw":
                file.seek(-wanted if skip == -1 else max(0, skip), os.SEEK_END if skip == -1 else os.SEEK_CUR)
                data = file.read(wanted)
            elif coding in ("gzip", "gz"):
                packed = gzip.GzipFile(fileobj=file)
                data = packed.read(wanted)
                verify(packed)
            elif coding in ("bzip2", "bz2"):
                data = bz2.BZ2File(file).read(wanted)
            elif coding in ("ascii", "text", "txt"):
                return _from_text(file, dtype, sides)
            else:
                raise InputError("unsupported_format", f"expected raw, gzip, bzip2 or ascii voxels, got {coding!r}; "
                                 "save it as gzip")  # fmt: skip
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise broken(error) from None
    if len(data) < wanted:
        raise InputError("truncated", f"expected {wanted:,} bytes of voxels, got {len(data):,}; {DAMAGED}")
    return np.frombuffer(data, dtype, math.prod(sides)).reshape(sides, order="F")


def _from_text(file: BinaryIO, dtype: np.dtype, sides: tuple[int, ...]) -> np.ndarray:
    # A number of text takes at most 25 characters.
    words = file.read(math.prod(sides) * 26 + MAX_HEADER).split()
    if len(words) < math.prod(sides):
        raise InputError("truncated", f"expected {math.prod(sides):,} voxels, got {len(words):,}; {DAMAGED}")
    return np.array(words[: math.prod(sides)], np.float64).astype(dtype).reshape(sides, order="F")
