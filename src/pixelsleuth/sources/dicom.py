"""A folder that holds one DICOM series, read by SimpleITK."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.files import sha256_of


def read_series(folder: Path) -> tuple[Any, str]:
    """The series as a NIfTI image in memory, and a hash over its files.

    Raises:
        PixelsleuthError: SimpleITK is not installed.
        InputError: `not_a_volume` where the folder holds none, `several_series` where it holds more than one,
            `truncated` where a file of it cannot be read, `uneven_slices` where one is missing.
    """
    try:
        import SimpleITK as sitk
    except ImportError:
        raise PixelsleuthError(f"{folder}: DICOM needs SimpleITK; run `pip install 'pixelsleuth[dicom]'`") from None
    import nibabel

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(os.fspath(folder))
    if len(series) > 1:
        raise InputError("several_series", f"expected one DICOM series, got {len(series)}; give each its own folder")
    if not series:
        raise InputError("not_a_volume", "the folder holds no DICOM series")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(os.fspath(folder), series[0])
    # The library passes over files it cannot read, and a series with a hole would lie wrongly in space.
    held = sum(map(_is_dicom, _files(folder)))
    if held != len(names):
        raise InputError("truncated", f"expected {held} readable files of one DICOM series, got {len(names)}")
    places = _places(sitk, names)
    steps = np.diff(places)
    if len(steps) and not np.allclose(steps, steps.mean(), rtol=0.02, atol=0.01):
        raise InputError("uneven_slices", f"expected evenly spaced slices, got steps of {steps.min():g} to "
                         f"{steps.max():g} mm; is a file missing?")  # fmt: skip
    try:
        image = sitk.ReadImage(list(names), sitk.sitkFloat32)
    except RuntimeError as error:
        raise InputError("truncated", f"the series cannot be read ({str(error).splitlines()[-1]})") from None
    # DICOM's world points left and back, NIfTI's right and front.
    to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = to_ras @ np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = to_ras @ np.array(image.GetOrigin())
    values = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    sha256 = hashlib.sha256("".join(sorted(sha256_of(Path(name)) for name in names)).encode()).hexdigest()
    return nibabel.Nifti1Image(values, affine), sha256


def holds_series(folder: Path) -> bool:
    """Whether a file of the folder begins as DICOM files do."""
    return any(map(_is_dicom, _files(folder)[:8]))


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _places(sitk: Any, names: Sequence[str]) -> np.ndarray:
    """(n,) mm along the normal of the slices, as their headers say; empty where one file holds them all."""
    reader = sitk.ImageFileReader()
    found = []
    for name in names:
        reader.SetFileName(name)
        reader.ReadImageInformation()
        normal = np.array(reader.GetDirection()).reshape(3, 3)[:, 2]
        found.append(float(normal @ np.array(reader.GetOrigin())))
    return np.array(found if len(names) > 1 else [])
