"""Whether a picture is like those of calibration in what is not content: a p-value says nothing of one that is not.

Each source of calibration pictures has a range in each trait. A picture lies as far outside a source as in the trait in
which it lies farthest, and as far outside all as from the source it is nearest to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelsleuth.sources.traits import TRAITS

#: Share of pictures like those of calibration that may be called unlike them.
RATE = 0.01
#: Fewest pictures to fit on: with fewer up to 2% of pictures like them would be called unlike.
FEWEST = 59
#: Quantiles of a trait between which a source's range has half-widths of 1.
QUANTILES = (0.05, 0.5, 0.95)
#: A source's half-width is at least this share of that of all sources together: of a small source it is not well known.
SHRUNK = 0.25
#: Parts that calibration pictures are divided into, so that none is measured against ranges it helped to find.
FOLDS = 5


@dataclass(frozen=True)
class Typicality:
    """Ranges of traits by source.

    Attributes:
        sources: k names.
        middle, below, above: (k, len(TRAITS)) float64, median and half-widths to both sides; not a number where no
            picture of the source has the trait.
        limit: how many half-widths from the middle a picture may lie.
    """

    sources: tuple[str, ...]
    middle: np.ndarray
    below: np.ndarray
    above: np.ndarray
    limit: float

    def outside(self, values: np.ndarray) -> np.ndarray:
        """(n, T) traits -> (n, k, T) half-widths from the middle of each source, negative below it; 0 where either is
        not known."""
        away = values[:, None] - self.middle
        return np.nan_to_num(away / np.where(away < 0, self.below, self.above), nan=0.0)

    def distance(self, values: np.ndarray) -> np.ndarray:
        """(n, T) -> (n,) half-widths from the nearest source, in the trait in which a picture lies farthest from it."""
        nearest: np.ndarray = np.abs(self.outside(values)).max(2).min(1)
        return nearest

    def reason(self, values: np.ndarray) -> dict[str, str] | None:
        """Why a picture of (T,) traits is unlike those of calibration, as a reason (code and sentence); else None."""
        outside = self.outside(values[None])[0]
        if np.abs(outside).max(1).min() <= self.limit:
            return None
        # The source from which it differs in the fewest traits explains it best.
        differing = (np.abs(outside) > self.limit).sum(1) + np.abs(outside).max(1) / (1 + np.abs(outside).max())
        nearest = int(differing.argmin())
        far = np.flatnonzero(np.abs(outside[nearest]) > self.limit).tolist()
        told = [self._told(number, float(values[number]), nearest) for number in far]
        others = f"least unlike those of {self.sources[nearest]}: " if len(self.sources) > 1 else ""
        return {
            "code": "unlike_calibration",
            "sentence": "the picture is unlike those that the model was calibrated on, so that p says little of it; "
            f"{others}{', '.join(told)}; calibrate on untouched pictures like it (`pixelsleuth calibrate MODEL "
            "--normal DIR --out NEW_MODEL`)",
        }

    def _told(self, number: int, value: float, source: int) -> str:
        trait = list(TRAITS.values())[number]
        middle, below, above = (float(part[source, number]) for part in (self.middle, self.below, self.above))
        word = trait.less if value < middle else trait.more
        if trait.told is None:
            return word
        low, high = middle - self.limit * below, middle + self.limit * above
        # What bounds it: of a value that is too low the lowest that is usual.
        bound = low if value < middle else high
        return f"{word} ({trait.told(value)}, there up to {trait.told(bound)})"

    def as_tree(self) -> dict[str, Any]:
        """As JSON has it: not a number is null."""

        def listed(values: np.ndarray) -> list[list[float | None]]:
            return [[None if math.isnan(v) else round(v, 6) for v in row] for row in values.tolist()]

        return {
            "traits": list(TRAITS),
            "sources": list(self.sources),
            "middle": listed(self.middle),
            "below": listed(self.below),
            "above": listed(self.above),
            "limit": self.limit,
        }


def typicality_from_tree(tree: dict[str, Any] | None) -> Typicality | None:
    """The inverse of `Typicality.as_tree`; None where there is none, or it holds other traits than this program
    measures. Raises KeyError naming a key that is missing."""
    if tree is None or list(tree["traits"]) != list(TRAITS):
        return None
    middle, below, above = (np.array(tree[key], np.float64) for key in ("middle", "below", "above"))
    return Typicality(tuple(tree["sources"]), middle, below, above, float(tree["limit"]))


def fit_typicality(values: np.ndarray, sources: np.ndarray) -> Typicality | None:
    """Ranges of (n, T) traits by source (n,), and the limit that `RATE` of pictures like them exceed; None with fewer
    than `FEWEST` pictures.

    Each picture's distance is taken from ranges of the other parts, and the limit ranks among n + 1, as a conformal
    p-value does.
    """
    count = len(values)
    if count < FEWEST:
        return None
    # Every source in every part alike.
    part = np.empty(count, int)
    for name in set(sources.tolist()):
        (here,) = np.nonzero(sources == name)
        part[here] = np.arange(len(here)) % FOLDS
    distance = np.empty(count)
    for number in range(FOLDS):
        held_out = part == number
        distance[held_out] = _ranges(values[~held_out], sources[~held_out]).distance(values[held_out])
    rank = min(count, math.ceil((1 - RATE) * (count + 1)))
    limit = max(1.0, float(np.sort(distance)[rank - 1]))
    found = _ranges(values, sources)
    return Typicality(found.sources, found.middle, found.below, found.above, limit)


def _ranges(values: np.ndarray, sources: np.ndarray) -> Typicality:
    names = sorted(set(sources.tolist()))
    least = np.array([trait.least for trait in TRAITS.values()])
    low, middle, high = _quantiles(values)
    floors = (np.fmax(SHRUNK * (middle - low), least), np.fmax(SHRUNK * (high - middle), least))
    of_each = np.stack([_quantiles(values[sources == name]) for name in names])
    below = np.where(np.isnan(of_each[:, 1]), np.nan, np.fmax(of_each[:, 1] - of_each[:, 0], floors[0]))
    above = np.where(np.isnan(of_each[:, 1]), np.nan, np.fmax(of_each[:, 2] - of_each[:, 1], floors[1]))
    return Typicality(tuple(names), of_each[:, 1], below, above, 0.0)


def _quantiles(values: np.ndarray) -> np.ndarray:
    """(n, T) -> (len(QUANTILES), T), of those that are known."""
    found = np.full((len(QUANTILES), values.shape[1]), np.nan)
    for number, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        if len(known):
            found[:, number] = np.quantile(known, QUANTILES)
    return found
