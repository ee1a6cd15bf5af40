"""The interface of a baseline: fit it on crops of normal images, then score others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from pixelsleuth.evidence.traces import blocks_around
from pixelsleuth.records import Box
from pixelsleuth.sources.faces import cut

#: Side in pixels of the squares that are compared.
SIDE = 256


class ComparedCrop(NamedTuple):
    """One crop as baselines see it.

    Attributes:
        square: (SIDE, SIDE, 3) uint8 RGB, the crop scaled.
        native: (H, W, 3) uint8 RGB, the least rectangle of whole JPEG blocks that holds the crop, in the image's own
            pixels: what traces of saving are sought in.
    """

    square: np.ndarray
    native: np.ndarray


@dataclass(frozen=True)
class Compared:
    """The scores and maps a baseline gives n crops.

    Attributes:
        scores: name -> (n,) float64; higher is more unusual.
        maps: name -> (n, h, w) float32 over the square; a baseline that has none gives none.
    """

    scores: dict[str, np.ndarray]
    maps: dict[str, np.ndarray] = field(default_factory=dict)


class Baseline(Protocol):
    """A method that is compared with; `fit` before `compare`."""

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        """Learn from crops of normal images alone."""
        ...

    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        """Score crops, and map them where possible; no result depends on what else is in the batch."""
        ...


def compared_crop(pixels: np.ndarray, box: Box) -> ComparedCrop:
    """Cut the region of `box` from (H, W, 3) uint8 RGB."""
    around = blocks_around(box, pixels.shape)
    native = np.ascontiguousarray(pixels[around.y0 : around.y1, around.x0 : around.x1])
    return ComparedCrop(cut(pixels, box, SIDE), native)


def squares_of(crops: Sequence[ComparedCrop], size: int) -> np.ndarray:
    """(n, size, size, 3) uint8."""
    if size == SIDE:
        return np.stack([crop.square for crop in crops])
    return np.stack([cv2.resize(crop.square, (size, size), interpolation=cv2.INTER_AREA) for crop in crops])


class Normality:
    """Distance of features from those of normal crops: Mahalanobis distance, covariance shrunk to its diagonal.

    Args:
        features: (n, d) float of normal crops.
        shrinkage: weight of the diagonal, in (0, 1].
    """

    def __init__(self, features: np.ndarray, shrinkage: float = 0.1) -> None:
        self.mean = features.mean(0)
        covariance = np.cov(features, rowvar=False)
        spread = np.diag(np.diag(covariance) + 1e-9)
        self.precision = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * spread)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """(n, d) -> (n,) float64."""
        away = features - self.mean
        return np.sqrt(np.einsum("nd,de,ne->n", away, self.precision, away))
