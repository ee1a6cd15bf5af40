"""Report the progress of a video or a volume while it is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["reading", "judging", "mapping"]

#: Share of the work that each stage is, in their order: seconds of 1 CPU core for videos of one person, and for scans.
SHARES: dict[str, dict[Stage, float]] = {
    "video": {"reading": 0.4, "judging": 0.4, "mapping": 0.2},
    "volume": {"reading": 0.05, "judging": 0.95},
}


@dataclass(frozen=True)
class Step:
    """One input and how far it has come in one stage.

    Attributes:
        path: as it was given.
        kind: `video` or `volume`; a picture takes too little time for steps.
        done, total: frames or slices; `done` of them are behind.
    """

    path: str
    kind: str
    stage: Stage
    done: int
    total: int

    @property
    def share(self) -> float:
        """Share of the work on this input that is done, in [0, 1]."""
        before = 0.0
        for stage, share in SHARES[self.kind].items():
            if stage == self.stage:
                return before + share * self.done / max(1, self.total)
            before += share
        return before


#: Gets each step as it is taken, also from threads that read ahead; it must be quick and raise nothing.
Progress = Callable[[Step], None]


def unheard(step: Step) -> None:
    """Ignore progress."""
