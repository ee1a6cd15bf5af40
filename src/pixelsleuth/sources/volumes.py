"""Reading one volume safely, brought to RAS, and a map written back in the volume's own space."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.files import sha256_of, whole_file
from pixelsleuth.records import Note

VOLUME_SUFFIXES = (".nii", ".nii.gz")
#: Voxels of one volume; whole-body CT passes, a header that announces terabytes does not.
MAX_VOXELS = 512 * 512 * 1024
#: Bytes on disk.
MAX_BYTES = 4_000_000_000
#: Fewest slices: of fewer no volume can be told from a picture.
MIN_SLICES = 3
#: Fewest voxels along the axes of a slice.
MIN_SIDE = 16
#: Share of voxels that may be no number: some pipelines write the background so.
MOST_NOT_FINITE = 0.9


@dataclass(frozen=True)
class Volume:
    """A decoded volume.

    Attributes:
        values: (X, Y, Z) float32; x grows to the right, y to the front, z to the top (RAS), whatever the file's order.
        orientation: (3, 2), the file's axes and directions in terms of RAS, as nibabel writes them.
        affine: (4, 4) float64 of the file, not of `values`.
        sha256: of the file's bytes; of a series of files, of their hashes.
        notes: what was done to read it.
    """

    path: str
    sha256: str
    values: np.ndarray
    orientation: np.ndarray
    affine: np.ndarray
    notes: tuple[Note, ...] = ()


def is_volume(path: Path | str) -> bool:
    """Whether a name ends as a NIfTI file's does."""
    return os.fspath(path).lower().endswith(VOLUME_SUFFIXES)


def stem_of(path: Path | str) -> str:
    """File name without `.nii` or `.nii.gz`."""
    name = Path(path).name
    return next((name[: -len(s)] for s in reversed(VOLUME_SUFFIXES) if name.lower().endswith(s)), Path(name).stem)


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Reads a NIfTI file, or a folder that holds one DICOM series.

    Raises:
        InputError: `missing`, `unreadable`, `empty`, `too_large`, `not_a_volume`, `truncated`, `wrong_affine`,
            `not_3d`, `not_scalar`, `too_few_slices`, `too_small`, `not_finite` or `no_contrast`.
    """
    path = Path(path)
    if path.is_dir():
        from pixelsleuth.sources.dicom import read_series

        image, sha256 = read_series(path)
    else:
        image, sha256 = _opened(path)
    try:
        return _checked(os.fspath(path), sha256, image)
    except InputError as error:
        raise InputError(error.code, error.sentence, sha256) from None


def _opened(path: Path) -> tuple[Any, str]:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        if not path.is_file():
            if path.exists():
                raise InputError("not_a_file", "expected a regular file, got a device, pipe or socket")
            raise InputError("missing", "no such file; check the path, or it was moved while the run went on")
        size = path.stat().st_size
        if size == 0:
            raise InputError("empty", "the file has no bytes; copy it again from its source")
        if size > MAX_BYTES:
            raise InputError("too_large", f"the file has {size:,} bytes, the limit is {MAX_BYTES:,}")
        sha256 = sha256_of(path)
    except OSError as error:
        raise InputError("unreadable", f"the file cannot be read ({error.strerror}); check its permissions") from error
    try:
        return nibabel.Nifti1Image.from_filename(os.fspath(path)), sha256
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            "truncated", f"the file ends too early or is damaged ({error}); copy it again", sha256
        ) from None
    except (ImageFileError, HeaderDataError, WrapStructError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("not_a_volume", f"expected a NIfTI file, got something else ({reason})", sha256) from None


def _checked(path: str, sha256: str, image: Any) -> Volume:
    import nibabel

    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise InputError("not_3d", f"expected one 3-D volume, got shape {shape}; split a series into its volumes")
    if int(np.prod(shape)) > MAX_VOXELS:
        raise InputError("too_large", f"{shape} are more than {MAX_VOXELS:,} voxels; crop or resample it")
    if image.get_data_dtype().fields is not None:
        raise InputError("not_scalar", "expected one number a voxel, got a colour or vector volume")
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError("wrong_affine", "its affine cannot be inverted: which way is up is not known; mend its header")
    try:
        values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    except (EOFError, zlib.error, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("truncated", f"the file ends too early or is damaged ({reason}); copy it again") from None
    orientation = nibabel.orientations.io_orientation(affine)
    values = np.ascontiguousarray(nibabel.orientations.apply_orientation(values, orientation))
    if values.shape[2] < MIN_SLICES:
        raise InputError("too_few_slices", f"{values.shape[2]} axial slices, at least {MIN_SLICES} are needed")
    if min(values.shape[:2]) < MIN_SIDE:
        raise InputError(
            "too_small", f"slices are {values.shape[0]} x {values.shape[1]}, at least {MIN_SIDE} are needed"
        )
    notes: list[Note] = []
    finite = np.isfinite(values)
    if not finite.all():
        share = 1 - float(finite.mean())
        if share > MOST_NOT_FINITE:
            raise InputError("not_finite", f"{share:.0%} of the voxels are no numbers; export it again")
        values = np.where(finite, values, values[finite].min())
        notes.append(Note("not_a_number", f"{share:.2%} of the voxels are no numbers; they count as background"))
    if float(values.max() - values.min()) < 1e-12:
        raise InputError("no_contrast", f"every voxel is {float(values.flat[0]):g}; there is nothing to judge")
    return Volume(path, sha256, values, orientation, affine, tuple(notes))


def read_mask(path: Path, like: Volume) -> np.ndarray:
    """(X, Y, Z) bool in RAS, not 0: of a file in the same space as a volume.

    Raises:
        InputError: as `read_volume`, or `mask_shape` where the two do not fit.
    """
    import nibabel

    image, _ = _opened(path)
    values = np.asarray(image.dataobj, np.float32).reshape(tuple(image.shape)[:3])
    values = nibabel.orientations.apply_orientation(values, nibabel.orientations.io_orientation(image.affine))
    if values.shape != like.values.shape:
        raise InputError("mask_shape", f"the mask {path.name} is {values.shape}, its volume {like.values.shape}")
    return np.asarray(values > 0)


def in_file_order(values: np.ndarray, like: Volume) -> np.ndarray:
    """(X, Y, Z) float in RAS -> float32 with the axes and directions of the file it is a map of."""
    import nibabel

    back = nibabel.orientations.ornt_transform(
        np.array([[0, 1], [1, 1], [2, 1]], float), np.asarray(like.orientation, float)
    )
    return np.ascontiguousarray(nibabel.orientations.apply_orientation(values.astype(np.float32), back))


def in_ras(values: np.ndarray, like: Volume) -> np.ndarray:
    """The inverse of `in_file_order`."""
    import nibabel

    return np.asarray(nibabel.orientations.apply_orientation(values, like.orientation))


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Writes (X, Y, Z) as NIfTI, gzipped where the name says so, whole or not at all."""
    import nibabel

    with whole_file(path) as partial:
        # The temporary name must end as the final one does, or nibabel would not compress.
        named = partial.with_name(partial.name + "".join(path.suffixes[-2:]))
        nibabel.save(nibabel.Nifti1Image(values, affine), named)
        named.replace(partial)


def key_of(sha256: str, index: int) -> str:
    """What random draws of one slice are keyed by."""
    return hashlib.sha256(f"{sha256} {index}".encode()).hexdigest()
