"""Select among many p-values so that few of those named are wrong, and bound from below how many alarms are right.

Conformal p-values that share one calibration set depend on each other, positively (PRDS on the normal inputs: Bates,
Candes, Lei, Romano & Sesia 2023). Both methods here hold under that dependence, whatever the other inputs are; neither
holds where the normal inputs are not exchangeable with those of calibration, as those of another camera are not.
"""

from __future__ import annotations

import numpy as np

#: With which the bound on false alarms holds.
CONFIDENCE = 0.95
#: Above which p-values are counted to tell the share of normal inputs (Storey 2002).
STOREY_FROM = 0.5


def q_values(p: np.ndarray, normal_share: float = 1.0) -> np.ndarray:
    """(m,) p-values -> (m,) q-values: naming those with q <= rate keeps the false discovery rate, the expected share of
    normal inputs among those named, at or below `rate` (Benjamini & Hochberg 1995).

    Args:
        normal_share: at most this share of the inputs is normal; see `storey_share`.

    >>> q_values(np.array([0.01, 0.5, 0.02, 0.9])).round(3).tolist()
    [0.04, 0.667, 0.04, 0.9]
    """
    # Takes a third of a second to import, and judging needs none of it.
    from scipy import stats

    if not len(p):
        return np.zeros(0)
    found: np.ndarray = np.minimum(1.0, normal_share * stats.false_discovery_control(p, method="bh"))
    return found


def storey_share(p: np.ndarray) -> float:
    """At most this share of the inputs is normal: (1 + #{p > .5}) / (m (1 - .5)), no more than 1 (Storey, Taylor &
    Siegmund 2004). That naming by q-values times it keeps the rate is proven for independent p-values."""
    return min(1.0, (1 + int((p > STOREY_FROM).sum())) / (max(len(p), 1) * (1 - STOREY_FROM)))


def fewest_named(inputs: int, calibration: int, rate: float) -> int:
    """Number of inputs that must be as unusual as possible before one of them is named: no p is below 1 / (n + 1).

    >>> fewest_named(200, 1573, 0.05), fewest_named(2000, 1573, 0.05)
    (3, 26)
    """
    return int(np.ceil(inputs / (rate * (calibration + 1)) - 1e-9))


def hommel_count(p: np.ndarray, level: float) -> int:
    """The largest number of inputs that could all be normal: of those with the largest p-values as many as the test of
    Simes at `level` does not reject together (Hommel 1988; the h of Goeman, Meijer, Krebs & Solari 2019)."""
    ascending = np.sort(p)

    def rejected(count: int) -> bool:
        steps = np.arange(1, count + 1) * level / count
        return bool((ascending[len(p) - count :] <= steps).any())

    # Whoever rejects some rejects more of them, too, so that the border is found by halving.
    low, high = 0, len(p)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if rejected(middle) else (middle, high)
    return low


def right_at_least(p: np.ndarray, named: np.ndarray, confidence: float = CONFIDENCE) -> int:
    """Lower bound, with this confidence, on how many of the inputs that are `named`, (m,) bool, are not normal.

    It holds for every choice at once, also for one made after looking at the p-values: closed testing with the test of
    Simes (Goeman & Solari 2011; Goeman, Meijer, Krebs & Solari 2019), where at most
    min over k of (k - 1 + #{named with p > k level / h}) of the named are normal (Blanchard, Neuvial & Roquain 2020,
    with h for m).

    >>> p = np.array([0.0001, 0.0002, 0.0003, 0.04, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9])
    >>> right_at_least(p, p <= 0.05), right_at_least(p, p > 0.05)
    (3, 0)
    """
    level, chosen = 1 - confidence, np.sort(p[named])
    normal_at_most = hommel_count(p, level)
    if not len(chosen) or not normal_at_most:
        return len(chosen)
    k = np.arange(1, len(chosen) + 1)
    # Above each step; one that lies on it is below it.
    above = len(chosen) - np.searchsorted(chosen, k * level / normal_at_most * (1 + 1e-12), "right")
    wrong = min(int((above + k - 1).min()), len(chosen), normal_at_most)
    return len(chosen) - wrong
