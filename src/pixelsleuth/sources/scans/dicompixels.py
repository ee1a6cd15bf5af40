"""Read the stored pixels of DICOM files: uncompressed ones with pydicom, compressed ones with SimpleITK.

Compressed pixels are unpacked in a process of their own: a damaged file can bring the decoder down, which must not end
a run of many.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError

INSTALL = "needs more packages; run `pip install SimpleITK pydicom`"
#: Compressed transfer syntaxes that SimpleITK unpacks; video and the newest JPEGs are none of them.
_UNPACKED = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))
LOSSY = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81))
#: Limits of decoding one file: seconds, the number of voxels that adds as many again, and bytes of memory.
MAX_SECONDS, VOXELS_PER_LIMIT, MAX_MEMORY = 20.0, 20_000_000, 6 << 30
#: The other process finds its modules where this one does.
_START = f"import sys; sys.path[:] = sys.argv[1].split({{!r}}); from {__name__} import serve; serve()"

#: Largest size in bytes of an inflated file: 1 GiB.
MAX_INFLATED = 1 << 30
_DEFLATED = b"1.2.840.10008.1.2.1.99"


class NotUnpacked(Exception):
    """Pixels packed in a way that nothing here unpacks; the text is its name."""


class Unpacker:
    """A process that unpacks one file after the other, started when the first is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._folder is not None:
            self._folder.cleanup()

    def unpacked(self, bare: Any) -> np.ndarray:
        """The pixels of a data set that holds nothing else.

        Raises:
            InputError: `needs_extra` where SimpleITK is not installed.
            ValueError: they are damaged, or take too long.
        """
        if importlib.util.find_spec("SimpleITK") is None:
            raise InputError("needs_extra", f"compressed DICOM {INSTALL}")
        if self._process is None:
            self._folder = tempfile.TemporaryDirectory()
            where = os.pathsep.join(path or os.getcwd() for path in sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START.format(os.pathsep), where],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
            )  # fmt: skip
        assert self._folder is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        path = Path(self._folder.name) / "one.dcm"
        bare.save_as(path, enforce_file_format=True)
        voxels = int(bare.Rows) * int(bare.Columns) * int(bare.get("NumberOfFrames", 1))
        watch = threading.Timer(MAX_SECONDS * (1 + voxels // VOXELS_PER_LIMIT), self._process.kill)
        watch.start()
        try:
            print(path, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        finally:
            watch.cancel()
        if answer.strip() != "read":
            raise ValueError("the compressed pixels are damaged")
        return np.asarray(np.load(f"{path}.npy", allow_pickle=False))


def serve() -> None:
    """Run in the other process: read one path a line, write one word a line."""
    import SimpleITK as sitk

    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        # A decoder that is brought down leaves no dump of its memory behind.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        # Not every system limits memory; the time is limited on all.
        pass
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for line in sys.stdin:
        path = line.rstrip("\n")
        try:
            np.save(f"{path}.npy", sitk.GetArrayFromImage(sitk.ReadImage(path, imageIO="GDCMImageIO")))
            print("read", flush=True)
        except (RuntimeError, MemoryError):
            print("damaged", flush=True)


def syntax_of(whole: Any) -> Any:
    """The transfer syntax of a file's pixels; where it states none, that of its header."""
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    said = str(getattr(whole, "file_meta", {}).get("TransferSyntaxUID") or "").strip()
    if said:
        return UID(said)
    implicit, little = whole.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def stored_values(whole: Any, pictures: int, unpacker: Unpacker) -> np.ndarray:
    """The stored values of one file, without what the bits beyond those in use hold.

    Raises:
        NotUnpacked: nothing here unpacks them.
        InputError: `needs_extra`.
        Exception: whatever a parser makes of damaged bytes.
    """
    from pydicom.uid import RLELossless

    syntax = syntax_of(whole)
    if not any(keyword in whole for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ValueError("the file ends before its pixels")
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise NotUnpacked(str(syntax))
    if not syntax.is_compressed or syntax.is_deflated or syntax == RLELossless:
        if "PixelData" in whole and syntax != RLELossless:
            wanted = int(whole.Rows) * int(whole.Columns) * pictures * int(whole.BitsAllocated) // 8
            if len(whole.PixelData) < wanted:
                raise ValueError(f"expected {wanted:,} bytes of pixels, got {len(whole.PixelData):,}")
        whole.file_meta.TransferSyntaxUID = syntax
        found = np.asarray(whole.pixel_array)
    elif syntax in _UNPACKED:
        found = unpacker.unpacked(_pixels_alone(whole, syntax, pictures))
    else:
        raise NotUnpacked(syntax.name)
    bits, allocated = int(whole.get("BitsStored") or 0), int(whole.get("BitsAllocated") or 0)
    if found.dtype.kind not in "iu" or not 0 < bits < allocated:
        return found
    found = found & np.asarray((1 << bits) - 1, found.dtype)
    if int(whole.get("PixelRepresentation") or 0):
        sign = np.asarray(1 << (bits - 1), found.dtype)
        found = (found ^ sign) - sign
    return found


def inflates_too_far(path: Path) -> bool:
    """Whether a deflated file is damaged or unpacks to more than is read: pydicom unpacks it whole, whatever comes."""
    with open(path, "rb") as file:
        head = file.read(4096)
        if _DEFLATED not in head:
            return False
        at = 132 if head[128:132] == b"DICM" else 0
        # The first element of the file's own group says how long that is; what follows is deflated.
        file.seek(at + 12 + int.from_bytes(head[at + 8 : at + 12], "little"))
        inflater, got = zlib.decompressobj(-15), 0
        pending = file.read(1 << 16)
        try:
            while pending and not inflater.eof and got <= MAX_INFLATED:
                got += len(inflater.decompress(pending, 1 << 20))
                pending = inflater.unconsumed_tail or file.read(1 << 16)
        except zlib.error:
            return True
    return got > MAX_INFLATED


def _pixels_alone(whole: Any, syntax: Any, pictures: int) -> Any:
    """A file with the pixels and no more: of a whole one SimpleITK would also scale the values and turn them over."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    bare, meta = Dataset(), FileMetaDataset()
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"):
        bare[keyword] = whole[keyword]
    bare.SamplesPerPixel, bare.PhotometricInterpretation = 1, "MONOCHROME2"
    # Secondary captures, of one picture or of several in bytes or words: kinds without a scale of their own.
    several = f".{3 if int(whole.BitsAllocated) > 8 else 2}"
    kind = UID("1.2.840.10008.5.1.4.1.1.7" + (several if pictures > 1 else ""))
    if pictures > 1:
        bare.NumberOfFrames = pictures
    meta.MediaStorageSOPClassUID = bare.SOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID = UID("2.25.1")
    meta.TransferSyntaxUID = syntax
    bare.file_meta = meta
    return bare
