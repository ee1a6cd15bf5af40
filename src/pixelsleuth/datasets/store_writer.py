"""Write stores: several processes read the inputs, finished parts are kept beside the store, and merged at the end, so
that a run that was stopped goes on where it was."""

from __future__ import annotations

import glob
import json
import math
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pixelsleuth.datasets.layouts import Origin
from pixelsleuth.datasets.shards import LONG_SETTINGS, TEXT_COLUMNS
from pixelsleuth.datasets.store import Store, Summary
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.files import claimed, clear_partials, whole_file, whole_folder

#: Inputs a process that are read ahead of the one that is written: what bounds memory, a scan takes up to 40 MB.
READ_AHEAD = 4

Progress = Callable[[int, int], None]
#: Path, code and sentence of an input that cannot be stored.
Skipped = tuple[str, str, str]


@dataclass(frozen=True)
class StoreInput:
    """One input to read.

    Attributes:
        relative: its path from `source`, the folder that was given.
        mask: a file that marks what is anomalous in it.
    """

    path: str
    relative: str
    source: str
    origin: Origin
    mask: str | None = None

    def columns(self, count: int) -> dict[str, list[str]]:
        """The columns of text that all stores have but for `sha256`, of `count` rows."""
        names = ("label", "split", "group")
        told = {"path": self.relative, "source": self.source, **{name: getattr(self.origin, name) for name in names}}
        return {name: [value] * count for name, value in told.items()}


@dataclass(frozen=True)
class Rows:
    """The n rows of a store that one input becomes.

    Attributes:
        blocks: name -> (n, ...), what stands beside the table.
        columns: name -> n values: str of `TEXT_COLUMNS`, arrays of the others.
        encoded: n, the original bytes of each row, empty where none are kept.
    """

    blocks: dict[str, np.ndarray]
    columns: dict[str, Any]
    encoded: Sequence[bytes]


@dataclass(frozen=True)
class Recipe:
    """How inputs of one kind become a store.

    Attributes:
        settings: how it is made, as JSON holds them.
        read: gives the rows of one input, in a process of its own. Raises InputError for one that is skipped.
        empty: no rows: the blocks, and the columns that a store without any row has, too.
        part_size: inputs written together: what a kill can cost.
        once: whether of rows with one SHA-256 only the first is stored.
        check: raises InputError for rows that are left out, in the calling process.
    """

    settings: dict[str, Any]
    read: Callable[[StoreInput], Rows]
    empty: Rows
    part_size: int
    once: bool
    check: Callable[[StoreInput, Rows], None] = lambda item, rows: None


@dataclass(frozen=True)
class _Shard:
    """One file to write: its parts in order, of each the rows that it takes, and its settings."""

    path: Path
    parts: Sequence[Path]
    keep: Sequence[np.ndarray]
    settings: dict[str, Any]


def roots_of(sources: Sequence[Path], what: str) -> Iterator[tuple[Path, Path]]:
    """Yield each source with the folder that its files are named from. Raises PixelsleuthError where one does not
    exist."""
    for source in sources:
        if not source.exists():
            raise PixelsleuthError(f"{source} does not exist; give a folder of {what}")
        yield source, source if source.is_dir() else source.parent


def write_store(
    inputs: Sequence[StoreInput], store: Path, recipe: Recipe, workers: int, shards: int, progress: Progress
) -> Summary:
    """Write the store of all inputs, whole or not at all; one that is there already is known by its settings.

    Args:
        workers: processes that read; 1: this one.
        shards: write a folder of so many files at the same time, which read as one store; 0: one file.

    Raises:
        PixelsleuthError: the store was made with other settings, or another process is writing it.
    """
    # As they will be read back, or a store would never equal its own settings.
    settings = json.loads(json.dumps(recipe.settings))
    folder = store.with_name(store.name + ".parts")
    if known := _already_made(store, settings):
        # A run that was killed at its very end has left them.
        shutil.rmtree(folder, ignore_errors=True)
        return known
    with claimed(folder):
        # Another process may have ended since.
        if known := _already_made(store, settings):
            shutil.rmtree(folder)
            return known
        clear_partials(store.parent, store.name)
        part_size = min(recipe.part_size, math.ceil(len(inputs) / shards)) if shards else recipe.part_size
        _open_parts(folder, settings | {"part_size": part_size})
        parts = {
            folder / f"{number:06d}.h5": inputs[start : start + part_size]
            for number, start in enumerate(range(0, len(inputs), part_size))
        }
        missing = {path: chunk for path, chunk in parts.items() if not path.exists()}
        several = workers > 1 and (shards > 0 or sum(map(len, missing.values())) > 1)
        with get_context("spawn").Pool(workers) if several else nullcontext() as pool:
            _write_parts(missing, recipe, pool, workers, len(inputs), progress)
            keep = _rows_to_keep(list(parts), recipe.once)
            _merge_all(store, list(parts), keep, settings, part_size, shards, pool)
        shutil.rmtree(folder, ignore_errors=True)
        with Store(store) as made:
            return made.summary()


def _already_made(store: Path, settings: dict[str, Any]) -> Summary | None:
    """The summary of a store that was made with these settings before; None where there is no store. Raises
    PixelsleuthError where it was made otherwise."""
    if not store.exists():
        return None
    with Store(store) as known:
        if known.table.made_of() == settings:
            return known.summary()
    raise PixelsleuthError(f"{store} exists and was made of other files or settings; delete it or name another")


def _open_parts(folder: Path, settings: dict[str, Any]) -> None:
    """Keep finished parts if they were made with the same settings, else start anew."""
    note = folder / "settings.json"
    text = json.dumps(settings)
    if note.exists() and note.read_text(encoding="utf-8") == text:
        return
    # The folder itself stays: this process holds it.
    for old in folder.iterdir():
        old.unlink()
    with whole_file(note) as partial_note:
        partial_note.write_text(text, encoding="utf-8")


def _write_parts(
    missing: dict[Path, Sequence[StoreInput]], recipe: Recipe, pool: Any, workers: int, total: int, progress: Progress
) -> None:
    done = total - sum(map(len, missing.values()))
    inputs = [item for chunk in missing.values() for item in chunk]
    found = _in_order(partial(_attempted, recipe.read), inputs, pool, READ_AHEAD * workers)
    for path, chunk in missing.items():
        read: list[tuple[StoreInput, Rows | Skipped]] = []
        for item in chunk:
            read.append((item, next(found)))
            if len(read) < len(chunk):
                progress(done + len(read), total)
        _write_part(path, read, recipe)
        done += len(chunk)
        progress(done, total)


def _in_order(work: Callable[[Any], Any], inputs: Iterable[Any], pool: Any, ahead: int) -> Iterator[Any]:
    """Results in the order of inputs, at most `ahead` of them waiting; without a pool each is made when it is asked
    for."""
    if pool is None:
        yield from map(work, inputs)
        return
    waiting: deque[Any] = deque()
    for item in inputs:
        waiting.append(pool.apply_async(work, (item,)))
        if len(waiting) == ahead:
            yield waiting.popleft().get()
    while waiting:
        yield waiting.popleft().get()


def _attempted(read: Callable[[StoreInput], Rows], item: StoreInput) -> Rows | Skipped:
    try:
        return read(item)
    except InputError as error:
        return item.relative, error.code, error.sentence


def _write_part(path: Path, read: Sequence[tuple[StoreInput, Rows | Skipped]], recipe: Recipe) -> None:
    skipped = [found for _, found in read if isinstance(found, tuple)]
    rows = [recipe.empty]
    for item, found in read:
        if isinstance(found, tuple):
            continue
        try:
            recipe.check(item, found)
            rows.append(found)
        except InputError as error:
            skipped.append((item.relative, error.code, error.sentence))
    with whole_file(path) as partial_part, h5py.File(partial_part, "w") as file:
        for name in recipe.empty.blocks:
            file[name] = np.concatenate([some.blocks[name] for some in rows])
        encoded = [data for some in rows for data in some.encoded]
        file["encoded"] = np.frombuffer(b"".join(encoded), np.uint8)
        file["offset"] = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
        for name in dict.fromkeys(name for some in rows for name in some.columns):
            columns = [some.columns[name] for some in rows if name in some.columns]
            file[f"table/{name}"] = _texts(columns) if name in TEXT_COLUMNS else np.concatenate(columns)
        file.attrs["skipped"] = json.dumps(skipped)


def _texts(columns: Iterable[Sequence[str]]) -> np.ndarray:
    # Bytes of a name that are no text are escaped: HDF5 takes none.
    texts = [value.encode("utf-8", "backslashreplace").decode() for values in columns for value in values]
    return np.array(texts, dtype=h5py.string_dtype())


def _rows_to_keep(parts: Sequence[Path], once: bool) -> list[np.ndarray]:
    """Of each part the rows that are stored: all, or of byte-identical inputs the first."""
    seen: set[str] = set()
    keep = []
    for part in parts:
        with h5py.File(part) as file:
            digests = file["table/sha256"].asstr()[:]
        fresh = np.ones(len(digests), bool)
        for i, digest in enumerate(digests if once else ()):
            fresh[i] = digest not in seen
            seen.add(digest)
        keep.append(np.flatnonzero(fresh))
    return keep


def _merge_all(
    store: Path, parts: Sequence[Path], keep: Sequence[np.ndarray], settings: dict[str, Any], per_part: int,
    shards: int, pool: Any,
) -> None:  # fmt: skip
    """Merge parts into one file, or into a folder of several at the same time."""
    if not shards:
        _merge(_Shard(store, parts, keep, settings))
        return
    count = min(shards, len(parts))
    bounds = [len(parts) * k // count for k in range(count + 1)]
    for left in store.parent.glob(f".{glob.escape(store.name)}.*.partial"):
        # What a killed run left: the caller alone writes here.
        shutil.rmtree(left, ignore_errors=True)
    with whole_folder(store) as folder:
        plan = []
        for number, (first, last) in enumerate(pairwise(bounds)):
            inputs = slice(first * per_part, last * per_part)
            own = {name: settings[name][inputs] for name in LONG_SETTINGS if name in settings}
            path = folder / f"shard-{number:05d}-of-{count:05d}.h5"
            plan.append(_Shard(path, parts[first:last], keep[first:last], settings | own))
        for _ in _in_order(_merge, plan, pool, count):
            pass


def _merge(shard: _Shard) -> None:
    """Write parts as one file, one row a chunk."""
    lengths: list[int] = []
    skipped: list[list[str]] = []
    dropped = 0
    for part, rows in zip(shard.parts, shard.keep, strict=True):
        with h5py.File(part) as file:
            found = np.diff(file["offset"][:])
            dropped += len(found) - len(rows)
            lengths += found[rows].tolist()
            skipped += json.loads(file.attrs["skipped"])
    with whole_file(shard.path) as partial_store, h5py.File(partial_store, "w") as out:
        out["offset"] = np.cumsum([0, *lengths]).astype(np.int64)
        for name, values in _copy_rows(shard, out, lengths).items():
            column = np.concatenate(values)
            out[f"table/{name}"] = column.astype(h5py.string_dtype()) if name in TEXT_COLUMNS else column
        out.attrs["duplicates"] = dropped
        # Attributes are limited to 64 KiB; these can be longer.
        out.attrs["settings"] = json.dumps({k: v for k, v in shard.settings.items() if k not in LONG_SETTINGS})
        for name in LONG_SETTINGS:
            if name in shard.settings:
                out[name] = json.dumps(shard.settings[name])
        out["skipped"] = json.dumps(skipped)


def _copy_rows(shard: _Shard, out: h5py.File, lengths: Sequence[int]) -> dict[str, list[np.ndarray]]:
    """Copy blocks and original bytes of the rows that are kept; give the values of each column, part by part."""
    with h5py.File(shard.parts[0]) as file:
        blocks = {
            name: out.create_dataset(
                name, (len(lengths), *block.shape[1:]), block.dtype, chunks=(1, *block.shape[1:]) if lengths else None
            )
            for name, block in file.items()
            if name not in ("encoded", "offset", "table")
        }
    encoded = out.create_dataset("encoded", (sum(lengths),), np.uint8)
    columns: dict[str, list[np.ndarray]] = {}
    row = byte = 0
    for part, rows in zip(shard.parts, shard.keep, strict=True):
        with h5py.File(part) as file:
            for name, block in blocks.items():
                block[row : row + len(rows)] = file[name][:][rows]
            row += len(rows)
            data, offset = file["encoded"][:], file["offset"][:]
            for i in rows:
                piece = data[offset[i] : offset[i + 1]]
                encoded[byte : byte + len(piece)] = piece
                byte += len(piece)
            for name, column in file["table"].items():
                values = column.asstr()[:] if name in TEXT_COLUMNS else column[:]
                columns.setdefault(name, []).append(values[rows])
    return columns
