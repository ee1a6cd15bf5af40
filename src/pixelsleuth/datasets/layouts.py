"""Derive label, split, group, and the altered parts of Real-and-Fake-Face from a file's path."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PARTS = ("left_eye", "right_eye", "nose", "mouth")
LEVELS = ("easy", "mid", "hard")

_SPLIT_WORDS = {
    "train": "train", "training": "train", "calib": "calib", "calibration": "calib", "val": "val",
    "valid": "val", "validation": "val", "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
_LABEL_WORDS = {
    "real": "normal", "reals": "normal", "normal": "normal", "good": "normal", "healthy": "normal",
    "original": "normal", "fake": "anomalous", "fakes": "anomalous", "anomalous": "anomalous",
    "anomaly": "anomalous", "manipulated": "anomalous", "tampered": "anomalous",
    "training_real": "normal", "training_fake": "anomalous", "original_sequences": "normal",
    "manipulated_sequences": "anomalous", "celeb-real": "normal", "youtube-real": "normal",
    "celeb-synthesis": "anomalous",
}  # fmt: skip
# Real-and-Fake-Face: level, number, and four flags for left eye, right eye, nose, mouth (1: altered).
_REAL_AND_FAKE = re.compile(r"^(easy|mid|hard)_(\d+)_([01]{4})$")
_FFHQ = re.compile(r"^\d{5}$")


@dataclass(frozen=True)
class Origin:
    """What the path of an image below the given folder says about it.

    Attributes:
        label: one of `LABELS`.
        split: one of `SPLITS`.
        group: pictures of one group (a person, a patient, a video) never stand in two splits; "" if unknown.
        level: one of `LEVELS`, or "".
        parts: the altered parts among `PARTS`.
        method: how it was manipulated, as its data set calls it, or "".
    """

    label: str
    split: str
    group: str = ""
    level: str = ""
    parts: tuple[str, ...] = ()
    method: str = ""


def label_of(word: str) -> str:
    """One of `LABELS` for a data set's own word, "" for one that is not known.

    >>> label_of("FAKE")
    'anomalous'
    """
    return _LABEL_WORDS.get(word.strip().lower(), "")


def altered_parts(stem: str) -> tuple[str, tuple[str, ...]] | None:
    """Level and altered parts from a Real-and-Fake-Face file name, None if it is not one.

    >>> altered_parts("mid_12_1001")
    ('mid', ('left_eye', 'mouth'))
    """
    match = _REAL_AND_FAKE.match(stem)
    if not match:
        return None
    return match[1], tuple(part for part, flag in zip(PARTS, match[3], strict=True) if flag == "1")


def names_of_root(root: Path) -> tuple[str, ...]:
    """The last names of a folder that tell of its pictures: of `set/val/real` both `val` and `real`, of
    `set/val/real/SOURCE` all three."""
    parts = root.resolve().parts
    depth = next((d for d in (1, 2) if parts[-d].lower() in _LABEL_WORDS), 0)
    return parts[-depth - 1 :]


def source_of(root: Path | str) -> str:
    """The name of a source of pictures: the last name of its folder that is neither a split nor a label.

    >>> source_of("data/faces_world/calib/real/fairface"), source_of("data/faces_dfdc/train")
    ('fairface', 'faces_dfdc')
    """
    names = [n for n in Path(root).parts if n.lower() not in _SPLIT_WORDS and n.lower() not in _LABEL_WORDS]
    return names[-1] if names else str(root)


def drawn_split(key: str) -> str:
    """A split drawn by hash of `key`, so that it never depends on the other files: 75/15/5/5 percent."""
    share = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
    return "train" if share < 0.75 else "calib" if share < 0.90 else "val" if share < 0.95 else "test"


def origin_of(relative: PurePosixPath | Path, root: tuple[str, ...] = (), group_by_folder: bool = False) -> Origin:
    """Label, split and group of the file at `relative` below a folder whose last names are `root`.

    Folder names decide (`train/real/...`), the one nearest to the file first; FFHQ's numbered folders have
    the published split by number (the last 10,000 validate), of which 57,500 to 59,999 calibrate; all else
    is drawn by hash of the group, or of the path where there is none.
    """
    relative = PurePosixPath(relative)
    words = [part.lower() for part in (*root, *relative.parts[:-1])]
    split = next((_SPLIT_WORDS[w] for w in reversed(words) if w in _SPLIT_WORDS), "")
    label = next((_LABEL_WORDS[w] for w in reversed(words) if w in _LABEL_WORDS), "unknown")
    stem = relative.name.split(".")[0]
    group = str(relative.parent) if group_by_folder and len(relative.parts) > 1 else ""
    flags = altered_parts(stem)
    if flags:
        return Origin("anomalous", split or "test", group, flags[0], flags[1])
    if any(word in ("training_real", "training_fake") for word in words):
        return Origin(label, "test", group)
    if not split and _FFHQ.match(stem) and relative.parent.name.isdigit():
        number = int(stem)
        split = "train" if number < 57_500 else "calib" if number < 60_000 else "val"
    return Origin(label, split or drawn_split(group or str(relative)), group)
