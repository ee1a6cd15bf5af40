"""Read DICOM headers: recognise DICOM files, what they hold, and their elements, damaged ones included."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.sources.formats import DICOM, first_bytes, sniffed
from pixelsleuth.sources.scans.dicompixels import INSTALL, inflates_too_far
from pixelsleuth.sources.scans.scanfiles import MAX_BYTES

#: Characters kept of an element's text; the longest that are used, identifiers, have 64.
MAX_CHARACTERS = 80
_INDEX = "1.2.840.10008.1.3.10"


@contextmanager
def quiet() -> Iterator[None]:
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


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, with its preamble or without."""
    try:
        return path.is_file() and sniffed(path) is DICOM and bool(first_bytes(path))
    except OSError:
        return False


def is_index(path: Path) -> bool:
    """Whether a DICOM file is the index of a disc (DICOMDIR), by the kind of object that its first bytes name."""
    return bool(re.search(_INDEX.replace(".", r"\.").encode() + rb"(?![\d.])", first_bytes(path)[:1024]))


@dataclass(frozen=True)
class Header:
    """A DICOM file's header; `header` is None where it cannot be read."""

    path: Path
    header: Any
    sop_class: str

    @property
    def pictures(self) -> int:
        if self.header is None or "Rows" not in self.header or "Columns" not in self.header:
            return 0
        return max(1, whole_of(self.header, "NumberOfFrames", 1))

    @property
    def what(self) -> str:
        """The kind of file, in words."""
        if self.sop_class == _INDEX or self.path.name.upper() == "DICOMDIR":
            return "index"
        if self.header is None:
            return "unreadable"
        name = name_of(self.sop_class).removesuffix(" Storage")
        return name or text_of(self.header, "Modality") or "no pictures"


def need_pydicom() -> Any:
    """The module. Raises InputError `needs_extra` where it is not installed."""
    try:
        import pydicom
    except ImportError:
        raise InputError("needs_extra", f"DICOM {INSTALL}") from None
    return pydicom


def name_of(uid: str) -> str:
    """The standard's name of an identifier; the identifier itself where it has none."""
    from pydicom.uid import UID

    return str(UID(uid).name) if uid else ""


def read_header(path: Path) -> Header:
    """All of a file but its pixels."""
    pydicom = need_pydicom()
    try:
        if path.stat().st_size > MAX_BYTES or inflates_too_far(path):
            return Header(path, None, "")
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        sop_class = text_of(header, "SOPClassUID") or text_of(header.file_meta, "MediaStorageSOPClassUID")
        return Header(path, header, sop_class)
    except Exception:
        # A parser fed with damaged bytes raises what it will.
        return Header(path, None, "")


def element(header: Any, keyword: str) -> Any:
    """An element's value; None where there is none, or where it is damaged: it is decoded when it is asked for."""
    try:
        return header.get(keyword)
    except Exception:
        return None


def text_of(header: Any, keyword: str) -> str:
    """An element as one line, cut off where it is too long to be told; "" where there is none."""
    value = element(header, keyword)
    return "" if value is None else one_line(str(value)[:MAX_CHARACTERS]).strip()


def one_line(text: str) -> str:
    """Reduce a text to one printable line: names and damaged elements may hold anything."""
    return "".join(c if c.isprintable() else " " for c in text)


def whole_of(header: Any, keyword: str, default: int) -> int:
    """An element as a whole number."""
    try:
        return int(element(header, keyword) or default)
    except (TypeError, ValueError, OverflowError):
        return default


def numbers_of(header: Any, keyword: str, count: int) -> np.ndarray | None:
    """So many finite numbers of an element; None where it has not got them."""
    try:
        value = element(header, keyword)
        found = np.atleast_1d(np.asarray(value if value is not None else [], np.float64))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def items_of(header: Any, sequence: str) -> list[Any]:
    """The items of a sequence; none where there is no such sequence."""
    from pydicom.sequence import Sequence as Items

    found = element(header, sequence)
    return list(found) if isinstance(found, Items) else []


def alike(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether two directions are the same but for rounding."""
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, atol=0.02))
