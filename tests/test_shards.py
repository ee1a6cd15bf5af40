"""Several files are one store: the same rows, in order, from as many files as they lie in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsleuth.datasets.preparation import prepare_images
from pixelsleuth.datasets.shards import files_of
from pixelsleuth.datasets.store import Store, near_duplicates
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.sources.duplicates import MAX_DISTANCE, distances
from tests.conftest import write_shapes


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three stores of 5, 0 and 4 pictures."""
    root = tmp_path_factory.mktemp("shards")
    write_shapes(root / "a/train/real", 5, 0)
    (write_shapes(root / "b/train/real", 1, 5) / "00005.png").write_bytes(b"no picture")
    write_shapes(root / "c/calib/real", 4, 6)
    for name in "abc":
        prepare_images([root / name], root / f"all/{name}.h5", size=64, crop="none", workers=1)
    return root / "all"


def test_several_files_read_as_one(shards: Path) -> None:
    with Store(shards) as whole, Store(shards / "a.h5") as first, Store(shards / "c.h5") as last:
        assert (len(whole), len(first), len(last)) == (9, 5, 4)
        rows = [8, 0, 5, 5, 4]
        there = [(last, 3), (first, 0), (last, 0), (last, 0), (first, 4)]
        assert np.array_equal(whole.pixels(rows), np.stack([s.pixels([r])[0] for s, r in there]))
        for row, (store, own) in zip(rows, there, strict=True):
            assert whole.encoded(row) == store.encoded(own)
            assert whole.box(row) == store.box(own)
        for name in first.table:
            values = [store.table[name][own] for store, own in there]
            with Store(shards) as fresh:
                # Read row by row, and as a whole column.
                np.testing.assert_array_equal(fresh.table.at(name, rows), values)
                np.testing.assert_array_equal(fresh.table[name][rows], values)
                np.testing.assert_array_equal(fresh.table.at(name, rows), values)
        assert whole.rows("calib").tolist() == [5, 6, 7, 8]
        assert whole.summary().by_split == {"train": 5, "calib": 4}
        assert [path for path, _, _ in whole.summary().skipped] == ["train/real/00005.png"]
        assert len({id(text) for text in whole.table["split"]}) == 2, "equal texts are one object"
        with pytest.raises(IndexError):
            whole.pixels([9])
    pair = [shards / "a.h5", shards / "c.h5"]
    with Store(shards / "[ac].h5") as some, Store(pair) as same, Store(shards) as whole:
        assert some.files == same.files
        assert some.sha256() == same.sha256() != whole.sha256()


def test_shards_are_written_at_the_same_time_and_read_as_one_file(tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "in/train/real", 12, 0)
    (folder / "00011.png").write_bytes((folder / "00000.png").read_bytes())
    (folder / "00007.png").write_bytes(b"no picture")
    settings: dict[str, Any] = {"size": 64, "crop": "none", "workers": 1}
    one = prepare_images([tmp_path / "in"], tmp_path / "one.h5", **settings)
    several = prepare_images([tmp_path / "in"], tmp_path / "several", shards=3, **settings)
    assert one == several
    assert several.duplicates == 1, "across files, too"
    names = sorted(path.name for path in (tmp_path / "several").iterdir())
    assert names == [f"shard-{k:05d}-of-00003.h5" for k in range(3)]
    assert not (tmp_path / "several.parts").exists()
    with Store(tmp_path / "one.h5") as whole, Store(tmp_path / "several") as shards:
        assert np.array_equal(whole.pixels(range(10)), shards.pixels(range(10)))
        assert [whole.encoded(row) for row in range(10)] == [shards.encoded(row) for row in range(10)]
        for name in whole.table:
            np.testing.assert_array_equal(whole.table[name], shards.table[name])
        assert whole.table.made_of() == shards.table.made_of()
    # It is known again, and so is not read again.
    (folder / "00001.png").write_bytes(b"changed")
    assert prepare_images([tmp_path / "in"], tmp_path / "several", shards=3, **settings) == several


def test_what_is_no_store_of_several_files_is_named(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(PixelsleuthError, match=r"a folder without any \.h5 file"):
        Store(tmp_path)
    with pytest.raises(PixelsleuthError, match="a pattern that no file matches"):
        files_of(tmp_path / "*.h5")
    write_shapes(tmp_path / "train/real", 1, 0)
    prepare_images([tmp_path], tmp_path / "small.h5", size=32, crop="none", workers=1)
    with pytest.raises(PixelsleuthError, match=r"small\.h5: prepared with size = 32, .*a\.h5 with 64"):
        Store([shards / "a.h5", tmp_path / "small.h5"])


def test_near_duplicates_are_those_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    base = generator.integers(0, 2**64, 60, np.uint64)
    flips = [np.bitwise_or.reduce(np.uint64(1) << generator.choice(64, k % 8, False).astype(np.uint64), initial=0)
             for k in range(400)]  # fmt: skip
    phash = base[np.arange(400) % 60] ^ np.array(flips, np.uint64)
    split = generator.choice(["train", "val", "calib"], 400)
    left, right = np.nonzero((distances(phash, phash) <= MAX_DISTANCE) & (split[:, None] != split[None]))
    expected = [(int(a), int(b)) for a, b in zip(left, right, strict=True) if a < b]
    assert len(expected) > 100
    assert near_duplicates(phash, split) == (len(expected), expected)
    assert near_duplicates(phash, split, most=7) == (len(expected), expected[:7])
