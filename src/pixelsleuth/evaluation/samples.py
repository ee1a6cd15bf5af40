"""The inputs of an evaluation: find them, and hold what is known of each once it is scored."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def read_pairs(path: Path, normal: Path, anomalous: Path) -> dict[Path, Path]:
    """Read the CSV of pairs: fake -> real, for the rows both of whose files exist."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PixelsleuthError(f"{path} cannot be read as CSV ({error})", "pairs") from error
    if not rows or not {"fake", "real"} <= set(rows[0]):
        raise PixelsleuthError(
            f"{path}: expected columns fake,real; got {','.join(rows[0]) if rows else 'none'}", "pairs"
        )
    known = {anomalous / row["fake"]: normal / row["real"] for row in rows}
    known = {fake: real for fake, real in known.items() if os.path.isfile(fake) and os.path.isfile(real)}
    if not known:
        raise PixelsleuthError(f"none of the {len(rows)} pairs of {path} is in {anomalous} and {normal}", "pairs")
    return known
