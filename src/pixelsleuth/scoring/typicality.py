"""Test whether an image or a scan resembles the calibration's in traits other than its content: a p-value says nothing
about one that does not.

Each source of calibration images has a range in each trait. The distance from a source is the largest over traits, that
from all sources the smallest over them. Of scans there are too few for shares of them to be counted: a trait's range is
where a normal distribution would have the next scan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pixelsleuth.scoring.scanlooks import SCAN_TRAITS
from pixelsleuth.sources.traits import TRAITS, Trait

#: Share of pictures like those of calibration that may be called unlike them.
RATE = 0.01
#: Smallest number of images to fit on: with fewer, up to 2% of images like them would be called unlike.
MIN_IMAGES = 59
#: Quantiles of a trait between which a source's range has half-widths of 1.
QUANTILES = (0.05, 0.5, 0.95)
#: A source's half-width is at least this share of that of all sources together: of a small source it is not well known.
SHRUNK = 0.25
#: Parts that calibration pictures are divided into, so that none is measured against ranges it helped to find.
FOLDS = 5
#: Smallest number of scans that a trait's range is taken from; with fewer the trait is ignored.
MIN_SCANS = 5
#: Largest number of differences that a scan's sentence names.
MAX_NAMED = 4
#: A scan whose values lie this many times as far out as their range reaches is of another kind altogether.
FAR = 1.5
#: Traits of a scan's values. By its grid alone, which resampling changes, no scan is of another kind.
OF_VALUES = ("levels", "dark_tail", "bright_tail", "skew", "neighbours", "likeness")


@dataclass(frozen=True)
class Typicality:
    """Ranges of traits by source.

    Attributes:
        sources: k names.
        middle, below, above: (k, T) float64, median and half-widths to both sides; not a number where no
            picture of the source has the trait.
        limit: how many half-widths from the middle a picture may lie.
        traits: by name, `TRAITS` of pictures or `SCAN_TRAITS`.
    """

    sources: tuple[str, ...]
    middle: np.ndarray
    below: np.ndarray
    above: np.ndarray
    limit: float
    traits: Mapping[str, Trait] = field(default_factory=lambda: TRAITS)

    @property
    def of_scans(self) -> bool:
        return self.traits is SCAN_TRAITS

    def outside(self, values: np.ndarray) -> np.ndarray:
        """(n, T) traits -> (n, k, T) half-widths from the middle of each source, negative below it; 0 where either is
        not known."""
        away = values[:, None] - self.middle
        return np.nan_to_num(away / np.where(away < 0, self.below, self.above), nan=0.0)

    def distance(self, values: np.ndarray) -> np.ndarray:
        """(n, T) -> (n,) half-widths from the nearest source, in the trait in which a picture lies farthest from it."""
        nearest: np.ndarray = np.abs(self.outside(values)).max(2).min(1)
        return nearest

    def far(self, values: np.ndarray) -> bool:
        """Whether a scan of (T,) traits is of another kind altogether, by its values."""
        of_values = [number for number, name in enumerate(self.traits) if name in OF_VALUES]
        away = np.abs(self.outside(values[None])[0])[:, of_values]
        return bool(away.max(1).min() > FAR * self.limit)

    def reason(self, values: np.ndarray) -> dict[str, str] | None:
        """Why a picture of (T,) traits is unlike those of calibration, as a reason (code and sentence); else None."""
        outside = self.outside(values[None])[0]
        if np.abs(outside).max(1).min() <= self.limit:
            return None
        # The source from which it differs in the fewest traits explains it best.
        differing = (np.abs(outside) > self.limit).sum(1) + np.abs(outside).max(1) / (1 + np.abs(outside).max())
        nearest = int(differing.argmin())
        far = np.flatnonzero(np.abs(outside[nearest]) > self.limit)
        far = far[np.argsort(-np.abs(outside[nearest][far]), kind="stable")] if self.of_scans else far
        told = [self._told(number, float(values[number]), nearest) for number in far.tolist()]
        others = f"least unlike those of {self.sources[nearest]}: " if len(self.sources) > 1 else ""
        if self.of_scans:
            return {"code": "unlike_calibration", "sentence": _of_a_scan(told)}
        return {
            "code": "unlike_calibration",
            "sentence": "the picture is unlike those that the model was calibrated on, so p says little about it; "
            f"{others}{', '.join(told)}; calibrate on untouched pictures like it (`pixelsleuth calibrate MODEL "
            "--normal DIR --out NEW_MODEL`)",
        }

    def _told(self, number: int, value: float, source: int) -> str:
        trait = list(self.traits.values())[number]
        middle, below, above = (float(part[source, number]) for part in (self.middle, self.below, self.above))
        word = trait.less if value < middle else trait.more
        if trait.told is None:
            return word
        low, high = middle - self.limit * below, middle + self.limit * above
        # What bounds it: of a value that is too low the lowest that is usual.
        bound = low if value < middle else high
        usual = "there up to"
        if self.of_scans:
            usual = "in calibration at least" if value < middle else "in calibration at most"
        return f"{word} ({trait.told(value)}, {usual} {trait.told(bound)})"

    def as_tree(self) -> dict[str, Any]:
        """As JSON has it: not a number is null."""

        def listed(values: np.ndarray) -> list[list[float | None]]:
            return [[None if math.isnan(v) else round(v, 6) for v in row] for row in values.tolist()]

        return {
            "traits": list(self.traits),
            "sources": list(self.sources),
            "middle": listed(self.middle),
            "below": listed(self.below),
            "above": listed(self.above),
            "limit": self.limit,
        }


def typicality_from_tree(tree: dict[str, Any] | None) -> Typicality | None:
    """The inverse of `Typicality.as_tree`; None where there is none, or it holds other traits than this program
    measures. Raises KeyError naming a key that is missing."""
    known = [traits for traits in (TRAITS, SCAN_TRAITS) if tree is not None and list(tree["traits"]) == list(traits)]
    if tree is None or not known:
        return None
    middle, below, above = (np.array(tree[key], np.float64) for key in ("middle", "below", "above"))
    return Typicality(tuple(tree["sources"]), middle, below, above, float(tree["limit"]), known[0])


def fit_typicality(values: np.ndarray, sources: np.ndarray) -> Typicality | None:
    """Ranges of (n, T) traits by source (n,), and the limit that `RATE` of pictures like them exceed; None with fewer
    than `MIN_IMAGES` pictures.

    Each picture's distance is taken from ranges of the other parts, and the limit ranks among n + 1, as a conformal
    p-value does.
    """
    count = len(values)
    if count < MIN_IMAGES:
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


def fit_scan_typicality(values: np.ndarray, rate: float = RATE) -> Typicality:
    """Ranges of (n, T) traits of normal scans, not a number where a scan has no such trait.

    A range is the prediction interval of a normal distribution for one more scan, m +- t s sqrt(1 + 1 / n) (Hahn and
    Meeker 1991, eq. 4.7), divided among the traits by Bonferroni: at most `rate` of scans like these leave any of
    them, where traits are normal. With ten scans t is 5, with fifty 3.7: what is less known has more room.
    """
    # Takes a third of a second to import, and judging needs none of it.
    from scipy import stats

    count = np.isfinite(values).sum(0)
    known = count >= MIN_SCANS
    middle, half = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    n = count[known]
    middle[known] = np.nanmean(values[:, known], 0)
    spread = np.nanstd(values[:, known], 0, ddof=1)
    quantile = stats.t.ppf(1 - rate / (2 * values.shape[1]), n - 1)
    least = np.array([trait.least for trait in SCAN_TRAITS.values()])
    half[known] = np.maximum(quantile * spread * np.sqrt(1 + 1 / n), least[known])
    return Typicality(("",), middle[None], half[None], half[None], 1.0, SCAN_TRAITS)


def _of_a_scan(told: list[str]) -> str:
    """The sentence for a scan, what differs most first."""
    more = f" and {len(told) - MAX_NAMED} more" if len(told) > MAX_NAMED else ""
    return (
        "the scan is not prepared like those that the model was calibrated on, so its score says nothing about what is "
        f"in it: {', '.join(told[:MAX_NAMED])}{more}; make a model of your own normal scans (`pixelsleuth train "
        "SCANS_FOLDER MY_MODEL`)"
    )


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
