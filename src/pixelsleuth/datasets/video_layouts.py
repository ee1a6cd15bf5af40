"""Derive label, split, group and method of manipulation from a video's place in its data set's tree.

Known are FaceForensics++ (with its official split files), DFDC (`metadata.json`), Celeb-DF (v1 and v2), and any folder
whose `labels.csv` has the columns file and label (perhaps split, group, method).
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pixelsleuth.datasets.layouts import Origin, drawn_split, label_of, names_of_root, origin_of
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.sources.formats import VIDEO_SUFFIXES

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter", "DeepFakeDetection")
_FFPP = re.compile(r"^(\d{3})(?:_(\d{3}))?$")
_ACTORS = re.compile(r"^(\d{2})(?:_(\d{2}))?__")
_CELEB = re.compile(r"^(id\d+)_(?:(id\d+)_)?\d+$")


def find_videos(root: Path) -> Iterator[Path]:
    """Find every file below `root` with a video's suffix, in sorted order, without hidden files."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield Path(folder) / name


def origins_of(root: Path, labels: Path | None = None) -> dict[Path, Origin]:
    """Find every video below `root` with what is known of it; a video and everything made of it share one group.

    Args:
        labels: a CSV for videos whose tree tells nothing; `root/labels.csv` where it exists, unless given.

    Raises:
        PixelsleuthError: a CSV, metadata or split file that cannot be read, or rows that do not fit.
    """
    paths = list(find_videos(root)) if root.is_dir() else [root]
    if labels is None and (root / "labels.csv").is_file():
        labels = root / "labels.csv"
    rows = read_labels(labels) if labels else {}
    splits = _official_splits(root)
    pairs = [match.groups() for path in paths if (match := _FFPP.match(path.stem)) and _in_ffpp(root, path)]
    components = _joined([(a, b or a) for a, b in pairs] + list(splits))
    metadata: dict[Path, dict[str, dict[str, str]]] = {}
    # As it lies in the tree: videos may be links to elsewhere.
    home = (root if root.is_dir() else root.parent).resolve()
    testing = _celeb_testing(home)
    found: dict[Path, Origin] = {}
    for path in paths:
        relative = path.relative_to(root) if root.is_dir() else Path(path.name)
        origin = origin_of(relative, names_of_root(root) if root.is_dir() else (), False)
        words = (*root.resolve().parts[-6:], *relative.parts)
        ffpp = _FFPP.match(path.stem) if _in_ffpp(root, path) else None
        actors = _ACTORS.match(path.stem)
        celeb = _CELEB.match(path.stem)
        method = next((w for w in words if w in METHODS), "")
        if ffpp:
            split = next((splits[p] for p in splits if ffpp[1] in p), "")
            group = f"ffpp/{components[ffpp[1]]}"
            drawn = drawn_split(group)
            # The official files know no calibration set: it is drawn from their training set.
            split = "calib" if split == "train" and drawn == "calib" else split or drawn
            origin = replace(origin, group=group, split=split, method=method)
        elif actors:
            group = f"actors/{actors[1]}"
            origin = replace(origin, group=group, split=drawn_split(group), method=method)
        elif celeb or "YouTube-real" in words:
            group = f"celeb/{celeb[1] if celeb else path.stem}"
            # Its test set is kept as it was published, though it shares persons with the rest.
            split = "test" if home / relative in testing else _not_test(group)
            label = "anomalous" if celeb and celeb[2] else "normal"
            origin = replace(
                origin, label=label, group=group, split=split, method="Celeb-DF" if label != "normal" else ""
            )
        else:
            if path.parent not in metadata:
                metadata[path.parent] = _dfdc_metadata(path.parent)
            known = metadata[path.parent].get(path.name)
            original = (known or {}).get("original") or path.name
            group = f"{relative.parent.as_posix()}/{Path(original).stem}"
            told = any(word.lower() in ("train", "val", "calib", "test") for word in words)
            origin = replace(origin, group=group, split=origin.split if told else drawn_split(group))
            if known:
                origin = replace(origin, label=label_of(known.get("label", "")) or origin.label, method="DFDC")
                origin = replace(origin, method="DFDC" if origin.label == "anomalous" else "")
        row = rows.get(relative.as_posix())
        if row:
            label = label_of(row["label"])
            if not label:
                raise PixelsleuthError(f"{labels}: expected a label such as real or fake, got {row['label']!r}")
            origin = replace(origin, label=label, method=row.get("method") or origin.method)
            if row.get("group"):
                origin = replace(origin, group=row["group"], split=drawn_split(row["group"]))
            if row.get("split"):
                origin = replace(origin, split=row["split"])
        found[path] = origin
    return found


def read_labels(path: Path) -> dict[str, dict[str, str]]:
    """Read the rows of a CSV by their column `file`. Raises PixelsleuthError where file or label is missing, of one row
    or of all."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = []
            for row in reader:
                if None in (row.get("file", ""), row.get("label", "")):
                    given = row.get("file") or row.get("label") or ""
                    raise PixelsleuthError(f"{path}, line {reader.line_num}: expected file,label; got {given}")
                rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PixelsleuthError(f"{path}: cannot be read as CSV ({error})") from error
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise PixelsleuthError(f"{path}: expected columns file,label; got {','.join(rows[0]) if rows else 'none'}")
    return {row["file"]: row for row in rows}


def _in_ffpp(root: Path, path: Path) -> bool:
    parts = (*root.resolve().parts, *path.parts)
    return "original_sequences" in parts or "manipulated_sequences" in parts


def _official_splits(root: Path) -> dict[tuple[str, str], str]:
    """(a, b) -> split, from train.json, val.json and test.json in `splits` of the root or of a folder above it."""
    found: dict[tuple[str, str], str] = {}
    above = root.resolve()
    for split in ("train", "val", "test"):
        for folder in (above, *list(above.parents)[:5]):
            path = folder / "splits" / f"{split}.json"
            if path.is_file() and not any(known == split for known in found.values()):
                try:
                    found |= {(str(a), str(b)): split for a, b in json.loads(path.read_text(encoding="utf-8"))}
                except (OSError, ValueError, TypeError) as error:
                    raise PixelsleuthError(f"{path}: expected a list of pairs of numbers ({error})") from error
    return found


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Each name -> the first name of all that pairs connect it with."""
    head: dict[str, str] = {}

    def top(name: str) -> str:
        while head.setdefault(name, name) != name:
            name = head[name]
        return name

    for a, b in pairs:
        first, second = sorted((top(a), top(b)))
        head[second] = first
    return {name: top(name) for name in list(head)}


def _dfdc_metadata(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "metadata.json"
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): dict(about) for name, about in tree.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PixelsleuthError(f"{path}: expected DFDC's metadata, names with labels ({error})") from error


def _celeb_testing(root: Path) -> set[Path]:
    """The videos that Celeb-DF lists for testing, in the root or, where that is one of the set's folders, above it."""
    for folder in (root, root.parent):
        path = folder / "List_of_testing_videos.txt"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            return {folder / line.split()[-1] for line in lines if line.strip()}
    return set()


def _not_test(group: str) -> str:
    """A drawn split that leaves the official test set alone."""
    split = drawn_split(group)
    return "train" if split == "test" else split
