"""Traces of saving and editing that analysts look at by eye, as scores: error level, JPEG ghost, noise residual.

Each trace is averaged in a grid of cells, taken relative to the rest of its crop, and compared place by place with the
normal crops: what stands out is a cell that differs from the crop around it by more than normal cells at that place do.
Papers: Krawetz 2007 (error level), Farid 2009 (ghosts), Mahdian & Saic 2009 (noise consistency).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pixelsleuth.baselines.baseline import Compared, ComparedCrop
from pixelsleuth.evidence import traces

#: Cells in each direction, and the share of them, the most unusual ones, that a score is the mean of.
CELLS = 16
TOP = 0.05


class TraceBaseline:
    """One trace, by its name in `TRACES`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.middle = np.zeros((CELLS, CELLS))
        self.spread = np.ones((CELLS, CELLS))

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        levels = np.stack([self._levels(crop) for crop in crops])
        self.middle, self.spread = np.median(levels, 0), levels.std(0) + 1e-3

    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        z = np.abs(np.stack([self._levels(crop) for crop in crops]) - self.middle) / self.spread
        count = max(1, round(TOP * CELLS**2))
        scores = np.sort(z.reshape(len(z), -1), axis=1)[:, -count:].mean(1)
        return Compared({self.name: scores}, {self.name: z.astype(np.float32)})

    def _levels(self, crop: ComparedCrop) -> np.ndarray:
        """(CELLS, CELLS) float64, the trace's level in each cell, less the crop's median."""
        levels = TRACES[self.name](crop.native)
        cells = cv2.resize(levels.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.float64)
        return cells - np.median(cells)


def _error_level(pixels: np.ndarray) -> np.ndarray:
    return np.log1p(traces.error_level(pixels).astype(np.float32).mean(2))


def _ghost(pixels: np.ndarray) -> np.ndarray:
    return traces.ghost(pixels)[0]


def _noise(pixels: np.ndarray) -> np.ndarray:
    """Log of the mean absolute noise residual around each pixel."""
    residual = np.abs(traces.noise(pixels).astype(np.float32) - 128)
    return np.log1p(cv2.blur(residual, (9, 9)))


TRACES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "error_level": _error_level,
    "jpeg_ghost": _ghost,
    "noise_residual": _noise,
}
