"""The brain slices of examples/demo.ipynb, cut from the ICBM 152 template.

    python experiments/tools/demo_volume.py mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz \\
        src/pixelsleuth/assets/demo/icbm152_t1.nii.gz

The template (1 mm, without the skull) ships with nilearn, in nilearn/datasets/data. Its copyright notice must stand
beside every copy: NOTICE in the same folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np

from pixelsleuth.sources.scans.volumes import save_volume

#: Voxels along x and y, and axial slices, as the healthy scans have that the brain model learnt from.
SHAPE = (176, 208, 25)
#: Lowest slice: with its 24 neighbours above it spans the thalami and the bodies of the lateral ventricles.
FIRST_SLICE = 67
#: Grey levels are rounded to multiples of this, which is less than the noise of any scan and halves the file.
STEP = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("template", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    image = nibabel.as_closest_canonical(nibabel.load(options.template))
    values = np.asarray(image.dataobj)
    brain = np.argwhere(values[:, :, FIRST_SLICE : FIRST_SLICE + SHAPE[2]] > 0)
    middle = (brain.min(0) + brain.max(0) + 1) // 2
    first = [int(middle[0]) - SHAPE[0] // 2, int(middle[1]) - SHAPE[1] // 2, FIRST_SLICE]
    part = values[tuple(slice(f, f + n) for f, n in zip(first, SHAPE, strict=True))]
    if part.shape != SHAPE:
        raise SystemExit(f"{options.template}: expected at least {SHAPE} voxels around the brain, got {part.shape}")
    affine = image.affine.copy()
    affine[:3, 3] = nibabel.affines.apply_affine(image.affine, first)
    save_volume(options.out, np.clip(STEP * np.rint(part / STEP), 0, 255).astype(np.uint8), affine)
    print(f"{options.out}: {part.shape}, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
