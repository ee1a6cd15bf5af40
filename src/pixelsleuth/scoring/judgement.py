"""From the p-values of faces and frames to those of tracks and inputs, and to verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pixelsleuth.records import Verdict

#: A re-encoding is tried only where p is within this factor of the rate.
NEAR_RATE = 3.0


@dataclass(frozen=True)
class Judgement:
    """One input's p-values and verdict. Made by `judgement`.

    Attributes:
        rate: what they are held against.
        p_looks: of each square, by track; p_tracks: of each track; p_value: of the input.
        verdicts: of each track; verdict: of the input; with its reason.
    """

    rate: float
    p_looks: Sequence[Sequence[float]]
    p_tracks: Sequence[float]
    p_value: float
    verdicts: Sequence[Verdict]
    verdict: Verdict
    reason: dict[str, str] | None = None

    @property
    def decisive(self) -> int:
        """Number of the most unusual track."""
        return int(np.argmin(self.p_tracks))

    @property
    def near(self) -> bool:
        """Whether any verdict could turn over under a mild re-encoding."""
        return any(_near(p, self.rate) for p in (self.p_value, *self.p_tracks))

    def doubted(self, again: Judgement, encoding: str) -> Judgement:
        """This judgement, with what turned over in `again`, the one of the re-encoded input, become `unsure`."""
        verdicts: list[Verdict] = [
            "unsure" if _turned(p, p_again, self.rate) else old
            for p, p_again, old in zip(self.p_tracks, again.p_tracks, self.verdicts, strict=True)
        ]
        if not _turned(self.p_value, again.p_value, self.rate):
            return replace(self, verdicts=verdicts)
        reason = {
            "code": "unstable",
            "sentence": f"p is {self.p_value:.3g}, but {again.p_value:.3g} after a mild re-encoding ({encoding}), "
            f"on the other side of {self.rate:g}",
        }
        return replace(self, verdicts=verdicts, verdict="unsure", reason=reason)


def judgement(p_looks: Sequence[Sequence[float]], kind: str, rate: float) -> Judgement:
    """Of the p-values of an input's squares, by track: a track has twice the mean over its frames, valid under any
    dependence (Vovk & Wang 2020); m faces or tracks have m times the smallest (Bonferroni)."""
    p_tracks = [min(1.0, 2 * float(np.mean(ps))) if kind == "video" else ps[0] for ps in p_looks]
    p_value = min(1.0, len(p_tracks) * min(p_tracks))
    verdicts: list[Verdict] = ["anomalous" if p <= rate else "normal" for p in (*p_tracks, p_value)]
    return Judgement(rate, p_looks, p_tracks, p_value, verdicts[:-1], verdicts[-1])


def _near(p: float, rate: float) -> bool:
    return rate / NEAR_RATE <= p <= rate * NEAR_RATE


def _turned(p: float, again: float, rate: float) -> bool:
    return _near(p, rate) and (again <= rate) != (p <= rate)
