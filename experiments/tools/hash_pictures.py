"""Hashes of the pictures that a model was trained on, of those that are at hand, into its folder: `calibrate --normal`
refuses them. `pixelsleuth train` does so itself; the bundled model is older than that.

    python experiments/tools/hash_pictures.py MODEL_FOLDER FOLDER... [--apart FOLDER...]

--apart: pictures that were not trained on; how many of them would be taken for one that was is told.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.sources.duplicates import TRAINED_ON, Hashes, near, of_file, perceptual_hash, save_hashes
from pixelsleuth.sources.images import decode, find_images, read_bytes


def hashes_of(folders: Iterable[Path]) -> Hashes:
    files, looks = [], []
    for folder in folders:
        for path in sorted(find_images(folder)):
            try:
                data = read_bytes(path)
                looks.append(perceptual_hash(decode(data).pixels))
            except InputError:
                continue
            files.append(of_file(hashlib.sha256(data).hexdigest()))
        print(f"{folder}: {len(files)} in all", flush=True)
    return Hashes(np.array(files, np.uint64), np.array(looks, np.uint64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--apart", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    trained = hashes_of(options.folders)
    save_hashes(options.model / TRAINED_ON, trained)
    for folder in options.apart:
        others = hashes_of([folder])
        taken = sum(bool(near(one, trained.looks)) for one in others.looks)
        print(f"{folder}: {taken} of {len(others.looks)} would be taken for pictures that were trained on")


if __name__ == "__main__":
    main()
