"""What a training batch of 8 volumes x 8 slices costs to read: slices from the store, and whole volumes as the
first loader of Deepfake CSI did, each normalised when it is read.

    python experiments/benchmarks/partial_reads.py runs/flair.h5 ../shared/data/brain_lgg_flair/train/flair
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.store import Store
from pixelsleuth.datasets.volume_preparation import find_volumes
from pixelsleuth.sources.scans.slices import SliceFraming, slices_of
from pixelsleuth.sources.scans.volumes import read_volume
from pixelsleuth.training.data import Sampler
from pixelsleuth.training.presets import Stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("--batches", type=int, default=30)
    options = parser.parse_args()
    with Store(options.store) as store:
        rows = store.rows("train")
        sampler = Sampler(store.table["group"][rows].tolist(), Stage(batch=64, groups=8), 0)
        began, count = time.perf_counter(), 0
        for step in range(options.batches):
            count += len(store.pixels(rows[sampler.rows(step)]))
        partial = (time.perf_counter() - began) / options.batches
        framing = SliceFraming.of(store.settings)
    paths = list(find_volumes(options.volumes))
    generator = np.random.default_rng(0)
    began = time.perf_counter()
    few = max(1, options.batches // 10)
    for _ in range(few):
        for path in generator.choice(np.array(paths, object), 8, replace=False):
            found = slices_of(read_volume(path), framing)
            generator.permutation(len(found.index))[:8]
    whole = (time.perf_counter() - began) / few
    print(
        f"a batch of 8 x 8 slices: store {partial * 1e3:.1f} ms ({count / options.batches / partial:,.0f} slices/s), "
        f"whole volumes {whole * 1e3:.0f} ms: {whole / partial:.0f} times"
    )


if __name__ == "__main__":
    main()
