"""How fast a store gives random pictures, against what training asks for.

python experiments/benchmarks/store_speed.py faces.h5
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--batches", type=int, default=200)
    options = parser.parse_args()
    with Store(options.store) as store:
        generator = np.random.default_rng(0)
        began = time.perf_counter()
        for _ in range(options.batches):
            store.pixels(generator.integers(len(store), size=32))
        seconds = time.perf_counter() - began
        print(f"{options.batches * 32 / seconds:,.0f} random pictures of {store.size} px a second, one process")
        began = time.perf_counter()
        for row in generator.integers(len(store), size=1000):
            store.encoded(int(row))
        print(f"{1000 / (time.perf_counter() - began):,.0f} original files a second")


if __name__ == "__main__":
    main()
