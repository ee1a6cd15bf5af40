"""A folder that holds one DICOM series, read by SimpleITK."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.files import sha256_of


def read_series(folder: Path) -> tuple[Any, str]:
    """The series as a NIfTI image in memory, and a hash over its files.

    Raises:
        PixelsleuthError: SimpleITK is not installed.
        InputError: `not_a_volume` where the folder holds none, `several_series` where it holds more than one.
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
    for path in sorted(folder.iterdir())[:8]:
        if path.is_file():
            with open(path, "rb") as file:
                if file.read(132)[128:] == b"DICM":
                    return True
    return False
