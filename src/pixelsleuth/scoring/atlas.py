"""The atlas, the mean and spread of healthy slices at each place: the simplest model, and the baseline others must
beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pixelsleuth.errors import ModelError
from pixelsleuth.files import whole_file

FILE = "atlas.safetensors"
#: Ranges of slice positions that have a mean of their own.
BINS = 12
#: Floor of the spread, in [0, 1]: avoids huge z-scores where healthy slices barely vary.
MIN_SPREAD = 0.02


@dataclass(frozen=True)
class Atlas:
    """Statistics of healthy training slices by position.

    Attributes:
        mean, spread: (BINS, h, w) float32, of grey levels in [0, 1], at half the slices' resolution.
        surprise: (BINS, h', w') float32, mean NLL - entropy in nats on the code grid.
    """

    mean: np.ndarray
    spread: np.ndarray
    surprise: np.ndarray

    def z(self, image: np.ndarray, position: np.ndarray) -> np.ndarray:
        """(n, H, W) in [0, 1] at positions (n,) -> (n, H, W) float32, signed standard scores against the atlas."""
        mean, spread = self.expected(position, (image.shape[1], image.shape[2]))
        return ((image - mean) / spread).astype(np.float32)

    def expected(self, position: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(n, H, W) float32 each: mean and spread, at least `MIN_SPREAD`, of grey levels at positions (n,)."""
        bins = bin_of(position)
        return _enlarged(self.mean[bins], size), np.maximum(_enlarged(self.spread[bins], size), MIN_SPREAD)

    def usual_surprise(self, position: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(n, H, W) float32: what is expected at these positions of any healthy slice, whatever the input shows."""
        return _enlarged(self.surprise[bin_of(position)], size)


def bin_of(position: np.ndarray) -> np.ndarray:
    """(n,) in [-0.5, 0.5] -> (n,) int in [0, BINS)."""
    return np.clip(((position + 0.5) * BINS).astype(int), 0, BINS - 1)


def fit_atlas(
    slices: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], position: np.ndarray, batch: int = 32
) -> Atlas:
    """Means and spreads by position, each range of positions pooled with its neighbours.

    Args:
        slices: (n,) numbers -> their grey levels (n, H, W) in [0, 1] and their surprise (n, h, w).
        position: (N,) of all slices.
    """
    bins = bin_of(position)
    sums: list[np.ndarray] | None = None
    count = np.zeros(BINS)
    for start in range(0, len(position), batch):
        numbers = np.arange(start, min(start + batch, len(position)))
        image, felt = slices(numbers)
        small = np.stack([cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in image])
        blocks = (small, small**2, felt)
        if sums is None:
            sums = [np.zeros((BINS, *b.shape[1:])) for b in blocks]
        for total, block in zip(sums, blocks, strict=True):
            np.add.at(total, bins[numbers], block)
        np.add.at(count, bins[numbers], 1)
    assert sums is not None, "an atlas needs slices"
    # A range without a slice takes its neighbours' mean: widen until there are some.
    weights = np.zeros((BINS, BINS))
    for b in range(BINS):
        for reach in range(1, BINS + 1):
            near = np.abs(np.arange(BINS) - b) <= reach
            weights[b] = near
            if count[near].sum() >= 8 or near.all():
                break
    total = weights @ count
    mean, square, surprise = (np.tensordot(weights, s, 1) / total[:, None, None] for s in sums)
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    return Atlas(mean.astype(np.float32), spread.astype(np.float32), surprise.astype(np.float32))


def save_atlas(folder: Path, atlas: Atlas) -> None:
    tensors = {name: getattr(atlas, name).astype(np.float16) for name in ("mean", "spread", "surprise")}
    with whole_file(folder / FILE) as partial:
        save_file(tensors, partial)
        partial.chmod(0o644)


def load_atlas(folder: Path) -> Atlas:
    """Raise ModelError where it is missing or cannot be read."""
    try:
        tensors = load_file(folder / FILE)
        return Atlas(*(tensors[name].astype(np.float32) for name in ("mean", "spread", "surprise")))
    except FileNotFoundError as error:
        raise ModelError(f"{folder / FILE} is missing; the model folder is not complete") from error
    except (SafetensorError, OSError, KeyError) as error:
        raise ModelError(f"{folder / FILE} cannot be read ({error})") from error


def _enlarged(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return np.stack([cv2.resize(v, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for v in values])
