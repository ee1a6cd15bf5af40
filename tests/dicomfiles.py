"""DICOM made at run time: series of files, enhanced files, and what lies beside them on discs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

MR, ENHANCED_MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.2"
REPORT, INDEX = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.1.3.10"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class How:
    """How a series is written.

    Attributes:
        slopes: of each slice, in place of 1 for all; the stored values are divided by them.
        more: elements that every file gets.
    """

    series: str = "1.2.826.0.1.3680043.2.1125.1"
    modality: str = "MR"
    sop_class: str = MR
    photometric: str = "MONOCHROME2"
    turn: tuple[float, ...] | None = AXIAL
    spacing: tuple[float, float] = (1.5, 1.5)
    step: tuple[float, float, float] = (0.0, 0.0, 4.0)
    slopes: Sequence[float] | None = None
    intercept: float = 0.0
    bits: int = 12
    signed: bool = False
    syntax: UID = ExplicitVRLittleEndian
    preamble: bool = True
    meta: bool = True
    more: dict[str, Any] = field(default_factory=dict)


def as_stored(values: np.ndarray) -> np.ndarray:
    """(X, Y, Z) in RAS -> (slices, rows, columns), which run to the left and to the back."""
    return np.ascontiguousarray(values[::-1, ::-1].transpose(2, 1, 0))


def write_series(folder: Path, values: np.ndarray, how: How | None = None, prefix: str = "") -> list[Path]:
    """One file a slice, named against their order."""
    how = how or How()
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for k, stored in enumerate(_coded(as_stored(values), how)):
        data = _common(how, stored)
        data.InstanceNumber = k + 1
        if how.turn is not None:
            data.ImageOrientationPatient = list(how.turn)
            data.ImagePositionPatient = [-80.0 + k * how.step[0], -90.0 + k * how.step[1], -15.0 + k * how.step[2]]
        if how.slopes is not None or how.intercept:
            data.RescaleSlope = (how.slopes or [1.0] * len(values))[k]
            data.RescaleIntercept = how.intercept
        data.PixelSpacing = list(how.spacing)
        data.PixelData = stored.tobytes()
        made.append(_save(folder / f"{prefix}{999 - k}.dcm", data, how))
    return made


def write_enhanced(path: Path, values: np.ndarray, order: Sequence[int], how: How | None = None) -> Path:
    """All slices in one file, in the order given, each with its place; slopes are each frame's own."""
    how = how or How(sop_class=ENHANCED_MR)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = _coded(as_stored(values), how)
    data = _common(how, stored)
    data.NumberOfFrames = len(stored)
    shared, turn, sides = Dataset(), Dataset(), Dataset()
    turn.ImageOrientationPatient = list(how.turn or AXIAL)
    sides.PixelSpacing, sides.SliceThickness = list(how.spacing), 9.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [turn], [sides]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in order:
        one, place, scale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-80.0, -90.0, -15.0 + k * how.step[2]]
        scale.RescaleSlope, scale.RescaleIntercept = (how.slopes or [1.0] * len(stored))[k], how.intercept
        one.PlanePositionSequence, one.PixelValueTransformationSequence = [place], [scale]
        frames.append(one)
    data.PerFrameFunctionalGroupsSequence = frames
    data.PixelData = stored[list(order)].tobytes()
    return _save(path, data, how)


def write_report(path: Path) -> Path:
    """A structured report, which has no pictures."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = REPORT, generate_uid(), "SR"
    data.SeriesInstanceUID, data.ValueType = generate_uid(), "CONTAINER"
    return _save(path, data, How())


def write_index(folder: Path) -> Path:
    """A DICOMDIR."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = INDEX, generate_uid()
    data.FileSetID, data.DirectoryRecordSequence = "DISC", []
    return _save(folder / "DICOMDIR", data, How())


def packed_by_simpleitk(path: Path, compressor: str) -> None:
    """Writes a file again with its pixels compressed; all else stays."""
    import SimpleITK as sitk

    # Not SimpleITK's reading, which scales and turns over.
    image = sitk.GetImageFromArray(pydicom.dcmread(path).pixel_array)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path.with_suffix(".packed")))
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.KeepOriginalImageUIDOn()
    writer.Execute(image)
    packed = pydicom.dcmread(path.with_suffix(".packed"))
    whole = pydicom.dcmread(path)
    for keyword in ("BitsStored", "HighBit", "PixelData"):
        whole[keyword] = packed[keyword]
    whole.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    path.with_suffix(".packed").unlink()
    whole.save_as(path)


def _coded(stored: np.ndarray, how: How) -> np.ndarray:
    """The values as they are stored: unscaled, and turned over where high ones mean dark."""
    real = stored.astype(np.float64) - how.intercept
    if how.slopes is not None:
        real /= np.asarray(how.slopes).reshape(-1, 1, 1)
    if how.photometric == "MONOCHROME1":
        real = (-1 if how.signed else (1 << how.bits) - 1) - real
    found = np.rint(real).astype(np.int16 if how.signed else np.uint16)
    return found if how.syntax.is_little_endian else found.byteswap()


def _common(how: How, stored: np.ndarray) -> Dataset:
    data = Dataset()
    data.Rows, data.Columns = stored.shape[-2:]
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = how.sop_class, generate_uid(), how.modality
    data.SeriesInstanceUID = how.series
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, how.photometric
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, how.bits, how.bits - 1
    data.PixelRepresentation = int(how.signed)
    return data


def _save(path: Path, data: Dataset, how: How) -> Path:
    for keyword, value in how.more.items():
        setattr(data, keyword, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = how.syntax
    plain = {"is_implicit_VR": how.syntax.is_implicit_VR, "is_little_endian": how.syntax.is_little_endian}
    whole = FileDataset(str(path), data, file_meta=meta, preamble=bytes(128), **plain)
    whole.save_as(path, enforce_file_format=True)
    if not how.preamble:
        path.write_bytes(path.read_bytes()[132:])
    if not how.meta:
        # What the very old wrote: the data set alone.
        whole.file_meta = FileMetaDataset()
        whole.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        written = path.read_bytes()
        path.write_bytes(written[132:] if written[128:132] == b"DICM" else written)
    return path
