"""The HDF5 store, one file or several: images as the model sees them, with their original bytes and their origin.

Layout (N pictures): `pixels` (N, size, size, 3) uint8, one chunk a picture, uncompressed, so that one is
read with one seek; `encoded` one flat uint8 array with `offset` (N + 1) int64; `table/*` one column a field. Of a
video's frame the face with its surroundings takes the place of the original bytes, as PNG.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.layouts import source_of
from pixelsleuth.datasets.shards import Places, Shards, files_of
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import sha256_of
from pixelsleuth.records import Box
from pixelsleuth.sources import faces
from pixelsleuth.sources.duplicates import MAX_DISTANCE
from pixelsleuth.sources.images import decode

FORMAT = 1
#: Parts of a perceptual hash: of two hashes that differ in at most `MAX_DISTANCE` bits at least two parts are equal.
_BANDS = tuple(int(sum(1 << bit for bit in range(first, 64, MAX_DISTANCE + 2))) for first in range(MAX_DISTANCE + 2))
#: Settings that older stores do not have, and what they were made with.
_SINCE = {"edge": "inside", "align": False, "level": False, "pick": "even"}


@dataclass
class Summary:
    """Counts of what preparing a store did, for the closing table.

    `videos` counts those with a face, `volumes` those read; `near` holds up to 1,000 pairs of paths of near-duplicates
    in different splits, `n_near` counts all.
    """

    stored: int = 0
    videos: int = 0
    volumes: int = 0
    by_split: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    duplicates: int = 0
    n_near: int = 0
    near: list[tuple[str, str]] = field(default_factory=list)

    def reasons(self) -> Counter[str]:
        return Counter(code for _, code, _ in self.skipped)


class Store:
    """A store opened for reading. Not shared between processes: each opens its own.

    Args:
        places: a file; a folder or a pattern of files (`faces/`, `faces-*.h5`), which are read as one store whose rows
            are those of the first file, then of the next; or several of these.

    Attributes:
        files: the files it is made of.
        table: columns, each read when it is first asked for: `path`, `sha256`, `label`, `split`, `group`, `level`,
            `parts`, `source`, `method` (str), `box` (N, 4) int32 and `angle` float32 (see `box`), `confidence` float32,
            `phash` uint64, in the store's order; of videos `place` (N, 4) int32 (the box in the frame), `frame` and
            `track` int32, `time` float64 in seconds, `padded`, `sharpness` and `motion` float32. Older stores lack
            some.
    """

    def __init__(self, places: Places) -> None:
        self.files = tuple(files_of(places))
        #: What it is called in messages: the file, the folder, the pattern, or the first of several.
        self.path = Path(places) if isinstance(places, str | os.PathLike) else self.files[0]
        self.table = Shards(self.files)
        self.settings = self.table.settings
        if self.settings.get("format") != FORMAT:
            raise PixelsleuthError(f"{self.path} has store format {self.settings.get('format')}, expected {FORMAT}")
        if not self.holds_volumes:
            for name, value in _SINCE.items():
                self.settings.setdefault(name, value)
        self.table.default("angle", np.zeros(len(self), np.float32))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.table.close()

    def __len__(self) -> int:
        return self.table.count

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file; of several that of their digests, one after the other."""
        digests = [sha256_of(path) for path in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Side of the stored squares in pixels."""
        return int(self.settings["size"])

    def pixels(self, rows: Sequence[int] | np.ndarray, size: int | None = None) -> np.ndarray:
        """(n, size, size, C) uint8 of the rows, RGB or grey, in the order asked for; pictures at another size than the
        store's are cut anew from the original bytes."""
        if size not in (None, self.size) and len(rows):
            return np.stack([self._cut(int(row), size or self.size) for row in rows])
        return self.table.blocks("pixels", rows)

    def inside(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, size, size) bool, of slices the head."""
        return self.table.blocks("inside", rows)

    def lesion(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, size, size) bool, of slices what a mask marks."""
        return self.table.blocks("lesion", rows)

    @property
    def holds_volumes(self) -> bool:
        return bool(self.settings["crop"] == "volume")

    def encoded(self, row: int) -> bytes:
        """The original bytes of one picture."""
        return self.table.encoded(row)

    def box(self, row: int) -> Box:
        """The square that was cut, in pixels of what `encoded` holds."""
        x0, y0, x1, y1 = (int(v) for v in self.table["box"][row])
        return Box(x0, y0, x1, y1, float(self.table["angle"][row]))

    def crop(self, row: int) -> np.ndarray:
        """(side, side, 3) uint8, the square at its own resolution, before it was scaled."""
        return faces.patch(decode(self.encoded(row)).pixels, self.box(row))

    def points(self, row: int) -> np.ndarray | None:
        """(5, 2) float32, the face finder's five points in pixels of what `encoded` holds; None where they are not
        known."""
        marks = self.table.get("landmarks")
        return None if marks is None or not np.isfinite(marks[row]).all() else marks[row]

    def landmarks(self, row: int) -> np.ndarray | None:
        """`points` in pixels of `crop`."""
        points = self.points(row)
        return None if points is None else faces.in_patch(points, self.box(row))

    def _cut(self, row: int, size: int) -> np.ndarray:
        return faces.cut(decode(self.encoded(row)).pixels, self.box(row), size)

    def sources(self, rows: np.ndarray) -> list[str]:
        """The name of each row's source (see trees.source_of)."""
        names = {path: source_of(path) for path in set(self.table["source"].tolist())}
        return [names[path] for path in self.table["source"][rows]]

    def rows(self, *splits: str, normal_only: bool = True) -> np.ndarray:
        """Row numbers of `splits`; pictures known to be anomalous are left out unless told otherwise."""
        chosen = np.isin(self.table["split"], splits)
        if normal_only:
            chosen &= self.table["label"] != "anomalous"
        return np.flatnonzero(chosen)

    def by_split(self) -> dict[str, int]:
        """Number of rows of each split."""
        return dict(Counter(self.table["split"].tolist()))

    def summary(self) -> Summary:
        """Counts, skipped files and near-duplicates across splits, for the closing table."""
        # Slices of different heads are alike to a perceptual hash.
        n_near, near = (0, []) if self.holds_volumes else near_duplicates(self.table["phash"], self.table["split"])
        paths = self.table["path"]
        return Summary(
            stored=len(self),
            videos=len(set(paths.tolist())) if "policy" in self.settings else 0,
            volumes=len(set(self.table["group"].tolist())) if self.holds_volumes else 0,
            by_split=self.by_split(),
            skipped=self.table.skipped(),
            duplicates=self.table.duplicates(),
            n_near=n_near,
            near=[(str(paths[a]), str(paths[b])) for a, b in near],
        )


def near_duplicates(phash: np.ndarray, split: np.ndarray, most: int = 1000) -> tuple[int, list[tuple[int, int]]]:
    """Find pairs in different splits whose 64-bit perceptual hashes differ in at most `MAX_DISTANCE` bits.

    Exact, and nearly linear in N: only hashes of which two of six parts are equal are compared (multi-index hashing,
    Norouzi, Punjani & Fleet 2012; four bits that differ leave two parts equal).

    Args:
        phash: (N,) uint64.
        split: (N,) str.

    Returns:
        The count, and up to `most` pairs of row numbers.
    """
    count = 0
    pairs = np.zeros((0, 2), np.int64)
    order_of = list(combinations(_BANDS, 2))
    for number, (one, other) in enumerate(order_of):
        key = phash & np.uint64(one | other)
        order = np.argsort(key, kind="stable")
        key = key[order]
        at, distance = np.arange(len(key)), 1
        # Neighbours of equal key, then those two places apart, and so on until no run is as long.
        while len(at := at[at + distance < len(key)]) and len(at := at[key[at] == key[at + distance]]):
            left, right = np.sort([order[at], order[at + distance]], 0)
            differing = phash[left] ^ phash[right]
            chosen = (split[left] != split[right]) & (_ones(differing) <= MAX_DISTANCE)
            # Counted where the first two of their equal parts are compared, and so once.
            for earlier, later in order_of[:number]:
                chosen &= (differing & np.uint64(earlier | later)) != 0
            count += int(chosen.sum())
            pairs = np.concatenate([pairs, np.stack([left[chosen], right[chosen]], 1)])
            pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))][:most]
            distance += 1
    return count, [(int(left), int(right)) for left, right in pairs]


def _ones(values: np.ndarray) -> np.ndarray:
    """(n,) how many bits of (n,) uint64 are set."""
    return _ONES[np.ascontiguousarray(values).view(np.uint16).reshape(-1, 4)].sum(1)


_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(1, dtype=np.uint8)
