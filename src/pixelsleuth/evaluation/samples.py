"""One scored picture of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pixelsleuth.evaluation.shortcuts import Probe
from pixelsleuth.records import Finding

#: Side at which maps and masks are compared, in pixels.
PIXEL_SIDE = 128


@dataclass
class ScoredSample:
    """One scored picture or video.

    Attributes:
        method: the way it was manipulated, where its tree tells.
        maps: (PIXEL_SIDE, PIXEL_SIDE) float32 each, over the whole input.
        compared: scores of the baselines that were asked for, by name.
    """

    path: Path
    anomalous: bool
    finding: Finding
    probe: Probe
    unit: str
    method: str = ""
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    compared: dict[str, float] = field(default_factory=dict)

    @property
    def has_face(self) -> bool:
        return bool(self.finding.faces)
