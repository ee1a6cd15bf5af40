"""The HDF5 store: pictures as the model sees them, with their original bytes and where they came from.

Layout (N pictures): `pixels` (N, size, size, 3) uint8, one chunk a picture, uncompressed, so that one is
read with one seek; `encoded` one flat uint8 array with `offset` (N + 1) int64; `table/*` one column a field.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import imagehash
import numpy as np
from PIL import Image

from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.files import whole_file
from pixelsleuth.records import Box
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import decode, find_images, read_bytes
from pixelsleuth.sources.trees import Origin, names_of_root, origin_of

FORMAT = 1
#: Pictures written together: what a kill can cost.
PART = 512
#: Bits (of 64) by which two perceptual hashes may differ and still count as near-duplicates.
NEAR = 4

_COLUMNS = ("path", "sha256", "label", "split", "group", "level", "parts", "source")


@dataclass
class Summary:
    """What `prepare_images` did: counts for the closing table.

    `near` holds up to 1,000 pairs of paths of near-duplicates in different splits; `n_near` counts all.
    """

    stored: int = 0
    by_split: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    duplicates: int = 0
    n_near: int = 0
    near: list[tuple[str, str]] = field(default_factory=list)

    def reasons(self) -> Counter[str]:
        return Counter(code for _, code, _ in self.skipped)


@dataclass(frozen=True)
class _Job:
    path: str
    relative: str
    source: str
    origin: Origin
    size: int
    crop: str


def _read_one(job: _Job) -> dict[str, Any]:
    """Reads, cuts and hashes one picture; a bad one comes back as its reason."""
    row: dict[str, Any] = {"job": job}
    try:
        picture = decode(read_bytes(job.path))
        if job.crop == "face":
            face = faces.main_face(picture.pixels)
            box, confidence = face.box, face.confidence
        else:
            box, confidence = faces.whole_picture(picture.pixels), 1.0
        pixels = faces.cut(picture.pixels, box, job.size)
        phash = imagehash.phash(Image.fromarray(pixels))
        row |= {
            "pixels": pixels,
            "encoded": np.frombuffer(picture.encoded, np.uint8),
            "sha256": picture.sha256,
            "box": box.as_list(),
            "confidence": confidence,
            "phash": np.packbits(phash.hash.flatten()).view(">u8")[0].astype(np.uint64),
        }
    except InputError as error:
        row["skip"] = (job.relative, error.code, error.sentence)
    return row


def prepare_images(
    sources: Sequence[Path],
    store: Path,
    *,
    size: int = 128,
    crop: str = "face",
    group_by_folder: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Reads every picture below `sources` into one HDF5 store at `store`.

    Work is kept in parts of `PART` pictures beside the store, so that a run that was stopped goes on where
    it was. Byte-identical pictures are stored once (the first path in order stays).

    Args:
        size: side of the stored square in pixels.
        crop: `face` (MTCNN, largest face) or `none` (largest centred square).
        group_by_folder: a picture's folder is its group (a person, a video), kept within one split.

    Raises:
        PixelsleuthError: no picture found, or the store was made with other settings.
    """
    if crop not in ("face", "none"):
        raise PixelsleuthError(f"crop: expected 'face' or 'none', got {crop!r}")
    jobs = _jobs(sources, size, crop, group_by_folder)
    if not jobs:
        raise PixelsleuthError(f"no picture found below {', '.join(map(str, sources))}; give a folder of images")
    settings = {
        "format": FORMAT, "size": size, "crop": crop, "margin": faces.MARGIN,
        "min_confidence": faces.MIN_CONFIDENCE, "group_by_folder": group_by_folder,
        "files": [[job.source, job.relative] for job in jobs],
    }  # fmt: skip
    if store.exists():
        with Store(store) as known:
            if known.settings == settings:
                return known.summary()
        raise PixelsleuthError(f"{store} exists and was made of other files or settings; delete it or name another")
    parts = store.with_name(store.name + ".parts")
    _open_parts(parts, settings)
    done = 0
    with get_context("spawn").Pool(workers) if workers > 1 else _Serial() as pool:
        for number, start in enumerate(range(0, len(jobs), PART)):
            chunk = jobs[start : start + PART]
            part = parts / f"{number:06d}.h5"
            if not part.exists():
                rows = []
                for row in pool.imap(_read_one, chunk, chunksize=8):
                    rows.append(row)
                    progress(done + len(rows), len(jobs))
                _write_part(part, rows, size)
            done += len(chunk)
            progress(done, len(jobs))
    _merge(store, sorted(parts.glob("*.h5")), settings, size)
    shutil.rmtree(parts)
    with Store(store) as made:
        return made.summary()


class _Serial:
    """A pool of one, without a process."""

    def __enter__(self) -> _Serial:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def imap(self, work: Callable[[_Job], dict[str, Any]], jobs: Iterable[_Job], chunksize: int = 1) -> Any:
        return map(work, jobs)


def _jobs(sources: Sequence[Path], size: int, crop: str, group_by_folder: bool) -> list[_Job]:
    jobs = []
    for source in sources:
        if not source.exists():
            raise PixelsleuthError(f"{source} does not exist; give a folder of images")
        root = source if source.is_dir() else source.parent
        for path in find_images(source) if source.is_dir() else [source]:
            relative = path.relative_to(root)
            origin = origin_of(relative, names_of_root(root), group_by_folder)
            jobs.append(_Job(str(path), relative.as_posix(), str(source), origin, size, crop))
    return jobs


def _open_parts(parts: Path, settings: dict[str, Any]) -> None:
    """Keeps finished parts if they were made with the same settings, else starts anew."""
    note = parts / "settings.json"
    text = json.dumps(settings)
    if note.exists() and note.read_text() == text:
        return
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    with whole_file(note) as partial:
        partial.write_text(text)


def _write_part(path: Path, rows: list[dict[str, Any]], size: int) -> None:
    kept = [row for row in rows if "skip" not in row]
    columns = {
        "path": [row["job"].relative for row in kept],
        "sha256": [row["sha256"] for row in kept],
        "label": [row["job"].origin.label for row in kept],
        "split": [row["job"].origin.split for row in kept],
        "group": [row["job"].origin.group for row in kept],
        "level": [row["job"].origin.level for row in kept],
        "parts": [",".join(row["job"].origin.parts) for row in kept],
        "source": [row["job"].source for row in kept],
    }
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        pixels = np.stack([r["pixels"] for r in kept]) if kept else np.zeros((0, size, size, 3), np.uint8)
        file["pixels"] = pixels
        file["encoded"] = np.concatenate([r["encoded"] for r in kept]) if kept else np.zeros(0, np.uint8)
        file["offset"] = np.cumsum([0, *(len(r["encoded"]) for r in kept)]).astype(np.int64)
        for name, values in columns.items():
            file[f"table/{name}"] = np.array(values, dtype=h5py.string_dtype())
        file["table/box"] = np.array([r["box"] for r in kept], np.int32).reshape(-1, 4)
        file["table/confidence"] = np.array([r["confidence"] for r in kept], np.float32)
        file["table/phash"] = np.array([r["phash"] for r in kept], np.uint64)
        file.attrs["skipped"] = json.dumps([row["skip"] for row in rows if "skip" in row])


def _merge(store: Path, parts: list[Path], settings: dict[str, Any], size: int) -> None:
    """Writes the parts as one store, byte-identical pictures once."""
    seen: set[str] = set()
    keep: list[np.ndarray] = []
    total_bytes = duplicates = 0
    skipped: list[list[str]] = []
    for part in parts:
        with h5py.File(part) as file:
            shas = file["table/sha256"].asstr()[:]
            fresh = np.zeros(len(shas), bool)
            for i, sha in enumerate(shas):
                fresh[i] = sha not in seen
                seen.add(sha)
            duplicates += int((~fresh).sum())
            keep.append(np.flatnonzero(fresh))
            total_bytes += int(np.diff(file["offset"][:])[fresh].sum())
            skipped += json.loads(file.attrs["skipped"])
    count = sum(map(len, keep))
    with whole_file(store) as partial, h5py.File(partial, "w") as out:
        pixels = out.create_dataset(
            "pixels", (count, size, size, 3), np.uint8, chunks=(1, size, size, 3) if count else None
        )
        encoded = out.create_dataset("encoded", (total_bytes,), np.uint8)
        lengths: list[int] = []
        columns: dict[str, list[Any]] = {}
        at = byte = 0
        for part, rows in zip(parts, keep, strict=True):
            with h5py.File(part) as file:
                offset, blob, block = file["offset"][:], file["encoded"][:], file["pixels"][:]
                pixels[at : at + len(rows)] = block[rows]
                for i in rows:
                    piece = blob[offset[i] : offset[i + 1]]
                    encoded[byte : byte + len(piece)] = piece
                    byte += len(piece)
                    lengths.append(len(piece))
                for name in file["table"]:
                    values = file[f"table/{name}"]
                    values = values.asstr()[:] if name in _COLUMNS else values[:]
                    columns.setdefault(name, []).append(values[rows])
                at += len(rows)
        out["offset"] = np.cumsum([0, *lengths]).astype(np.int64)
        for name, blocks in columns.items():
            values = np.concatenate(blocks)
            out[f"table/{name}"] = values.astype(h5py.string_dtype()) if name in _COLUMNS else values
        out.attrs["settings"] = json.dumps({k: v for k, v in settings.items() if k != "files"})
        out.attrs["duplicates"] = duplicates
        # Attributes are limited to 64 KiB; these two can be longer.
        out["files"] = json.dumps(settings["files"])
        out["skipped"] = json.dumps(skipped)


class Store:
    """A store opened for reading. Not shared between processes: each opens its own.

    Attributes:
        table: columns `path`, `sha256`, `label`, `split`, `group`, `level`, `parts`, `source` (str), `box`
            (N, 4) int32, `confidence` float32, `phash` uint64, in the store's order.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r")
            self.settings = json.loads(self._file.attrs["settings"])
            self.settings["files"] = json.loads(self._file["files"][()])
            self.table: dict[str, np.ndarray] = {
                name: (column.asstr()[:] if name in _COLUMNS else column[:])
                for name, column in self._file["table"].items()
            }
        except FileNotFoundError as error:
            raise PixelsleuthError(f"{path} does not exist; make it with `pixelsleuth prepare images`") from error
        except (OSError, KeyError, ValueError) as error:
            raise PixelsleuthError(
                f"{path} is not a pixelsleuth store ({error}); make it with `pixelsleuth prepare images`"
            ) from error
        if self.settings.get("format") != FORMAT:
            raise PixelsleuthError(f"{path} has store format {self.settings.get('format')}, expected {FORMAT}")
        self._offset = self._file["offset"][:]

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.table["path"])

    @property
    def size(self) -> int:
        """Side of the stored squares in pixels."""
        return int(self.settings["size"])

    def pixels(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, size, size, 3) uint8 RGB of the rows, in the order asked for."""
        data = self._file["pixels"]
        return np.stack([data[int(row)] for row in rows]) if len(rows) else np.zeros((0, *data.shape[1:]), np.uint8)

    def encoded(self, row: int) -> bytes:
        """The original bytes of one picture."""
        return self._file["encoded"][self._offset[row] : self._offset[row + 1]].tobytes()

    def box(self, row: int) -> Box:
        """The square that was cut, in pixels of the original."""
        return Box(*(int(v) for v in self.table["box"][row]))

    def rows(self, *splits: str, normal_only: bool = True) -> np.ndarray:
        """Row numbers of `splits`; pictures known to be anomalous are left out unless told otherwise."""
        chosen = np.isin(self.table["split"], splits)
        if normal_only:
            chosen &= self.table["label"] != "anomalous"
        return np.flatnonzero(chosen)

    def summary(self) -> Summary:
        """Counts, skipped files and near-duplicates across splits, for the closing table."""
        n_near, near = near_duplicates(self.table["phash"], self.table["split"])
        paths = self.table["path"]
        return Summary(
            stored=len(self),
            by_split=dict(Counter(self.table["split"].tolist())),
            skipped=[tuple(item) for item in json.loads(self._file["skipped"][()])],
            duplicates=int(self._file.attrs["duplicates"]),
            n_near=n_near,
            near=[(str(paths[a]), str(paths[b])) for a, b in near],
        )


def near_duplicates(phash: np.ndarray, split: np.ndarray, most: int = 1000) -> tuple[int, list[tuple[int, int]]]:
    """Pairs in different splits whose 64-bit perceptual hashes differ in at most `NEAR` bits.

    Args:
        phash: (N,) uint64.
        split: (N,) str.

    Returns:
        The count, and up to `most` pairs of row numbers.
    """
    bits = np.unpackbits(phash.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1
    count = 0
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(phash), 1024):
        # 64 - 2 x distance is a dot product of signs: one matrix product instead of N^2 popcounts.
        distance = (64 - bits[start : start + 1024] @ bits.T) / 2
        left, right = np.nonzero(distance <= NEAR)
        left = left + start
        chosen = (left < right) & (split[left] != split[right])
        count += int(chosen.sum())
        pairs += list(zip(left[chosen].tolist(), right[chosen].tolist(), strict=True))[: most - len(pairs)]
    return count, pairs
