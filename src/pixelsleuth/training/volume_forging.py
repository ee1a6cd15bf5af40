"""Paste anomalies into healthy slices of training patients, each paired with the original slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pixelsleuth.datasets.store import Store
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.sources.scans.slices import MAX_Z, MIN_Z
from pixelsleuth.synthesis.lesions import drawn, made_anomalous
from pixelsleuth.training.forging import Forged

#: Largest difference in position of the slice that a foreign patch comes from.
MAX_POSITION_GAP = 0.1
#: Share of forgeries that get a second anomaly.
SECOND = 0.3
#: Draws of an anomaly before a slice is passed over: some, of the crown, have no place for one.
TRIES = 3


def forge_slices(
    store: Store,
    rows: np.ndarray,
    pairs: int,
    kinds: tuple[str, ...],
    seed: int,
    sign: int = 0,
    atlas: Atlas | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Forged:
    """Make `pairs` forgeries of slices of `rows`, each view slightly different, with one or two anomalies; the same for
    the same seed.

    Args:
        kinds: of synthesis.lesions.KINDS, drawn evenly.
        sign: 1: what is shifted or constant is brighter, -1: darker, 0: either.
        atlas: also give standard scores against it, seen in the same way as the slice.
    """
    size = store.size
    position = store.table["position"]
    pixels = np.zeros((pairs, 2, size, size, 1), np.uint8)
    mask = np.zeros((pairs, size, size), bool)
    usual = np.zeros(pixels.shape, np.float16) if atlas is not None else None
    chosen, number, at = np.zeros(pairs, int), 0, 0
    while at < pairs:
        generator = np.random.default_rng((seed, number))
        row = int(rows[number % len(rows)])
        number += 1
        near = rows[np.abs(position[rows] - position[row]) <= MAX_POSITION_GAP]
        donor = int(near[int(generator.integers(len(near)))])
        view = _View.drawn(size, generator)
        healthy, inside = view.of_slice(store.pixels([row])[0, ..., 0], store.inside([row])[0])
        foreign = _standard(store.pixels([donor])[0][..., 0])
        found = _with_anomalies(_standard(healthy), inside, kinds, sign, foreign, generator)
        if found is None:
            if number > 20 * pairs:
                raise ValueError("no slice has a place for an anomaly; are the heads' masks empty?")
            continue
        altered, where = found
        pixels[at, 0, ..., 0], pixels[at, 1, ..., 0] = healthy, _grey(altered)
        mask[at], chosen[at] = where, row
        if atlas is not None and usual is not None:
            mean, spread = (view.moved(e[0]) for e in atlas.expected(position[[row]], (size, size)))
            usual[at] = ((pixels[at, ..., 0] / 255 - mean) / spread)[..., None]
        at += 1
        progress(at, pairs)
    scalars = position[chosen].astype(np.float32)[:, None]
    return Forged(pixels, mask, np.array(["scan"] * pairs), scalars, usual=usual)


def _with_anomalies(
    values: np.ndarray, inside: np.ndarray, kinds: tuple[str, ...], sign: int, donor: np.ndarray,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray] | None:  # fmt: skip
    where = np.zeros(inside.shape, bool)
    for _ in range(2 if generator.random() < SECOND else 1):
        for _ in range(TRIES):
            try:
                values, mask = made_anomalous(values, inside, drawn(kinds, generator, sign), generator, donor)
            except ValueError:
                continue
            where |= mask
            break
    return (values, where) if where.any() else None


@dataclass(frozen=True)
class _View:
    """A slice turned, scaled and lit a little differently; scans are few.

    Attributes:
        move: (2, 3) affine map from the slice to the view, in pixels.
        contrast: about the head's mean; brightness: grey levels.
    """

    move: np.ndarray
    contrast: float
    brightness: float

    @classmethod
    def drawn(cls, size: int, generator: np.random.Generator) -> _View:
        move = cv2.getRotationMatrix2D((size / 2, size / 2), generator.uniform(-8, 8), generator.uniform(0.92, 1.08))
        move[:, 2] += generator.uniform(-0.03, 0.03, 2) * size
        return cls(move, float(generator.uniform(0.9, 1.1)), float(generator.uniform(-6, 6)))

    def of_slice(self, pixels: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(size, size) uint8 and bool -> the same of the view."""
        turned = self.moved(pixels)
        head = cv2.warpAffine(inside.astype(np.uint8), self.move, inside.shape[::-1], flags=cv2.INTER_NEAREST)
        middle = float(turned[head > 0].mean()) if head.any() else 0.0
        lit = (turned - middle) * self.contrast + middle + self.brightness
        return np.clip(np.rint(lit), 0, 255).astype(np.uint8), head > 0

    def moved(self, values: np.ndarray) -> np.ndarray:
        """(size, size) -> (size, size) float32, moved but not lit."""
        moved = cv2.warpAffine(
            values.astype(np.float32), self.move, values.shape[::-1], borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(moved, np.float32)


def _standard(pixels: np.ndarray) -> np.ndarray:
    """Grey levels as standard scores."""
    return pixels.astype(np.float32) * ((MAX_Z - MIN_Z) / 255) + MIN_Z


def _grey(values: np.ndarray) -> np.ndarray:
    """Standard scores as grey levels."""
    return np.clip(np.rint((values - MIN_Z) * (255 / (MAX_Z - MIN_Z))), 0, 255).astype(np.uint8)
