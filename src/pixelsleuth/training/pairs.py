"""Pairs to train a deep detective on: a normal face and a forgery of it, forged anew at every step.

Everything drawn at random hangs on the seed and the pair's number alone, so that a resumed run sees the same pairs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from pixelsleuth.datasets.shards import Places
from pixelsleuth.datasets.store import Store
from pixelsleuth.synthesis.camera import treated
from pixelsleuth.synthesis.face_edits import DONOR_EDITS, SHARES, Portrait, edited
from pixelsleuth.training.data import Sampler

#: Largest side in pixels of a crop that is forged; larger ones are scaled down, since edits grow with their image.
MAX_SIDE = 448
#: Crops at least this large are also looked at from near: a window of the face at twice the detective's size.
NEAR_CROP_SIDE = 288
#: Share of such crops that are.
NEAR_SHARE = 0.5
#: Faces among which a donor is sought: the one whose landmarks and colours are most alike.
CANDIDATES = 60
#: Smallest share of the square that a forgery changes.
MIN_MASK = 0.0015


class Numbered:
    """A sampler whose batches say of each row also which pair of the whole run it is; (B, 2) int64."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler, self.batch, self.steps_per_epoch = sampler, sampler.batch, sampler.steps_per_epoch

    def rows(self, step: int) -> np.ndarray:
        rows = self.sampler.rows(step)
        return np.stack([rows, step * self.batch + np.arange(len(rows))], 1)


class Pair(NamedTuple):
    """`picture` and `forgery` (size, size, 3) uint8, `mask` (h, w) float32 in [0, 1], and the `kind` of forgery."""

    picture: np.ndarray
    forgery: np.ndarray
    mask: np.ndarray
    kind: str


@dataclass(frozen=True)
class PairSettings:
    """How pairs are made.

    Attributes:
        size: side in pixels of the squares a detective sees.
        stride: pixels of the square for one place of the mask.
        shares: kind of `face_edits.SHARES` -> how often it is drawn.
        seed: of everything drawn.
        treat: whether both pictures pass the camera's chain.
    """

    size: int
    stride: int
    shares: Mapping[str, float]
    seed: int = 0
    treat: bool = True


class PairSource:
    """Gives pairs by number: (2 B, size, size, 3) uint8, the pictures first, and the masks (B, h, w) float32.

    Args:
        places: of the store.
        rows: of it, faces whose landmarks are known.
    """

    def __init__(self, places: Places, rows: np.ndarray, settings: PairSettings) -> None:
        unknown = sorted(set(settings.shares) - set(SHARES))
        if unknown:
            raise ValueError(f"shares: expected some of {', '.join(SHARES)}; got {unknown[0]!r}")
        self.places, self.rows, self.settings = places, rows, settings
        self.kinds = np.array(list(settings.shares))
        weights = np.array(list(settings.shares.values()), np.float64)
        self.weights = weights / weights.sum()
        self._opened: tuple[int, Store] | None = None
        store = self._store()
        frames = np.stack([_shape_of(store, int(row)) for row in rows])
        self.looks = (frames - frames.mean(0)) / (frames.std(0) + 1e-6)

    def _store(self) -> Store:
        # HDF5 files are not shared between processes.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), Store(self.places))
        return self._opened[1]

    def __call__(self, picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cv2.setNumThreads(1)
        pairs = [self.pair(int(row), int(number)) for row, number in picked]
        pixels = np.stack([p.picture for p in pairs] + [p.forgery for p in pairs])
        return pixels, np.stack([p.mask for p in pairs])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": None}

    def portrait(self, which: int) -> Portrait:
        """The face of row `which` of `rows`, at its own resolution up to `MAX_SIDE`."""
        store, row = self._store(), int(self.rows[which])
        crop, five = store.crop(row), store.landmarks(row)
        assert five is not None
        side = crop.shape[0]
        if side > MAX_SIDE:
            crop = cv2.resize(crop, (MAX_SIDE, MAX_SIDE), interpolation=cv2.INTER_AREA)
            five = five * (MAX_SIDE / side)
        return Portrait(np.ascontiguousarray(crop), five)

    def pair(self, which: int, number: int) -> Pair:
        """Pair `number`, made of the face of row `which` of `rows`."""
        generator = np.random.default_rng((self.settings.seed, 7, number))
        face = self.portrait(which)
        for _ in range(4):
            kind = str(generator.choice(self.kinds, p=self.weights))
            donor = None
            if kind in DONOR_EDITS:
                others = generator.integers(len(self.rows), size=CANDIDATES)
                others = others[others != which]
                near = ((self.looks[others] - self.looks[which]) ** 2).sum(1)
                donor = self.portrait(int(others[int(near.argmin())]))
            made = edited(face, donor, kind, generator)
            if made.mask.mean() >= MIN_MASK:
                break
        both, mask = _seen(face.pixels, made.pixels, made.mask.astype(np.float32), self.settings, generator)
        return Pair(both[0], both[1], mask, kind)


def _shape_of(store: Store, row: int) -> np.ndarray:
    """What donors are compared by: pose, from the landmarks, and the mean colour of the middle of the face."""
    marks = store.landmarks(row)
    assert marks is not None
    crop = store.pixels([row])[0]
    middle = crop[crop.shape[0] // 4 : -crop.shape[0] // 4, crop.shape[1] // 4 : -crop.shape[1] // 4]
    span = max(1.0, float(np.hypot(*(marks[1] - marks[0]))))
    nose = (marks[2] - (marks[0] + marks[1]) / 2) / span
    mouth = ((marks[3] + marks[4]) / 2 - (marks[0] + marks[1]) / 2) / span
    return np.array([3 * nose[0], nose[1], mouth[0], mouth[1], *(middle.mean((0, 1)) / 64)])


def _seen(
    picture: np.ndarray, forgery: np.ndarray, mask: np.ndarray, settings: PairSettings, generator: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Both pictures as the detective is to see them: cropped, mirrored, treated and scaled alike."""
    side = picture.shape[0]
    # Boxes of the face finder scatter.
    keep = round(side * generator.uniform(0.88, 1.0))
    x, y = (int(generator.integers(0, side - keep + 1)) for _ in range(2))
    both = [p[y : y + keep, x : x + keep] for p in (picture, forgery)]
    mask = mask[y : y + keep, x : x + keep]
    if generator.random() < 0.5:
        both, mask = [p[:, ::-1] for p in both], mask[:, ::-1]
    both, mask = [np.ascontiguousarray(p) for p in both], np.ascontiguousarray(mask)
    near = keep >= NEAR_CROP_SIDE and generator.random() < NEAR_SHARE
    if settings.treat:
        seed = (settings.seed, 8, int(generator.integers(2**62)))
        both = [treated(p, seed) for p in both]
    size = settings.size
    target = 2 * size if near else size
    shape = (target, target)
    both = [_resized(p, shape) for p in both]
    mask = _resized(mask, shape)
    if near:
        left, top = _window(mask, size, generator)
        both = [p[top : top + size, left : left + size] for p in both]
        mask = mask[top : top + size, left : left + size]
    cells = cv2.resize(mask, (size // settings.stride, size // settings.stride), interpolation=cv2.INTER_AREA)
    return both, cells.astype(np.float32)


def _window(mask: np.ndarray, size: int, generator: np.random.Generator) -> tuple[int, int]:
    """Left and top of a window that sees something of what was altered."""
    places = np.argwhere(mask > 0.5)
    free = mask.shape[0] - size
    if not len(places):
        return int(generator.integers(free + 1)), int(generator.integers(free + 1))
    y, x = places[int(generator.integers(len(places)))]
    left, top = (int(np.clip(v - generator.integers(size // 8, size * 7 // 8), 0, free)) for v in (x, y))
    return left, top


def _resized(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    method = cv2.INTER_AREA if values.shape[0] >= shape[0] else cv2.INTER_CUBIC
    return values if values.shape[:2] == shape else cv2.resize(values, shape, interpolation=method)
