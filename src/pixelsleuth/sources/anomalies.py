"""Normal pictures made anomalous on purpose, with exact masks.

Every function takes (H, W, 3) uint8 RGB and gives an `Edited` of the same size; what is not under the mask
is untouched. Randomness comes from the generator that is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pixelsleuth.records import Face

FEATURES = ("left_eye", "right_eye", "nose", "mouth")


@dataclass(frozen=True)
class Edited:
    """`pixels` (H, W, 3) uint8 and `mask` (H, W) bool, where it differs from the picture it was made of."""

    pixels: np.ndarray
    mask: np.ndarray


def feature_ellipse(face: Face, feature: str) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Centre, half-axes (along the face's horizontal, across it) and angle in degrees of a facial feature.

    Sizes follow the distance between the eyes; the mouth is `mouth`, the rest as in `FEATURES`.
    """
    left, right, nose, mouth_left, mouth_right = (np.array(p) for p in face.landmarks)
    span = max(8.0, float(np.linalg.norm(right - left)))
    angle = float(np.degrees(np.arctan2(*(right - left)[::-1])))
    places = {
        "left_eye": (left, (0.38, 0.26)),
        "right_eye": (right, (0.38, 0.26)),
        "nose": (nose - 0.1 * np.array([0, span]), (0.30, 0.42)),
        "mouth": ((mouth_left + mouth_right) / 2, (0.55, 0.32)),
    }
    if feature not in places:
        raise ValueError(f"feature: expected one of {', '.join(places)}; got {feature!r}")
    centre, (along, across) = places[feature]
    return (float(centre[0]), float(centre[1])), (along * span, across * span), angle


def _soft_ellipse(
    shape: tuple[int, ...], centre: tuple[float, float], axes: tuple[float, float], angle: float
) -> np.ndarray:
    """(H, W) float32 in [0, 1], 1 inside, falling to 0 over an eighth of the shorter axis around the rim."""
    hard = np.zeros(shape[:2], np.float32)
    half = (max(2, round(axes[0])), max(2, round(axes[1])))
    cv2.ellipse(hard, (round(centre[0]), round(centre[1])), half, angle, 0, 360, 1.0, -1)
    sigma = max(0.8, min(half) / 8)
    return cv2.GaussianBlur(hard, (0, 0), sigma)


def _blended(under: np.ndarray, over: np.ndarray, alpha: np.ndarray) -> Edited:
    mixed = under * (1 - alpha[..., None]) + over * alpha[..., None]
    pixels = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    mask = alpha > 0.05
    return Edited(np.where(mask[..., None], pixels, under), mask)


def feature_swap(
    picture: np.ndarray, face: Face, donor: np.ndarray, donor_face: Face, feature: str, match_colours: bool
) -> Edited:
    """A feature of `donor` laid over the same feature of `picture`, aligned by the eyes and the feature.

    Args:
        match_colours: bring the donor's mean and standard deviation of each channel, within the feature, to
            those of the picture (Reinhard et al. 2001, in RGB).
    """
    centre, axes, angle = feature_ellipse(face, feature)
    donor_centre, donor_axes, donor_angle = feature_ellipse(donor_face, feature)
    scale = axes[0] / donor_axes[0]
    move = cv2.getRotationMatrix2D(donor_centre, donor_angle - angle, scale)
    move[:, 2] += np.array(centre) - np.array(donor_centre)
    height, width = picture.shape[:2]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    over = cv2.warpAffine(donor, move, (width, height), flags=method, borderMode=cv2.BORDER_REFLECT).astype(np.float64)
    alpha = _soft_ellipse(picture.shape, centre, axes, angle)
    if match_colours:
        inside = alpha > 0.5
        if inside.any():
            ours, theirs = picture[inside].astype(np.float64), over[inside]
            ratio = np.clip(ours.std(0) / (theirs.std(0) + 1e-6), 0.5, 2.0)
            over = (over - theirs.mean(0)) * ratio + ours.mean(0)
    return _blended(picture, np.clip(over, 0, 255), alpha)


def copy_move(picture: np.ndarray, face: Face, generator: np.random.Generator) -> Edited:
    """A feature of the face copied to another place of the same face, at least one eye distance away."""
    feature = str(generator.choice(FEATURES))
    centre, axes, angle = feature_ellipse(face, feature)
    span = axes[0] / {"left_eye": 0.38, "right_eye": 0.38, "nose": 0.30, "mouth": 0.55}[feature]
    box = face.box
    target = centre
    for _ in range(50):
        candidate = (
            float(generator.uniform(box.x0 + 0.15 * box.width, box.x1 - 0.15 * box.width)),
            float(generator.uniform(box.y0 + 0.15 * box.height, box.y1 - 0.15 * box.height)),
        )
        if np.hypot(candidate[0] - centre[0], candidate[1] - centre[1]) >= 0.8 * span:
            target = candidate
            break
    move = np.array([[1.0, 0, target[0] - centre[0]], [0, 1.0, target[1] - centre[1]]])
    height, width = picture.shape[:2]
    over = cv2.warpAffine(picture, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return _blended(picture, over.astype(np.float64), _soft_ellipse(picture.shape, target, axes, angle))


def local_change(
    picture: np.ndarray,
    centre: tuple[float, float],
    radius: float,
    change: Callable[[np.ndarray], np.ndarray],
) -> Edited:
    """`change` applied to the whole picture and kept in a soft disc."""
    alpha = _soft_ellipse(picture.shape, centre, (radius, radius), 0.0)
    return _blended(picture, change(picture).astype(np.float64), alpha)


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `sigma` pixels."""
    return cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0 else picture


def turned(picture: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Turned by 180 degrees about `centre`: what was there stands on its head, as in Thompson's illusion."""
    move = cv2.getRotationMatrix2D(centre, 180, 1.0)
    return cv2.warpAffine(picture, move, picture.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def noisy(picture: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise of standard deviation `sigma` grey levels."""
    return np.clip(picture + generator.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


def partner_mask(fake: np.ndarray, real: np.ndarray, size: int = 128) -> np.ndarray | None:
    """Where a fake differs from its real partner, (size, size) bool; None if the pair is of no use for this.

    Mean |difference| over channels at `size` px, Gaussian sigma 2, above 8 grey levels; kept are pairs with 2 to
    60% masked and a difference under 8 at the border.
    """
    small = [cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) for p in (fake, real)]
    difference = cv2.GaussianBlur(np.abs(small[0] - small[1]).mean(2), (0, 0), 2)
    mask = difference > 8
    border = np.concatenate([difference[0], difference[-1], difference[:, 0], difference[:, -1]])
    if not 0.02 <= mask.mean() <= 0.60 or border.mean() >= 8:
        return None
    return mask
