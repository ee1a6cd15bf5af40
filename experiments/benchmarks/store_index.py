"""What does a store of ten million rows cost? Writes shards with every column of `prepare images`, and measures time
and memory of what training asks of them. Pixels of one row in `--every` are written; the rest is a hole in the
file, which takes no place on a disk but lies between what is read.

python experiments/benchmarks/store_index.py runs/index --rows 10000000 --json runs/index.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pixelsleuth.benchmark.machine import peak_mb
from pixelsleuth.datasets.store import FORMAT, Store, near_duplicates
from pixelsleuth.training.data import Sampler
from pixelsleuth.training.presets import Stage

SIZE = 128
SETTINGS = {
    "format": FORMAT, "size": SIZE, "crop": "face", "margin": 0.0, "min_confidence": 0.95, "edge": "inside",
    "align": False, "level": True, "pick": "even",
}  # fmt: skip


def write(path: Path, first: int, rows: int, every: int) -> None:
    """One shard, as `prepare` writes it."""
    generator = np.random.default_rng(first)
    numbers = np.arange(first, first + rows)
    digests = generator.bytes(32 * rows).hex()
    text: dict[str, list[str]] = {
        "path": [f"train/real/person{n // 20:07d}/{n:09d}.jpg" for n in numbers],
        "sha256": [digests[64 * k : 64 * k + 64] for k in range(rows)],
        "source": [f"/archive/source{n % 20}" for n in numbers],
        "label": ["normal"] * rows,
        "split": ["calib" if n % 20 == 0 else "val" if n % 20 == 1 else "train" for n in numbers // 20],
        "group": [f"person{n // 20:07d}" for n in numbers],
        "level": [""] * rows, "parts": [""] * rows, "method": [""] * rows,
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs["settings"], file.attrs["duplicates"] = json.dumps(SETTINGS), 0
        file["skipped"], file["files"] = json.dumps([]), json.dumps([])
        file["offset"], file["encoded"] = np.zeros(rows + 1, np.int64), np.zeros(0, np.uint8)
        pixels = file.create_dataset("pixels", (rows, SIZE, SIZE, 3), np.uint8, chunks=(1, SIZE, SIZE, 3))
        for row in range(0, rows, every):
            pixels[row] = (first + row) % 251
        for name, values in text.items():
            file[f"table/{name}"] = np.array(values, dtype=h5py.string_dtype())
        file["table/box"] = file["table/place"] = np.zeros((rows, 4), np.int32)
        file["table/landmarks"] = np.zeros((rows, 5, 2), np.float32)
        file["table/phash"] = generator.integers(0, 2**64, rows, np.uint64)
        for name, kind in (("confidence", "f4"), ("angle", "f4"), ("padded", "f4"), ("frame", "i4"), ("time", "f8"),
                           ("track", "i4"), ("sharpness", "f4"), ("motion", "f4")):  # fmt: skip
            file[f"table/{name}"] = np.zeros(rows, kind)


def measured(name: str, work: Callable[[], Any], told: dict[str, dict[str, float]]) -> Any:
    """Runs a step and notes its seconds of CPU and what is resident after it."""
    began, cpu = time.perf_counter(), time.process_time()
    result = work()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    resident = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
    told[name] = {
        "seconds": round(time.perf_counter() - began, 2), "cpu_seconds": round(time.process_time() - cpu, 2),
        "resident_mb": round(resident), "peak_mb": round(peak_mb()),
    }  # fmt: skip
    print(f"{name}: {told[name]}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--every", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    each = options.rows // options.shards
    began = time.process_time()
    for number in range(options.shards):
        path = options.folder / f"shard-{number:05d}-of-{options.shards:05d}.h5"
        if not path.exists():
            write(path.with_suffix(".writing"), number * each, each, options.every)
            os.replace(path.with_suffix(".writing"), path)
    size = sum(path.stat().st_blocks * 512 for path in options.folder.iterdir())
    told: dict[str, Any] = {"rows": each * options.shards, "shards": options.shards}
    told |= {"write_cpu_seconds": round(time.process_time() - began, 1), "disk_mb": round(size / 2**20)}
    print(told, flush=True)
    steps: dict[str, dict[str, float]] = {}
    measured("before", lambda: None, steps)
    store = measured("open", lambda: Store(options.folder), steps)
    rows = measured("rows of split train", lambda: store.rows("train"), steps)
    generator = np.random.default_rng(0)
    some = generator.integers(0, len(store) // options.every, 1000) * options.every
    pixels = measured("pixels of 1,000 scattered rows", lambda: store.pixels(some), steps)
    assert (pixels[:, 0, 0, 0] == some % 251).all(), "rows of another place were read"
    measured("paths of 1,000 scattered rows, from the file", lambda: store.table.at("path", some), steps)
    measured("sources of all rows", lambda: store.sources(rows), steps)
    group = measured("groups of all rows", lambda: store.table["group"][rows], steps)
    sampler = measured("a sampler of groups", lambda: Sampler(group.tolist(), Stage(batch=64, groups=8), 0), steps)
    measured("100 batches' rows", lambda: [sampler.rows(step) for step in range(100)], steps)
    measured(
        "near-duplicates across splits", lambda: near_duplicates(store.table["phash"], store.table["split"]), steps
    )
    told["steps"] = steps
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
