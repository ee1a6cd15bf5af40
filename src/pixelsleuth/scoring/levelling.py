"""Level the scores of images from different origins.

What normal images score depends on how they look: film grain, upscaling, a phone's smoothing. Ranked together, those of
the origins that score highest hide everything that is unusual among the others. A levelled score is the score less what
a normal image that looks like this one would be expected to score, over how far normal images that look like it lie
from that (normalised nonconformity: Papadopoulos et al. 2008; Lei et al. 2018, section 5.2). How an image looks is what
the detective's trunk makes of it in its first layers, which a local edit hardly moves. Both expectations are ridge
regressions, fitted on calibration images. Of these themselves each is levelled by a fit on the other parts, so that
ranks stay those of images that the fit has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: The name of the levelled score.
LEVELLED = "levelled"
#: Principal components of the appearance that are regressed on; chosen on validation images (LOG.md).
COMPONENTS = 60
#: Standard deviations beyond which a component is cut off: a line must not be drawn far beyond the images it is from.
LIMIT = 3.0
#: Strengths of the ridge, in images: of the score, and of its spread, which is known less well.
RIDGE, SPREAD_RIDGE = 30.0, 90.0
#: Added to a residual before its logarithm is regressed on, in units of the score.
EPSILON = 0.1
#: Parts that calibration images are divided into.
FOLDS = 5
#: Smallest number of images, of two sources or more, to fit on: fewer would leave no degrees of freedom.
MIN_IMAGES = 500


@dataclass(frozen=True)
class Levelling:
    """The dependence of a score on the appearance of normal images.

    Attributes:
        mean: (F,) float64 of the appearance; components: (F, COMPONENTS) float64, to standardised components.
        weights, spread_weights: (1 + COMPONENTS,) float64, of a constant and of each component.
    """

    mean: np.ndarray
    components: np.ndarray
    weights: np.ndarray
    spread_weights: np.ndarray

    def __call__(self, score: np.ndarray, appearance: np.ndarray) -> np.ndarray:
        """(n,) scores and (n, F) appearance -> (n,) float64 levelled scores."""
        design = _design(appearance, self.mean, self.components)
        levelled: np.ndarray = (score - design @ self.weights) / np.exp(design @ self.spread_weights)
        return levelled

    def as_tree(self) -> dict[str, Any]:
        return {name: np.asarray(getattr(self, name)).tolist() for name in self.__dataclass_fields__}


def levelling_from_tree(tree: dict[str, Any] | None) -> Levelling | None:
    """The inverse of `Levelling.as_tree`; None of None. Raises KeyError naming a key that is missing."""
    if tree is None:
        return None
    return Levelling(*(np.array(tree[name], np.float64) for name in Levelling.__dataclass_fields__))


def fit_levelling(score: np.ndarray, appearance: np.ndarray) -> Levelling:
    """Fit on (n,) scores and (n, F) appearance of normal images, n > COMPONENTS."""
    mean, scale = appearance.mean(0, dtype=np.float64), appearance.std(0, dtype=np.float64) + 1e-9
    _, values, rows = np.linalg.svd((appearance - mean) / scale, full_matrices=False)
    deviation = values[:COMPONENTS] / np.sqrt(len(appearance)) + 1e-9
    # Kept as they are written, so that a model that was read levels as the one that was fitted.
    components = _rounded(rows[:COMPONENTS].T / scale[:, None] / deviation)
    mean = _rounded(mean)
    design = _design(appearance, mean, components)
    weights = _rounded(_ridge(design, score, RIDGE))
    residual = np.log(np.abs(score - design @ weights) + EPSILON)
    spread_weights = _rounded(_ridge(design, residual, SPREAD_RIDGE))
    return Levelling(mean, components, weights, spread_weights)


def cross_levelled(
    scores: dict[str, np.ndarray], appearance: dict[str, np.ndarray]
) -> tuple[Levelling, dict[str, np.ndarray]]:
    """The levelling of n normal images, and their own levelled scores, each by a fit on the other parts.

    Args:
        scores: `original` -> (n,) in an order that says nothing of the images; other names, of the same images after a
            re-encoding, are levelled by what is fitted on the originals.
        appearance: the same names -> (n, F).
    """
    count = len(scores["original"])
    levelled = {name: np.empty(count) for name in scores}
    part = np.arange(count) % FOLDS
    for number in range(FOLDS):
        held_out = part == number
        fitted = fit_levelling(scores["original"][~held_out], appearance["original"][~held_out])
        for name, values in levelled.items():
            values[held_out] = fitted(scores[name][held_out], appearance[name][held_out])
    return fit_levelling(scores["original"], appearance["original"]), levelled


def can_level(sources: np.ndarray) -> bool:
    """Whether images of these (n,) sources can be levelled: there is more than one, and enough images."""
    return len(sources) >= MIN_IMAGES and len(set(sources.tolist())) > 1


def _design(appearance: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """(n, 1 + COMPONENTS) float64: a constant, and the components cut off at `LIMIT`."""
    z = np.clip((appearance - mean) @ components, -LIMIT, LIMIT)
    return np.concatenate([np.ones((len(z), 1)), z], 1)


def _ridge(design: np.ndarray, target: np.ndarray, strength: float) -> np.ndarray:
    """Weights of least squares with the squares of all but the constant's added, times `strength`."""
    penalty = strength * np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    found: np.ndarray = np.linalg.solve(design.T @ design + penalty, design.T @ target)
    return found


def _rounded(values: np.ndarray) -> np.ndarray:
    """To six significant digits."""
    return np.array([float(f"{value:.6g}") for value in values.ravel()]).reshape(values.shape)
