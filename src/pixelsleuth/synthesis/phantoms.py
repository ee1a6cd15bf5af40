"""Synthetic scans: heads and bellies of simple shapes that vary as people do, to try the program before real scans are
at hand. Figures measured on them show that training works, and say nothing about patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import whole_file
from pixelsleuth.sources.scans.slices import foreground_of, head_of
from pixelsleuth.synthesis.lesions import KINDS, SUBTLETIES, graded, made_anomalous

#: Voxels along x, y and z, and millimetres of one: about an adult's brain in a coarse scan.
SHAPE, MILLIMETRES = (88, 104, 20), (2.0, 2.0, 6.0)
ANATOMIES = ("brain", "abdomen")
#: For so many that train, one stands in each other split; of those that test one healthy and one with a lesion.
OF_CALIB, OF_VAL, OF_TEST = 2, 6, 3
#: Grey levels, T1-like: fluid, grey and white matter, deep nuclei.
FLUID, GREY, WHITE, NUCLEI = 45.0, 105.0, 150.0, 120.0


@dataclass(frozen=True)
class SplitSizes:
    """The number of scans in each split; `sick` applies to val and test each."""

    train: int
    calib: int
    val: int
    test: int

    @classmethod
    def of(cls, train: int) -> SplitSizes:
        """Raise PixelsleuthError below the ten that a rate of 10% takes for calibration."""
        if train < 10:
            raise PixelsleuthError(f"expected at least 10 scans to train on, got {train}", "count")
        return cls(train, max(10, train // OF_CALIB), max(2, train // OF_VAL), max(4, train // OF_TEST))

    @property
    def total(self) -> int:
        return self.train + self.calib + 2 * (self.val + self.test)


def phantom(generator: np.random.Generator, anatomy: str = "brain") -> np.ndarray:
    """`SHAPE` float32 in RAS, air 0, tissue from 10 to about 200: one normal scan, unlike any other.

    Raises:
        PixelsleuthError: an unknown anatomy.
    """
    if anatomy not in ANATOMIES:
        raise PixelsleuthError(f"expected one of {', '.join(ANATOMIES)}, got {anatomy!r}", "anatomy")
    places = _places(generator)
    tissue = _brain(places, generator) if anatomy == "brain" else _abdomen(places, generator)
    inside = tissue > 0
    # Partial volumes: a voxel holds what lies around its centre, too.
    blurred = ndimage.gaussian_filter(tissue, (0.6, 0.6, 0.3))
    field = np.exp(0.07 * _smooth(generator, 3))
    texture = 1 + 0.015 * ndimage.gaussian_filter(generator.normal(0, 1, SHAPE), 0.8) / 0.3
    scan = blurred * field * texture
    # A magnitude image: noise of two channels (Gudbjartsson & Patz 1995).
    sigma = float(generator.uniform(1.5, 3.0))
    noisy = np.hypot(scan + generator.normal(0, sigma, SHAPE), generator.normal(0, sigma, SHAPE))
    return np.where(inside, np.clip(noisy, 10, None), 0).astype(np.float32)


def with_lesion(
    values: np.ndarray, kind: str, subtlety: str, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A copy of (X, Y, Z) with one lesion (see synthesis.lesions), and its mask, bool."""
    foreground = foreground_of(values)
    head = head_of(foreground)
    quarter, middle, three_quarters = np.quantile(values[foreground & head], (0.25, 0.5, 0.75))
    spread = float(three_quarters - quarter) / 1.349
    lesion = graded(kind, subtlety, generator)
    found, mask = made_anomalous(
        (values - middle) / spread, head, lesion, generator, depth=MILLIMETRES[0] / MILLIMETRES[2]
    )
    return np.where(head, np.clip(found * spread + middle, 10, None), 0).astype(np.float32), mask


def write_phantoms(
    out: Path, count: int, seed: int, anatomy: str = "brain", progress: Callable[[int, int], None] = lambda d, t: None
) -> SplitSizes:
    """Write train, calib, val and test below `out`; val and test hold `healthy` scans, and `sick` ones in `sick/scan`
    with their masks in `sick/mask`. The same numbers give the same voxels.

    Args:
        count: scans to train on; the other splits follow from it.

    Raises:
        PixelsleuthError: too few, an unknown anatomy, or a folder with something in it.
    """
    if out.exists() and any(out.iterdir()):
        raise PixelsleuthError(f"{out} is not empty; name another folder")
    sizes = SplitSizes.of(count)
    for number, (folder, kind) in enumerate(_listed(sizes)):
        generator = np.random.default_rng((seed, number))
        values = phantom(generator, anatomy)
        if not kind:
            _save(out / folder / f"p{number:04d}.nii.gz", values)
        else:
            subtlety = SUBTLETIES[number % len(SUBTLETIES)]
            values, mask = with_lesion(values, kind, subtlety, generator)
            name = f"p{number:04d}__{kind}_{subtlety}.nii.gz"
            _save(out / folder / "scan" / name, values)
            _save(out / folder / "mask" / name, mask)
        progress(number + 1, sizes.total)
    return sizes


def _listed(sizes: SplitSizes) -> Iterator[tuple[str, str]]:
    """Folder of each scan, and the kind of its lesion, "" for none."""
    for split, number in (("train", sizes.train), ("calib", sizes.calib)):
        yield from ((split, "") for _ in range(number))
    for split, number in (("val", sizes.val), ("test", sizes.test)):
        yield from ((f"{split}/healthy", "") for _ in range(number))
        yield from ((f"{split}/sick", KINDS[at % len(KINDS)]) for at in range(number))


def _save(path: Path, values: np.ndarray) -> None:
    """(X, Y, Z) in RAS as a NIfTI file whose header says so: scanner coordinates in millimetres."""
    import nibabel

    affine = np.diag([*MILLIMETRES, 1.0])
    affine[:3, 3] = [-size * n / 2 for size, n in zip(MILLIMETRES, values.shape, strict=True)]
    image = nibabel.Nifti1Image(np.rint(values).astype(np.int16 if values.dtype != bool else np.uint8), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    with whole_file(path) as partial:
        named = partial.with_name(partial.name + ".nii.gz")
        nibabel.save(image, named)
        named.replace(partial)


def _smooth(generator: np.random.Generator, cells: int) -> np.ndarray:
    """`SHAPE` noise of spread about 1 that varies over a `cells`-th of the scan."""
    small = generator.normal(0, 1, (cells, cells, max(2, cells // 2)))
    factors = [n / m for n, m in zip(SHAPE, small.shape, strict=True)]
    return np.asarray(
        ndimage.zoom(small, factors, order=3 if min(small.shape) > 3 else 1, grid_mode=True, mode="nearest")
    )


def _places(generator: np.random.Generator) -> np.ndarray:
    """(3, *SHAPE) where each voxel lies in a body whose rim is about 1 from its middle: sizes, turns and bends differ
    from one person to the next."""
    grid = np.indices(SHAPE, dtype=np.float64)
    halves = (np.array([68.0, 84.0, 56.0]) * generator.normal(1, 0.04, 3) / np.array(MILLIMETRES)).reshape(3, 1, 1, 1)
    middle = (np.array(SHAPE) / 2 + generator.normal(0, (0.8, 0.8, 0.3))).reshape(3, 1, 1, 1)
    x, y, z = (grid - middle) / halves
    angle = np.radians(generator.normal(0, 2.5))
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    return np.stack([axis + 0.02 * _smooth(generator, 5) for axis in (x, y, z)])


def _ball(places: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Distance from the centre, 1 at the rim of an ellipsoid."""
    about = (places - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
    return np.asarray(np.sqrt((about**2).sum(0)))


def _brain(places: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A skull-stripped brain: folded cortex, white matter, ventricles, nuclei, a fissure between the halves."""
    x, y, z = places
    radius = np.sqrt((x / (1 - 0.08 * y)) ** 2 + y**2 + z**2)
    folds = ndimage.gaussian_filter(generator.normal(0, 1, SHAPE), (1.6, 1.6, 0.8))
    folds /= folds.std()
    thickness = 0.15 + 0.03 * float(generator.normal())
    tissue = np.where(radius < 1, GREY, 0.0)
    tissue[(radius < 1) & (radius > 0.86) & (folds > 1.1)] = FLUID
    tissue[radius + 0.075 * folds < 1 - np.clip(thickness, 0.08, 0.2)] = WHITE
    fissure = (np.abs(x) < 0.018) & (radius < 1) & ((np.abs(y) > 0.45) | (z > 0.5))
    tissue[fissure] = FLUID
    wide = float(np.exp(generator.normal(0, 0.22)))
    for side in (-1, 1):
        for name, centre, radii in (
            (NUCLEI, (side * 0.20, 0.02, 0.02), (0.11, 0.17, 0.20)),
            (NUCLEI, (side * 0.30, 0.28, 0.10), (0.09, 0.15, 0.18)),
            (FLUID, (side * 0.11, 0.24, 0.26), (0.075 * wide, 0.26, 0.20 * wide)),
            (FLUID, (side * 0.15, -0.24, 0.24), (0.08 * wide, 0.30, 0.19 * wide)),
        ):
            tissue[(_ball(places, centre, radii) < 1) & (radius < 0.8)] = name
    tissue[_ball(places, (0, -0.05, -0.08), (0.022 * wide, 0.2, 0.2)) < 1] = FLUID
    return tissue


def _abdomen(places: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A slab of the belly: fat, muscle, liver on the right, spleen, kidneys, spine, vessels, some gas."""
    x, y, _ = places
    radius = np.sqrt(x**2 + (1.15 * y) ** 2)
    fat = 0.84 - 0.06 * float(np.clip(generator.normal(), -1, 1.5))
    tissue = np.where(radius < 1, 40.0, 0.0)
    tissue[radius < fat] = 95.0
    tissue[radius < fat - 0.07] = 55.0
    organs = (
        (130.0, (0.36, 0.16, 0.25), (0.36, 0.42, 0.75)), (125.0, (-0.50, -0.12, 0.20), (0.17, 0.24, 0.5)),
        (150.0, (0.36, -0.36, -0.3), (0.13, 0.15, 0.5)), (150.0, (-0.34, -0.36, -0.25), (0.13, 0.15, 0.5)),
        (190.0, (0.0, -0.44, 0.0), (0.16, 0.15, 2.0)), (165.0, (-0.04, -0.20, 0.0), (0.055, 0.055, 2.0)),
        (80.0, (-0.15, 0.36, 0.1), (0.26, 0.17, 0.5)),
    )  # fmt: skip
    for level, centre, radii in organs:
        moved = tuple(c + float(generator.normal(0, 0.02)) for c in centre)
        sizes = tuple(r * float(generator.normal(1, 0.06)) for r in radii)
        tissue[(_ball(places, moved, sizes) < 1) & (radius < fat - 0.05)] = level  # type: ignore[arg-type]
    gas = _ball(places, (-0.15 + float(generator.normal(0, 0.05)), 0.44, 0.1), (0.09, 0.05, 0.3)) < 1
    tissue[gas] = 12.0
    return tissue
