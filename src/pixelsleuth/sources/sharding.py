"""Parts of a store become one file, or several that are written at the same time."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.files import whole_folder
from pixelsleuth.sources.shards import LONG_SETTINGS


@dataclass(frozen=True)
class Shard:
    """One file to write.

    Attributes:
        parts: what it is made of, in order; keep: of each the rows that it takes, None: all.
        settings: of the store, of `LONG_SETTINGS` what concerns these parts.
    """

    path: Path
    parts: tuple[Path, ...]
    keep: tuple[np.ndarray, ...] | None
    settings: dict[str, Any]


def write_store(
    store: Path, parts: Sequence[Path], keep: Sequence[np.ndarray] | None, settings: dict[str, Any], *, per_part: int,
    shards: int, write: Callable[[Shard], None], pool: Any,
) -> None:  # fmt: skip
    """Writes parts as a store, whole or not at all.

    Args:
        store: a file, or, where there are `shards`, a folder of as many files.
        per_part: files that a part was made of, the last one perhaps of fewer.
        write: writes one file; pool: what runs it, as multiprocessing's pools do.
    """
    if not shards:
        write(Shard(store, tuple(parts), None if keep is None else tuple(keep), settings))
        return
    count = min(shards, len(parts))
    bounds = [len(parts) * k // count for k in range(count + 1)]
    for left in store.parent.glob(f".{glob.escape(store.name)}.*.partial"):
        # What a killed run left: the caller alone writes here.
        shutil.rmtree(left, ignore_errors=True)
    with whole_folder(store) as folder:
        plan = []
        for number, (first, last) in enumerate(pairwise(bounds)):
            own = {
                name: settings[name][first * per_part : last * per_part] for name in LONG_SETTINGS if name in settings
            }
            plan.append(
                Shard(
                    folder / f"shard-{number:05d}-of-{count:05d}.h5",
                    tuple(parts[first:last]),
                    None if keep is None else tuple(keep[first:last]),
                    settings | own,
                )
            )
        for _ in pool.imap(write, plan):
            pass
