"""Paste one anomaly of every kind into copies of healthy volumes, and write them with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.volume_preparation import find_volumes
from pixelsleuth.sources.scans.slices import foreground_of, head_of
from pixelsleuth.sources.scans.volumes import in_file_order, read_volume, save_volume, stem_of
from pixelsleuth.synthesis.lesions import KINDS, SUBTLETIES, graded, made_anomalous


def paste_anomalies(source: Path, out: Path, *, seed: int, depth: float = 0.5, kinds: Sequence[str] = KINDS) -> int:
    """Write OUT/volumes/SUBJECT__KIND_SUBTLETY.nii.gz and OUT/mask/ of the same names; subtleties take turns.
    Strengths are those of synthesis.lesions.STRENGTHS, in standard scores of the volume's own foreground.

    Args:
        source: folder of healthy volumes.
        depth: voxels along z for one along x.

    Returns:
        How many were written.
    """
    paths = list(find_volumes(source))
    volumes = [read_volume(path) for path in paths]
    for number, (path, volume) in enumerate(zip(paths, volumes, strict=True)):
        # A donor of the same shape; volumes that are aligned all are.
        others = [v for v in volumes if v is not volume and v.values.shape == volume.values.shape]
        foreground = foreground_of(volume.values)
        head = head_of(foreground)
        quarter, middle, three_quarters = np.quantile(volume.values[foreground & head], (0.25, 0.5, 0.75))
        spread = (three_quarters - quarter) / 1.349
        for turn, kind in enumerate(KINDS):
            if kind not in kinds:
                continue
            generator = np.random.default_rng((seed, number, turn))
            subtlety = SUBTLETIES[(number + turn) % len(SUBTLETIES)]
            donor = others[int(generator.integers(len(others)))] if others else None
            standard = (volume.values - middle) / spread
            found, mask = made_anomalous(
                standard, head, graded(kind, subtlety, generator), generator,
                None if donor is None else (donor.values - middle) / spread, depth,
            )  # fmt: skip
            values = np.clip(found * spread + middle, volume.values.min(), None)
            name = f"{stem_of(path)}__{kind}_{subtlety}.nii.gz"
            space = volume.affine, volume.unit
            save_volume(out / "volumes" / name, in_file_order(values, volume), *space)
            save_volume(out / "mask" / name, in_file_order(mask.astype(np.float32), volume), *space)
    return len(paths) * len(kinds)
