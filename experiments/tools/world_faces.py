"""Copy training faces of many origins out of local clones into a working folder, with a manifest of SHA-256.

    python experiments/tools/world_faces.py CLONES OUT

CLONES holds one clone a repository, named OWNER+NAME/repo (bare or not). OUT gets one folder a source,
`OUT/SOURCE/train`, and `OUT/manifest.csv`. Which files are taken depends on their own bytes alone: the lowest SHA-256
first. Files that PIXELSLEUTH_SHARED's data hold in a split other than train are left out here; their near-duplicates
later, by `pixelsleuth prepare --not-near`. None of the pictures may be committed or passed on.
"""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixelsleuth.files import whole_file


@dataclass(frozen=True)
class Source:
    """Which files of a repository are taken: those below `folder`, of which `wanted` says yes, at most `most`."""

    name: str
    repository: str
    commit: str
    folder: str
    most: int
    wanted: Callable[[PurePosixPath], bool] = lambda path: True


def _age(path: PurePosixPath) -> int:
    """Years, from UTKFace's file name."""
    return int(path.name.split("_")[0])


UTK = ("mattans/AgeProgression", "2d937c615a3d10408db0ea795842e569bc9eedb0", "data/UTKFace/unlabeled")
SOURCES = (
    Source("utk_children", *UTK, 2200, lambda path: _age(path) < 18),
    Source("utk_old", *UTK, 1000, lambda path: _age(path) >= 65),
    Source("all_age_faces_more", "middleyuan/All-Age-Faces-Dataset", "28741a75e2efb7a2f96e13d4beb58411536f473d",
           "All-Age-Faces Dataset/original images", 3500),
    Source("mebeauty_more", "fbplab/MEBeauty-database", "7b849562ee92d99d34d56afa2ebe85e5075f9b20",
           "original_images", 2600),
    Source("expressions", "muxspace/facial_expressions", "5fb9c13afac07c55eae8d25eb6b50af344ad60c9", "images", 1500),
    Source("bollywood_more", "SambhavMishra8319/Indian-Celebrity-Face-Recognition",
           "e80ae35a0a7d918038b041ebb7fed471fab740be", "datasets", 900),
    Source("web_gender_more", "balajisrinivas/Gender-Detection", "ac108a31aaac8133da3c85854d3c0ffb8dd20dcb",
           "gender_dataset_face", 2400),
    Source("rwmfd_more", "X-zhangyang/Real-World-Masked-Face-Dataset", "b6772855cc581f42b851dc53b78d4ba852cc3860",
           "RWMFD_part_1", 500),
)  # fmt: skip
SUFFIXES = (".jpg", ".jpeg", ".png")


def held_out_sha256() -> set[str]:
    """SHA-256 of every picture that calibrates, chooses or tests."""
    data = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared")) / "data"
    splits = ("calib", "val", "test")
    paths = (p for split in splits for p in data.glob(f"faces_*/{split}/**/*") if p.is_file())
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def listed(source: Source, clone: Path) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of every file of a source, read by one `git cat-file --batch`."""
    git = ["git", "-c", "core.quotepath=off", "-C", str(clone)]
    tree = subprocess.run([*git, "ls-tree", "-r", "-z", source.commit, "--", source.folder], capture_output=True,
                          check=True).stdout.decode()  # fmt: skip
    rows = [entry.split("\t", 1) for entry in tree.split("\0") if entry]
    chosen = [(about.split()[2], path) for about, path in rows
              if path.lower().endswith(SUFFIXES) and source.wanted(PurePosixPath(path))]  # fmt: skip
    with subprocess.Popen([*git, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for blob, path in chosen:
            reader.stdin.write(f"{blob}\n".encode())
            reader.stdin.flush()
            head = reader.stdout.readline().split()
            if head[-1] == b"missing":
                continue
            data = reader.stdout.read(int(head[2]))
            reader.stdout.read(1)
            yield path, data


def main(clones: Path, out: Path) -> None:
    held_out, seen = held_out_sha256(), set()
    rows = []
    for source in SOURCES:
        folder = out / source.name / "train"
        folder.mkdir(parents=True, exist_ok=True)
        found = {hashlib.sha256(data).hexdigest(): (path, data)
                 for path, data in listed(source, clones / source.repository.replace("/", "+") / "repo")}  # fmt: skip
        fresh = sorted(set(found) - held_out - seen)[: source.most]
        seen |= set(fresh)
        for sha in fresh:
            path, data = found[sha]
            name = sha[:16] + PurePosixPath(path).suffix.lower()
            with whole_file(folder / name) as partial:
                partial.write_bytes(data)
            rows.append((source.name, name, sha, source.repository, source.commit, path))
        print(f"{source.name}: {len(fresh)} of {len(found)}", flush=True)
    with whole_file(out / "manifest.csv") as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("source", "file", "sha256", "repository", "commit", "path"))
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
