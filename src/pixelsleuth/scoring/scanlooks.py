"""Traits of a scan other than its content: those of its file, and how it looks to a model of its kind."""

from __future__ import annotations

import numpy as np

from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.sources.scans.scantraits import BEST_QUANTILE, INPUT_TRAITS, correlation, looked_at
from pixelsleuth.sources.traits import Trait

MODEL_TRAITS = {
    "likeness": Trait(
        "it looks less like the model's mean scan (turned, or another sequence or part of the body)",
        "it looks more like the model's mean scan", 0.12, lambda v: f"{v:.2f}",
    ),
    "error": Trait("the model draws it more closely", "the model cannot draw it", 0.7),
    "surprise": Trait("the model finds it plainer", "the model finds all of it strange", 0.5),
}  # fmt: skip
SCAN_TRAITS = INPUT_TRAITS | MODEL_TRAITS


def model_traits(
    pixels: np.ndarray, inside: np.ndarray, position: np.ndarray, atlas: Atlas | None, nll: np.ndarray,
    residual: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """(len(MODEL_TRAITS),) float64 of one volume, of its best slices, so that lesions in the others hardly count.

    Args:
        pixels, inside, position: of its slices, as `Slices` has them.
        nll: (n,) mean negative log-likelihood of each slice's codes in nats.
        residual: (n, H, W) what is left between the slices and what the VQ-VAE makes of them, 0 outside the head.
    """
    numbers = looked_at(inside)
    within = inside[numbers]
    likeness = float("nan")
    if atlas is not None:
        usual, _ = atlas.expected(position[numbers], (pixels.shape[1], pixels.shape[2]))
        shown = pixels[numbers, ..., 0].astype(np.float32) / 255
        likeness = float(
            np.nanquantile([correlation(one, other) for one, other in zip(shown, usual, strict=True)], BEST_QUANTILE)
        )
    error = np.array([one[there].mean() for one, there in zip(residual[numbers], within, strict=True)])
    return np.array(
        [likeness, np.log2(np.quantile(error, 1 - BEST_QUANTILE) + 1e-5), np.quantile(nll[numbers], 1 - BEST_QUANTILE)]
    )
