"""Pictures read a second, of this version and, in the same run and by turns, of an older `sources/images.py`.

git show v0.1.0:src/pixelsleuth/sources/images.py > /tmp/old_images.py
python experiments/benchmarks/reading_speed.py FOLDER [/tmp/old_images.py]
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pixelsleuth.sources.images import decode, find_images

ROUNDS = 15
MAX_IMAGES = 300


def main() -> None:
    folder, *older = map(Path, sys.argv[1:])
    data = [path.read_bytes() for path in list(find_images(folder))[:MAX_IMAGES]]
    readers: dict[str, Callable[[bytes], Any]] = {"this version": decode}
    for path in older:
        spec = importlib.util.spec_from_file_location("older_images", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["older_images"] = module
        spec.loader.exec_module(module)
        readers[str(path)] = module.decode
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, read in readers.items():
            # Of this process alone: other work on the machine does not count.
            began = time.process_time()
            for one in data:
                read(one)
            seconds[name].append(time.process_time() - began)
    for name, taken in seconds.items():
        print(f"{name}: {len(data) / statistics.median(taken):,.0f} pictures per CPU second, best "
              f"{len(data) / min(taken):,.0f} ({len(data)} files, median of {ROUNDS} rounds)")  # fmt: skip


if __name__ == "__main__":
    main()
