"""Measure the complexity of an image, and remove from a score what complexity explains.

Likelihood is confounded by complexity (Nalisnick et al. 2019; Serra et al. 2020): a blurred picture is more
likely than a sharp one. A score is adjusted by subtracting what a regression on normal training pictures
expects of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pixelsleuth.sources.images import encode_jpeg

#: Models fitted before colour was among them use the first four.
FEATURES = ("log_laplacian_variance", "log_jpeg_bytes", "log_contrast", "brightness", "colour")


def laplacian_variance(pixels: np.ndarray) -> float:
    """Variance of the 3x3 Laplacian of the luma of (H, W, 3) uint8: the usual measure of sharpness."""
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def jpeg_bytes(pixels: np.ndarray) -> int:
    """Bytes of (H, W, 3) uint8 as a JPEG of quality 90."""
    return len(encode_jpeg(pixels, 90))


def complexity(pixels: np.ndarray) -> np.ndarray:
    """The `FEATURES` of (H, W, 3) uint8, float64."""
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return np.array(
        [
            np.log(laplacian_variance(pixels) + 1.0),
            np.log(jpeg_bytes(pixels)),
            np.log(luma.std() + 1.0),
            luma.mean() / 255,
            float((pixels.max(2).astype(np.int16) - pixels.min(2)).mean()) / 64,
        ]
    )


@dataclass(frozen=True)
class Adjustment:
    """A least-squares fit of a score on the features, their squares and products, fitted on normal pictures.

    Attributes:
        mean, scale: (F,) of the features, to standardise them.
        weights: (1 + F + F (F + 1) / 2,) of the design's columns.
        spread: standard deviation of what the fit leaves.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    spread: float

    def __call__(self, score: np.ndarray, features: np.ndarray) -> np.ndarray:
        """(n,) scores and (n, F) features -> (n,) scores less what complexity explains, in units of spread."""
        features = features[:, : len(self.mean)]
        expected = _design((features - np.array(self.mean)) / np.array(self.scale)) @ np.array(self.weights)
        return (score - expected) / self.spread


def fit_adjustment(score: np.ndarray, features: np.ndarray) -> Adjustment:
    """Fit (n,) scores on (n, F) features. Raises ValueError with fewer pictures than twice the columns."""
    mean, scale = features.mean(0), features.std(0) + 1e-9
    design = _design((features - mean) / scale)
    if len(score) < 2 * design.shape[1]:
        raise ValueError(f"expected at least {2 * design.shape[1]} normal pictures to fit on, got {len(score)}")
    weights = np.linalg.lstsq(design, score, rcond=None)[0]
    spread = float((score - design @ weights).std()) + 1e-9
    return Adjustment(tuple(mean.tolist()), tuple(scale.tolist()), tuple(weights.tolist()), spread)


def _design(features: np.ndarray) -> np.ndarray:
    # Features far outside the training pictures' range would be extrapolated by a parabola.
    z = np.clip(features, -3.5, 3.5)
    count = z.shape[1]
    products = [z[:, i] * z[:, j] for i in range(count) for j in range(i, count)]
    return np.stack([np.ones(len(z)), *z.T, *products], axis=1)
