"""The inputs of an evaluation: find them, and hold what is known of each once it is scored."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pixelsleuth.datasets.layouts import label_of
from pixelsleuth.datasets.video_layouts import read_labels
from pixelsleuth.datasets.volume_preparation import find_volumes
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import Finding
from pixelsleuth.sources.inputs import find_inputs

#: Side in pixels at which maps and masks of images are compared.
PIXEL_SIDE = 128


@dataclass
class ScoredSlices:
    """The n slices of a scored volume.

    Attributes:
        position: (n,) where they lie, -0.5 to 0.5.
        scores: name -> (n,).
        pixels, restoration: (n, H, W) uint8, kept of a few volumes for figures.
    """

    position: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    pixels: np.ndarray | None = None
    restoration: np.ndarray | None = None


@dataclass
class ScoredSample:
    """One scored image, video or volume.

    Attributes:
        anomalous: whether anything of it is.
        unit: the pair, patient or video that it is resampled with.
        methods: ways it was manipulated, where its tree or its name tells.
        maps: name -> over the whole image (PIXEL_SIDE, PIXEL_SIDE) float32; of a volume (n, H, W) float32, or float16
            where there are many.
        truth: bool like a map, what a mask marks in it; empty where no mask is known.
        region: bool like a map, where pixels are counted; a single True: everywhere.
        partner: the normal image that this one was made of.
        shortcuts: trivial measures by name (see evaluation.shortcuts); compared: scores of the baselines that were
            asked for. Of volumes none.
    """

    path: Path
    anomalous: bool
    finding: Finding
    unit: str
    methods: tuple[str, ...] = ()
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    truth: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    region: np.ndarray = field(default_factory=lambda: np.ones((), bool))
    partner: ScoredSample | None = None
    shortcuts: dict[str, float] = field(default_factory=dict)
    compared: dict[str, float] = field(default_factory=dict)
    slices: ScoredSlices = field(default_factory=ScoredSlices)

    @property
    def has_face(self) -> bool:
        return bool(self.finding.faces)

    def values(self, name: str) -> np.ndarray:
        """(P,) float32, a map where pixels are counted."""
        return self.maps[name][self.region].astype(np.float32).ravel()

    def marked(self) -> np.ndarray:
        """(P,) bool, the mask where pixels are counted."""
        return self.truth[self.region].ravel()


@dataclass(frozen=True)
class Evaluation:
    """`metrics` as metrics.json has them; `cases` for figures and for further looks."""

    metrics: dict[str, Any]
    cases: list[ScoredSample]


def inputs_of(root: Path, label: str, takes: str = "pictures") -> list[Path]:
    """List the inputs of a folder, a single file, or the files of one label in a CSV with columns file,label.

    Args:
        takes: `volumes`, or images and videos.

    Raises:
        PixelsleuthError: nothing is there.
    """
    volumes = takes == "volumes"
    if not os.path.exists(root):
        raise PixelsleuthError(f"{root}: no such folder", label)
    if root.suffix.lower() == ".csv" and not volumes:
        found = [root.parent / file for file, row in read_labels(root).items() if label_of(row["label"]) == label]
    elif not root.is_dir():
        found = [root]
    elif volumes:
        found = list(find_volumes(root))
    else:
        found = [item for item in find_inputs(root) if isinstance(item, Path)]
    if not found:
        what = "volumes" if volumes else "pictures or videos"
        raise PixelsleuthError(f"{root}: expected {what}, found none", label)
    return found


def folder_of(root: Path) -> Path:
    """The folder that names of inputs are relative to: of a CSV or a single input the one that it lies in."""
    return root if root.is_dir() else root.parent


class Pairs(NamedTuple):
    """The pairs of a CSV.

    Attributes:
        real_of: fake -> the real picture that it was made of.
        missing: how many more the CSV names, of which a file is not there, or whose fake has another partner.
    """

    real_of: dict[Path, Path]
    missing: int


def read_pairs(path: Path, normal: Path, anomalous: Path) -> Pairs:
    """Read the CSV of pairs, its names relative to the folders of both kinds.

    Raises:
        PixelsleuthError: it cannot be read, has a row without two names, or names no pair that is there.
    """
    rows = set(pair_rows(path))
    named = sorted((folder_of(anomalous) / fake, folder_of(normal) / real) for fake, real in rows)
    # Unlike `is_file` it takes what cannot be a file's name for one that is not there.
    known = {fake: real for fake, real in named if os.path.isfile(fake) and os.path.isfile(real)}
    if not known:
        raise PixelsleuthError(
            f"none of the {len(rows)} pairs of {path} is in {folder_of(anomalous)} and {folder_of(normal)}", "pairs"
        )
    return Pairs(known, len(rows) - len(known))


def pair_rows(path: Path) -> list[tuple[str, str]]:
    """The rows fake, real of the CSV of pairs. Raises PixelsleuthError where it is none."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PixelsleuthError(f"{path} cannot be read as CSV ({error})", "pairs") from error
    if not rows or not {"fake", "real"} <= set(rows[0][1]):
        got = ",".join(name for name in rows[0][1] if name) if rows else "none"
        raise PixelsleuthError(f"{path}: expected columns fake,real; got {got}", "pairs")
    for line, row in rows:
        if row["fake"] is None or row["real"] is None:
            raise PixelsleuthError(
                f"{path}, line {line}: expected fake,real; got {row['fake'] or row['real']}", "pairs"
            )
    return [(row["fake"], row["real"]) for _, row in rows]
