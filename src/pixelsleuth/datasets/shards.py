"""HDF5 files that read as one: rows are numbered through all of them, and columns are read when first used."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pixelsleuth.errors import PixelsleuthError

#: Where a store is taken: a file, a folder of files, a pattern of their names, or several of these.
Places = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
#: Columns of text.
TEXT_COLUMNS = ("path", "sha256", "label", "split", "group", "level", "parts", "source", "method")
#: Settings that are as long as the store, and so stand as data sets of their own.
LONG_SETTINGS = ("files", "origins")
#: Rows of a text column read at once: each row is a Python object until it is known to be a repetition.
BLOCK = 1 << 16


def files_of(places: Places) -> list[Path]:
    """The files that places stand for, each once: a folder gives its `*.h5` in sorted order, a pattern such as
    `faces-*.h5` what it matches; a name that is neither stays as it is. Raises PixelsleuthError where a folder or a
    pattern gives none."""
    if not isinstance(places, str | os.PathLike):
        return list(dict.fromkeys(file for place in places for file in files_of(place)))
    path = Path(places)
    if path.is_dir():
        found = sorted(p for p in path.glob("*.h5") if not p.name.startswith("."))
        what = "a folder without any .h5 file"
    elif glob.has_magic(str(path)) and not path.exists():
        found = [Path(name) for name in sorted(glob.glob(str(path)))]
        what = "a pattern that no file matches"
    else:
        return [path]
    if not found:
        raise PixelsleuthError(f"{path}: expected a store, got {what}; make one with `pixelsleuth prepare`")
    return found


def holds_store(path: Path) -> bool:
    """Whether a path is a store rather than a folder of inputs: a file, or a folder with `*.h5` in it."""
    return path.is_file() or (path.is_dir() and any(path.glob("*.h5")))


class Shards(Mapping[str, np.ndarray]):
    """Files opened for reading, and their tables as one: a mapping from a column's name to its values over all files.

    A column is read once, when it is first asked for, and then kept: numbers as they are, text as (N,) str objects,
    of which equal ones are one object, so that a column of few values costs 8 bytes a row. `at` reads single rows of a
    column and keeps nothing.

    Attributes:
        settings: what all files say of how they were made, without `LONG_SETTINGS`.

    Raises:
        PixelsleuthError: a file that does not exist or is no store, or files that were made with other settings than
            the first.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.paths = tuple(files)
        self._files: list[h5py.File] = []
        self._kept: dict[str, np.ndarray] = {}
        try:
            for path in self.paths:
                self._open(path)
        except PixelsleuthError:
            self.close()
            raise
        self._starts = np.cumsum([0, *(len(file["offset"]) - 1 for file in self._files)])
        self._names = [name for name in self._files[0]["table"] if all(name in f["table"] for f in self._files)]

    def _open(self, path: Path) -> None:
        try:
            file = h5py.File(path, "r")
            self._files.append(file)
            settings = json.loads(file.attrs["settings"])
            for name in ("table", "table/path", "offset"):
                file[name]
        except FileNotFoundError as error:
            raise PixelsleuthError(f"{path} does not exist; make it with `pixelsleuth prepare`") from error
        except (OSError, KeyError, ValueError) as error:
            raise PixelsleuthError(
                f"{path} is not a pixelsleuth store ({error}); make it with `pixelsleuth prepare`"
            ) from error
        if len(self._files) == 1:
            self.settings: dict[str, Any] = settings
            return
        for key in self.settings.keys() | settings.keys():
            if self.settings.get(key) != settings.get(key):
                raise PixelsleuthError(
                    f"{path}: prepared with {key} = {settings.get(key)}, {self.paths[0]} with "
                    f"{self.settings.get(key)}; expected shards of one store"
                )

    def close(self) -> None:
        for file in self._files:
            file.close()

    @property
    def count(self) -> int:
        """Rows of all files."""
        return int(self._starts[-1])

    def __len__(self) -> int:
        return len(self._names) + len(self._kept.keys() - set(self._names))

    def __iter__(self) -> Iterator[str]:
        yield from self._names
        yield from (name for name in self._kept if name not in self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._kept:
            if name not in self._names:
                raise KeyError(name)
            known: dict[str, str] = {}
            self._kept[name] = np.concatenate([_column(file["table"][name], name, known) for file in self._files])
        return self._kept[name]

    def default(self, name: str, values: np.ndarray) -> None:
        """Give a column that older files lack."""
        if name not in self._names:
            self._kept[name] = values

    def at(self, name: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, ...) the values of a column in some rows, in the order asked for; read from the files alone where the
        column is not kept."""
        rows = np.asarray(rows, np.int64)
        if name in self._kept:
            return self._kept[name][rows]
        if not len(rows):
            return self._files[0]["table"][name][:0]
        order = np.argsort(rows, kind="stable")
        parts = []
        which = self._which(rows[order])
        for number in np.unique(which):
            here, place = np.unique(rows[order][which == number] - self._starts[number], return_inverse=True)
            column = self._files[number]["table"][name]
            values = column.asstr()[here] if name in TEXT_COLUMNS else column[here]
            parts.append(values[place])
        found = np.concatenate(parts)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return found[back]

    def blocks(self, name: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, ...) the rows of a data set beside the table, in the order asked for."""
        if not len(rows):
            first = self._files[0][name]
            return np.zeros((0, *first.shape[1:]), first.dtype)
        return np.stack([self._files[number][name][row] for number, row in map(self._place, rows)])

    def encoded(self, row: int) -> bytes:
        """The bytes of one row."""
        number, here = self._place(row)
        file = self._files[number]
        first, last = file["offset"][here : here + 2]
        return file["encoded"][first:last].tobytes()

    def made_of(self) -> dict[str, Any]:
        """The settings with `LONG_SETTINGS`, those of all files joined."""
        joined = dict(self.settings)
        for name in LONG_SETTINGS:
            if all(name in file for file in self._files):
                joined[name] = [item for file in self._files for item in json.loads(file[name][()])]
        return joined

    def skipped(self) -> list[tuple[str, str, str]]:
        """Path, code and sentence of what could not be stored."""
        return [tuple(item) for file in self._files for item in json.loads(file["skipped"][()])]

    def duplicates(self) -> int:
        """Number of byte-identical inputs that were stored once."""
        return sum(int(file.attrs["duplicates"]) for file in self._files)

    def _which(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._starts, rows, "right") - 1

    def _place(self, row: int | np.integer[Any]) -> tuple[int, int]:
        """Number of the file, and the row in it."""
        if not -self.count <= row < self.count:
            raise IndexError(f"row {row} of {self.count}")
        row = int(row) % self.count
        number = int(self._which(np.array([row]))[0])
        return number, row - int(self._starts[number])


def _column(column: Any, name: str, known: dict[str, str]) -> np.ndarray:
    if name not in TEXT_COLUMNS:
        return column[:]
    values = np.empty(len(column), object)
    texts = column.asstr()
    for start in range(0, len(column), BLOCK):
        block = texts[start : start + BLOCK]
        values[start : start + BLOCK] = [known.setdefault(text, text) for text in block.tolist()]
        if len(known) > BLOCK:
            # Hardly anything is a repetition, so that remembering costs more than it spares.
            known.clear()
    return values
