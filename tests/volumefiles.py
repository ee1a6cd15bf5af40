"""Heads made at run time: an ellipsoid of textured tissue with two dark ventricles, in air."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

#: RAS to the file's order of most scanners: x to the left, y to the back.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def head(seed: int, shape: tuple[int, int, int] = (44, 52, 10), lesion: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(X, Y, Z) float32 in RAS, and where a bright blob was laid in, bool."""
    generator = np.random.default_rng(seed)
    grid = np.indices(shape, dtype=np.float32)
    middle = np.array(shape).reshape(3, 1, 1, 1) / 2
    radii = np.array([0.42 * shape[0], 0.44 * shape[1], 0.9 * shape[2]]).reshape(3, 1, 1, 1)
    inside = (((grid - middle) / radii) ** 2).sum(0) < 1
    texture = ndimage.gaussian_filter(generator.normal(0, 1, shape), 1.5)
    values = 100 + 60 * texture + 4 * generator.normal(0, 1, shape)
    for side in (-1, 1):
        centre = np.array([shape[0] / 2 + side * 0.12 * shape[0], shape[1] / 2, shape[2] / 2]).reshape(3, 1, 1, 1)
        wide = np.array([0.06 * shape[0], 0.16 * shape[1], shape[2]]).reshape(3, 1, 1, 1)
        values[(((grid - centre) / wide) ** 2).sum(0) < 1] = 50
    blob = np.zeros(shape, bool)
    if lesion:
        place = np.array([0.3 * shape[0], generator.uniform(0.3, 0.7) * shape[1], 0.5 * shape[2]]).reshape(3, 1, 1, 1)
        size = np.array([0.12 * shape[0], 0.12 * shape[0], 0.25 * shape[2]]).reshape(3, 1, 1, 1)
        blob = ((((grid - place) / size) ** 2).sum(0) < 1) & inside
        values[blob] += 90
    return np.where(inside, np.clip(values, 20, 250), 0).astype(np.float32), blob


def write(path: Path, values: np.ndarray, affine: np.ndarray = LPS) -> Path:
    """Writes RAS values so that the file's axes run as `affine` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ornt = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(np.eye(4)), nibabel.orientations.io_orientation(affine)
    )
    turned = nibabel.orientations.apply_orientation(values, ornt)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(turned), affine), path)
    return path


def bad_volumes(folder: Path) -> dict[str, Path]:
    """Reason's code -> a file that has it."""
    values, _ = head(0)
    found = {}

    def keep(code: str, data: np.ndarray, affine: np.ndarray = LPS, name: str = "") -> None:
        path = folder / f"{name or code}.nii.gz"
        image = nibabel.Nifti1Image(data, np.eye(4))
        # nibabel would refuse to write what it must be able to refuse to read.
        image.header.set_sform(affine, code=1)
        image.header.set_qform(np.eye(4), code=0)
        image = nibabel.Nifti1Image(data, None, image.header)
        nibabel.save(image, path)
        found[code] = path

    folder.mkdir(parents=True, exist_ok=True)
    keep("not_finite", np.full(values.shape, np.nan, np.float32))
    keep("not_3d", np.stack([values] * 3, -1))
    keep("not_scalar", values.astype(np.complex64))
    keep("too_few_slices", values[:, :, :1])
    keep("wrong_affine", values, np.diag([0.0, 1, 1, 1]))
    keep("no_contrast", np.zeros_like(values))
    whole = gzip.compress(nibabel.Nifti1Image(values, LPS).to_bytes())
    (folder / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "corrupt.nii.gz").write_bytes(whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:])
    (folder / "text.nii").write_text("this is no volume")
    (folder / "meta.mha").write_text("ObjectType = Image\nNDims = 3\n")
    nibabel.save(nibabel.Nifti1Pair(values, LPS), folder / "alone.img")
    (folder / "alone.hdr").unlink()
    return found | {
        "truncated": folder / "truncated.nii.gz",
        "corrupt": folder / "corrupt.nii.gz",
        "empty": folder / "empty.nii.gz",
        "not_a_volume": folder / "text.nii",
        "unsupported_format": folder / "meta.mha",
        "missing_pair": folder / "alone.img",
        "missing": folder / "vanished.nii.gz",
    }
