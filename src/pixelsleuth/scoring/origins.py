"""p-values where normal images come from several sources (cameras, sites, data sets).

What recurs is the source, not the picture: pictures of one source are exchangeable with each other, sources with each
other, and no more is assumed. Then two p-values hold, each promising another thing.

- `any_source_p`, the largest over the sources: at most a share `rate` of the pictures of *each* calibration source has
  it at or below `rate`, and the same is so in at least k of k + 1 sources that were never seen.
- `new_source_p` (Lee, Barber & Willett 2023; Dunn, Wasserman & Ramdas 2022): at most a share `rate` of the pictures of
  sources never seen, one picture each, has it at or below `rate`. It is never below 1 / (k + 1): of k sources as many
  as 1 in k + 1 further ones may lie above them all, and nothing in their scores can exclude it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np

from pixelsleuth.errors import CalibrationError
from pixelsleuth.records import Promise

PROMISES: tuple[Promise, ...] = get_args(Promise)


def conformal_p(ascending: np.ndarray, score: float) -> float:
    """(1 + #{s_i >= s}) / (n + 1).

    >>> conformal_p(np.array([1.0, 2.0, 3.0]), 2.0)
    0.75
    """
    if math.isnan(score):
        raise ValueError("score is not a number")
    return (1 + len(ascending) - int(np.searchsorted(ascending, score, "left"))) / (len(ascending) + 1)


def border_of(ascending: np.ndarray, rate: float) -> float | None:
    """The score above which, and only above which, `conformal_p` is `rate` or less; None where no score reaches that.

    >>> border_of(np.arange(1.0, 20.0), 0.1), border_of(np.arange(1.0, 20.0), 0.04)
    (18.0, None)
    """
    count = len(ascending)
    # k = floor(rate (n + 1)), counted as p is held against the rate: a product would round otherwise.
    reached = int(np.searchsorted(np.arange(1, count + 1) / (count + 1), rate, "right"))
    return float(ascending[count - reached]) if reached else None


def any_source_p(groups: Sequence[np.ndarray], score: float) -> float:
    """The largest of the p-values among each source's ascending scores.

    >>> any_source_p([np.array([1.0, 2.0, 3.0]), np.array([3.0])], 2.5)
    1.0
    """
    return max(conformal_p(group, score) for group in groups)


def new_source_p(groups: Sequence[np.ndarray], score: float) -> float:
    """(1 + sum over k sources of their share at or above s) / (k + 1), of each source's ascending scores.

    >>> new_source_p([np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0])], 2.5)
    0.8333333333333334
    """
    if math.isnan(score):
        raise ValueError("score is not a number")
    shares = [1 - np.searchsorted(group, score, "left") / len(group) for group in groups]
    return float((1 + sum(shares)) / (len(groups) + 1))


def fewest(rate: float) -> int:
    """Number of exchangeable images, or sources, that a rate needs, so that any could reach p <= rate.

    >>> [fewest(rate) for rate in (0.1, 0.05, 0.01)]
    [9, 19, 99]
    """
    return math.ceil(1 / rate - 1 - 1e-9)


def least_rate(counts: Sequence[int], promise: Promise) -> float:
    """The lowest rate that calibration pictures, `counts` of each source, can promise."""
    if promise == "new-source":
        return 1 / (len(counts) + 1)
    return 1 / ((min(counts) if promise == "any-source" else sum(counts)) + 1)


def check_promise(names: Sequence[str], counts: Sequence[int], promise: Promise, rate: float) -> None:
    """Raise CalibrationError where no picture could reach p <= rate, with what would be needed."""
    if promise != "calibration" and not counts:
        raise CalibrationError(
            f"{promise} needs to know which source each calibration image comes from, which this model's calibration "
            "does not say; run `pixelsleuth calibrate` again",
            "promise",
        )
    needed = fewest(rate)
    # Rounded up: what is offered must not be refused.
    offered = math.ceil(least_rate(counts, promise) * 1e4 - 1e-9) / 1e4
    if promise == "new-source" and len(counts) < needed:
        raise CalibrationError(
            f"new-source at a rate of {rate:g} needs at least {needed} calibration sources, this model has "
            f"{len(counts)}; ask for a rate of {offered:g} or above, or calibrate on images of the new source",
            "promise",
        )
    if promise == "any-source" and min(counts) < needed:
        name = names[int(np.argmin(counts))]
        raise CalibrationError(
            f"any-source at a rate of {rate:g} needs at least {needed} calibration images of each source, {name} has "
            f"{min(counts)}; ask for a rate of {offered:g} or above, or calibrate with more of it",
            "promise",
        )
