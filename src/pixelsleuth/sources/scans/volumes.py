"""Read one volume safely and bring it to RAS; write a map back in the volume's own space."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.files import whole_file
from pixelsleuth.records import Note
from pixelsleuth.sources.scans.scanfiles import MILLIMETRES, Opened, open_file

NIFTI_SUFFIXES = (".nii", ".nii.gz")
#: Of files that hold a whole volume, or half of a pair.
VOLUME_SUFFIXES = (
    *NIFTI_SUFFIXES, ".hdr", ".img", ".hdr.gz", ".img.gz", ".mgz", ".mgh", ".mgh.gz", ".nrrd", ".nhdr",
)  # fmt: skip
#: Fewest slices: of fewer no volume can be told from a picture.
MIN_SLICES = 3
#: Fewest voxels along the axes of a slice.
MIN_SIDE = 16
#: Largest share of voxels that are not finite: some pipelines write the background so.
MAX_NOT_FINITE = 0.9
#: Largest length in an affine, in millimetres, and largest voxel value: greater ones are damage.
MAX_MM, MAX_VALUE = 1e7, 1e30
#: A box of voxels of which this share of its volume is left, its sides kept as long, cannot be told from a flat one.
FLAT = 1e-9
#: Degrees between a scan's axes and the body's from which it is told; heads are tilted by less than that anyway.
OBLIQUE_FROM = 10.0
#: Axial slices are thick from this many mm, where that is this many times their pixels' side.
THICK_FROM, THICK_RATIO = 3.0, 1.5
#: Sides of axial pixels may differ by this factor before it is told.
OBLONG_RATIO = 1.3


@dataclass(frozen=True)
class Volume:
    """A decoded volume.

    Attributes:
        values: (X, Y, Z) float32; x grows to the right, y to the front, z to the top (RAS), whatever the file's order.
        orientation: (3, 2), the file's axes and directions in terms of RAS, as nibabel writes them.
        affine: (4, 4) float64 of the file, not of `values`, in units of `unit`.
        sha256: of the file's bytes; of a series of files, of their hashes.
        notes: what was done to read it.
        unit: what the file counts lengths in, one of `scanfiles.MILLIMETRES`.
    """

    path: str
    sha256: str
    values: np.ndarray
    orientation: np.ndarray
    affine: np.ndarray
    notes: tuple[Note, ...] = ()
    unit: str = "mm"


def is_volume(path: Path | str) -> bool:
    """Whether a name ends as that of a file with a whole volume does; slices of DICOM are none."""
    return os.fspath(path).lower().endswith(VOLUME_SUFFIXES)


def stem_of(path: Path | str) -> str:
    """File name without `.nii`, `.nii.gz` or another suffix of a volume."""
    name = Path(path).name
    longest_first = sorted(VOLUME_SUFFIXES, key=len, reverse=True)
    return next((name[: -len(s)] for s in longest_first if name.lower().endswith(s)), Path(name).stem)


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read a NIfTI, Analyze, MGH or NRRD file, or a DICOM series: its folder, one of its files that holds all slices,
    or a name of `dicomfolders.series_in`.

    Raises:
        InputError: what `scanfiles.open_file` and `dicom.open_series` raise, or `truncated`, `corrupt`,
            `too_few_slices`, `too_small`, `not_finite` or `no_contrast`.
    """
    return volume_of(path, open_volume(path))


def volume_of(path: str | os.PathLike[str], opened: Opened) -> Volume:
    """The volume of a file or series that was opened. Raises InputError as `read_volume` does."""
    try:
        return _checked(os.fspath(path), opened)
    except InputError as error:
        raise InputError(error.code, error.sentence, opened.sha256, opened.notes) from None
    finally:
        opened.close()


def open_volume(path: str | os.PathLike[str]) -> Opened:
    """Read the header of what `read_volume` takes; of DICOM the pixels, too. Raises InputError as `read_volume` does.

    Where its `load` is not called, `close` must be.
    """
    from pixelsleuth.sources.scans.dicom import open_series
    from pixelsleuth.sources.scans.dicomfolders import named_series
    from pixelsleuth.sources.scans.dicomheaders import is_dicom

    path = Path(path)
    if named_series(path) is not None or is_dicom(path):
        return open_series(path)
    return open_file(path)


def _checked(path: str, opened: Opened) -> Volume:
    import nibabel

    affine = opened.affine
    in_mm = affine * MILLIMETRES[opened.unit]
    turned = bool(np.isfinite(affine).all()) and float(np.abs(in_mm).max()) < MAX_MM
    orientation = nibabel.orientations.io_orientation(affine) if turned else np.full((3, 2), np.nan)
    if np.isnan(orientation).any() or _is_flat(affine[:3, :3]):
        raise InputError("wrong_affine", "its affine cannot be inverted: which way is up is not known; mend its header")
    values = opened.load()
    values = np.ascontiguousarray(nibabel.orientations.apply_orientation(values, orientation), np.float32)
    if values.shape[2] < MIN_SLICES:
        raise InputError("too_few_slices", f"{values.shape[2]} axial slices, at least {MIN_SLICES} are needed")
    if min(values.shape[:2]) < MIN_SIDE:
        raise InputError(
            "too_small", f"slices are {values.shape[0]} x {values.shape[1]}, at least {MIN_SIDE} are needed"
        )
    notes = [*opened.notes, *_lie(in_mm, orientation)]
    # Beyond that the arithmetic of standard scores overflows.
    finite = np.abs(values) < MAX_VALUE
    if not finite.all():
        share = 1 - float(finite.mean())
        if share > MAX_NOT_FINITE:
            raise InputError("not_finite", f"{share:.0%} of the voxels are no numbers; export it again")
        values = np.where(finite, values, values[finite].min())
        notes.append(Note("not_a_number", f"{share:.2%} of the voxels are no numbers; they count as background"))
    if float(values.max()) - float(values.min()) < 1e-12:
        raise InputError("no_contrast", f"every voxel is {float(values.flat[0]):g}; there is nothing to judge")
    return Volume(path, opened.sha256, values, orientation, affine, tuple(notes), opened.unit)


def _is_flat(axes: np.ndarray) -> bool:
    """Whether (3, 3) axes span no volume, whatever their unit."""
    sides = np.linalg.norm(axes, axis=0)
    return not (sides > 0).all() or abs(float(np.linalg.det(axes / sides))) < FLAT


def voxel_sizes_of(volume: Volume) -> tuple[float, float, float]:
    """Millimetres of a voxel along x, y and z of RAS."""
    from nibabel.affines import voxel_sizes

    x, y, z = voxel_sizes(volume.affine)[np.argsort(volume.orientation[:, 0])].tolist()
    scale = MILLIMETRES[volume.unit]
    return x * scale, y * scale, z * scale


def _lie(affine: np.ndarray, orientation: np.ndarray) -> list[Note]:
    """What is told of a scan that does not lie as its slices are cut: turned, thick, or of voxels that are oblong.

    Args:
        affine: in mm.
    """
    from nibabel.affines import obliquity, voxel_sizes

    notes = []
    angle = float(np.degrees(np.max(obliquity(affine))))
    sizes = voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    told = " x ".join(f"{size:.3g}" for size in sizes)
    if angle >= OBLIQUE_FROM:
        notes.append(Note("oblique", f"oblique: the scanner's axes lie {angle:.0f} degrees off the body's; slices are "
                          "cut along the scanner's, not resampled"))  # fmt: skip
    across, through = float(max(sizes[:2])), float(sizes[2])
    if through >= THICK_FROM and through >= THICK_RATIO * across:
        notes.append(Note("thick_slices", f"thick slices: axial slices lie {through:.3g} mm apart (voxels {told} mm)"))
    if across > OBLONG_RATIO * float(min(sizes[:2])):
        notes.append(Note("oblong_voxels", f"voxels are {told} mm: axial slices look squeezed, for they are not "
                          "resampled; resample the scan to even voxels for a surer finding"))  # fmt: skip
    return notes


def read_mask(path: Path, like: Volume) -> np.ndarray:
    """(X, Y, Z) bool in RAS, not 0: of a file in the same space as a volume.

    Raises:
        InputError: as `read_volume`, or `mask_shape` where the two do not fit.
    """
    import nibabel

    opened = open_volume(path)
    turned = nibabel.orientations.io_orientation(opened.affine)
    values = nibabel.orientations.apply_orientation(opened.load(), turned)
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


def in_ras_shares(
    voxel: tuple[float, float, float], affine: np.ndarray, shape: tuple[int, ...]
) -> tuple[float, float, float]:
    """Convert a place in voxels of the file's axes to its position from left to right, back to front and bottom to top,
    each 0 to 1; `shape` is the volume's in RAS."""
    import nibabel

    found = [0.0, 0.0, 0.0]
    for at, (axis, direction) in zip(voxel, nibabel.orientations.io_orientation(affine).tolist(), strict=True):
        share = at / shape[int(axis)]
        found[int(axis)] = share if direction > 0 else 1 - share
    return found[0], found[1], found[2]


def in_ras(values: np.ndarray, like: Volume) -> np.ndarray:
    """The inverse of `in_file_order`."""
    import nibabel

    return np.asarray(nibabel.orientations.apply_orientation(values, like.orientation))


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray, unit: str = "mm") -> None:
    """Write (X, Y, Z) as NIfTI, gzipped where the name says so, whole or not at all; `affine` counts in `unit`, one of
    `scanfiles.MILLIMETRES`."""
    import nibabel

    image = nibabel.Nifti1Image(values, affine)
    if unit != "mm":
        image.header.set_xyzt_units(unit)
    with whole_file(path) as partial:
        # The temporary name must end as the final one does, or nibabel would not compress.
        named = partial.with_name(partial.name + "".join(path.suffixes[-2:]))
        nibabel.save(image, named)
        named.replace(partial)


def key_of(sha256: str, index: int) -> str:
    """The key of one slice's random draws."""
    return hashlib.sha256(f"{sha256} {index}".encode()).hexdigest()
