"""Make the training faces of a store small enough to be carried to a machine with a GPU, and a store again there.

    python experiments/tools/pack_store.py pack STORE OUT --shards 3 --side 384 --quality 88
    python experiments/tools/pack_store.py join OUT.0.h5 OUT.1.h5 OUT.2.h5 STORE

Packed faces are the squares alone, at most `--side` px wide, as WebP. What is judged later is never packed: calibration
and test need the bytes as they came.
"""

from __future__ import annotations

import argparse
import io
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import h5py
import numpy as np
from PIL import Image

from pixelsleuth.datasets.shards import TEXT_COLUMNS
from pixelsleuth.datasets.store import Store
from pixelsleuth.files import whole_file
from pixelsleuth.sources.images import decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    pack_parser = actions.add_parser("pack")
    pack_parser.add_argument("store", type=Path)
    pack_parser.add_argument("out", type=Path)
    pack_parser.add_argument("--shards", type=int, default=3)
    pack_parser.add_argument("--side", type=int, default=384, help="largest side of a packed face in pixels")
    pack_parser.add_argument("--quality", type=int, default=88, help="of WebP")
    join_parser = actions.add_parser("join")
    join_parser.add_argument("shards", type=Path, nargs="+")
    join_parser.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.action == "pack":
        pack(options.store, options.out, options.shards, options.side, options.quality)
    else:
        join(options.shards, options.out)


def pack(path: Path, out: Path, shards: int, side: int, quality: int) -> None:
    with Store(path) as store:
        rows = store.rows("train")
        rows = rows[[store.landmarks(int(row)) is not None for row in rows]]
        # Each shard holds something of every source, so that one of them is a sample of all.
        for number in range(shards):
            chosen = rows[number::shards]
            packed = [_packed(store, int(row), side, quality) for row in chosen]
            table = {name: column[chosen] for name, column in store.table.items()}
            table["box"] = np.array([(0, 0, width, width) for _, width, _ in packed], np.int32)
            table["angle"] = np.zeros(len(chosen), np.float32)
            table["landmarks"] = np.stack([marks for _, _, marks in packed]).astype(np.float32)
            settings = {k: v for k, v in store.settings.items() if k not in ("files", "origins")}
            place = out.with_name(f"{out.name}.{number}.h5")
            _write(place, settings, [data for data, _, _ in packed], table, None)
            print(f"{place}: {len(chosen):,} faces, {place.stat().st_size / 2**20:.1f} MiB", flush=True)


def _packed(store: Store, row: int, side: int, quality: int) -> tuple[bytes, int, np.ndarray]:
    crop, marks = store.crop(row), store.landmarks(row)
    assert marks is not None
    width = crop.shape[0]
    if width > side:
        crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue(), crop.shape[0], marks * (crop.shape[0] / width)


def join(shards: list[Path], out: Path) -> None:
    encoded: list[bytes] = []
    tables: dict[str, list[np.ndarray]] = {}
    settings = {}
    for path in shards:
        with Store(path) as store:
            settings = store.settings
            encoded += [store.encoded(row) for row in range(len(store))]
            for name, column in store.table.items():
                tables.setdefault(name, []).append(column)
    with ProcessPoolExecutor() as pool:
        pixels = list(pool.map(_square, encoded, [int(settings["size"])] * len(encoded), chunksize=64))
    table = {name: np.concatenate(columns) for name, columns in tables.items()}
    _write(out, settings, encoded, table, np.stack(pixels))
    print(f"{out}: {len(encoded):,} faces")


def _square(data: bytes, size: int) -> np.ndarray:
    pixels = decode(data).pixels
    method = cv2.INTER_AREA if pixels.shape[0] >= size else cv2.INTER_CUBIC
    return cv2.resize(pixels, (size, size), interpolation=method)


def _write(
    path: Path, settings: dict[str, object], encoded: list[bytes], table: dict[str, np.ndarray],
    pixels: np.ndarray | None,
) -> None:  # fmt: skip
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file.attrs["settings"], file.attrs["duplicates"] = json.dumps(settings), 0
        file["skipped"] = json.dumps([])
        file["offset"] = np.concatenate([[0], np.cumsum([len(data) for data in encoded])]).astype(np.int64)
        file["encoded"] = np.frombuffer(b"".join(encoded), np.uint8)
        if pixels is not None:
            file["pixels"] = pixels
        for name, column in table.items():
            if name in TEXT_COLUMNS:
                column = column.astype(h5py.string_dtype())
            file.create_dataset(f"table/{name}", data=column, compression="gzip")


if __name__ == "__main__":
    main()
