"""The random numbers of restorations, the same in any batch and whatever runs the networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def uniforms(keys: Sequence[str], restorations: int, grid: tuple[int, int]) -> np.ndarray:
    """(B, S, h, w) float64 in [0, 1), keyed by an image's SHA-256 in hexadecimal, restoration and place, so that a
    restoration is the same in any batch. Philox: Salmon et al. 2011."""
    return np.stack(
        [np.random.Generator(np.random.Philox(key=int(key[:32], 16))).random((restorations, *grid)) for key in keys]
    )
