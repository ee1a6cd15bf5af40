"""Find the file from which on a folder's images no longer look like the calibration images: a conformal test
martingale.

Each picture is ranked among those of calibration and the ones before it, ties broken at random: while all are
exchangeable, these p-values are independent and uniform (Vovk, Gammerman & Shafer 2005). Bets against that multiply a
capital of 1, which reaches 1 / rate in no more than a share `rate` of all folders (Ville's inequality); it grows where
pictures of another kind come in. A bet that begins with each of the N pictures, for 1 / N of the capital, is as quick
after a late change as after an early one (Shiryaev-Roberts, as in Vovk, Petej, Nouretdinov, Ahlberg, Carlsson &
Gammerman 2021, here with a prior over the N beginnings so that the rate is that of a whole folder).

Altered pictures that are found are no drift. Bets are laid on p-values above `ALARMING` alone, spread over (0, 1]
again, where they are still independent and uniform; and on p-values at or below it being more than they are where
`MAX_ALTERED` of the pictures are altered and found: then either another kind of picture came in, or most are altered,
and nothing tells which.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: Share of folders like the calibration that may be called drifting.
RATE = 0.01
#: p-values at or below it may be those of altered pictures.
ALARMING = 0.1
#: Largest share of altered images that does not count as drift.
MAX_ALTERED = 0.5
#: How strongly is bet, from hardly to all but everything: a bet multiplies by 1 + strength x gain.
STRENGTHS = (0.1, 0.2, 0.4, 0.8)

#: What bets are laid on: that pictures are more unusual than those of calibration, or less, each among those that do
#: not alarm; or that most alarm.
Bet = Literal["more", "less", "alarming"]


@dataclass(frozen=True)
class Drift:
    """A part of a folder that is unlike the calibration.

    Attributes:
        first, last: numbers of its first and its last picture, in the order given, as far as can be told.
        seen: number of the picture with which it was sure.
        bet: which won.
        capital: largest that the bets reached; a share 1 / capital of folders like the calibration reaches it.
    """

    first: int
    last: int
    seen: int
    bet: Bet
    capital: float


def smoothed_p(calibration: Sequence[float] | np.ndarray, scores: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """(m,) p-values in (0, 1] of pictures in order, each among the n of calibration and those before it.

    Args:
        calibration: (n,) ascending scores.
        scores: (m,); ties: (m,) in (0, 1], which of equal scores comes first, drawn by chance.

    >>> smoothed_p([1.0, 2.0, 3.0], np.array([2.5, 0.0]), np.array([0.5, 0.5])).tolist()
    [0.375, 0.9]
    """
    pool = [float(one) for one in calibration]
    found = np.empty(len(scores))
    for number, (score, tie) in enumerate(zip(scores.tolist(), ties.tolist(), strict=True)):
        low, high = bisect_left(pool, score), bisect_right(pool, score)
        found[number] = (len(pool) - high + tie * (high - low + 1)) / (len(pool) + 1)
        insort(pool, score)
    return found


def gains_of(p: np.ndarray) -> dict[Bet, np.ndarray]:
    """Gain of each bet on (m,) p-values, (m,) in [-1, 1]: on average 0 or less where nothing drifts."""
    alarming = p <= ALARMING
    spread = np.where(alarming, 0.5, (p - ALARMING) / (1 - ALARMING))
    expected = MAX_ALTERED + ALARMING * (1 - MAX_ALTERED)
    return {
        "more": 1 - 2 * spread,
        "less": 2 * spread - 1,
        "alarming": (alarming - expected) / max(expected, 1 - expected),
    }


def capitals_of(gains: np.ndarray) -> np.ndarray:
    """(bets, m) gains -> (bets, m) the capital after each picture: the mean over strengths and over beginnings."""
    bets, count = gains.shape
    running, found = np.zeros((bets, len(STRENGTHS))), np.empty((bets, count))
    factors = 1 + gains.T[:, :, None] * np.array(STRENGTHS)
    with np.errstate(over="ignore"):
        for number in range(count):
            # What was laid since each beginning has become this; what is still to be laid is kept.
            running = (running + 1) * factors[number]
            found[:, number] = (running.mean(1) + count - number - 1) / count
    return found


def drift_of(p: np.ndarray, rate: float = RATE) -> Drift | None:
    """The part of a folder in which (m,) p-values, as `smoothed_p` gives them, leave the uniform distribution; None
    where they do not. At most a share `rate` of folders that are exchangeable with the calibration has one."""
    gains = gains_of(p)
    capitals = capitals_of(np.stack(list(gains.values())))
    sure = capitals.mean(0) >= 1 / rate
    if not sure.any():
        return None
    seen = int(np.argmax(sure))
    bet = list(gains)[int(np.argmax(capitals[:, seen]))]
    first, last = _stretch(gains[bet])
    return Drift(first, last, seen, bet, float(capitals.mean(0).max()))


def _stretch(gains: np.ndarray) -> tuple[int, int]:
    """First and last of the stretch in which the bets of one strength won most."""
    best, place = -np.inf, (0, 0)
    for strength in STRENGTHS:
        total = np.concatenate([[0.0], np.cumsum(np.log1p(strength * gains))])
        won = total - np.minimum.accumulate(total)
        end = int(np.argmax(won))
        if won[end] > best:
            best, place = float(won[end]), (int(np.argmin(total[: end + 1])), end - 1)
    return place
