"""Make normal images anomalous, with exact masks.

Every function takes (H, W, 3) uint8 RGB and gives an `Edited` of the same size; what is not under the mask
is untouched. Randomness comes from the generator that is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pixelsleuth.records import Face
from pixelsleuth.sources.images import jpeg_round_trip

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
    return laid_over(picture, over, alpha, float(match_colours))


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
    """Mark where a fake differs from its real partner, (size, size) bool; None if the pair is unusable.

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


# --- kinds that need no landmarks: a face crop, a donor crop, a soft mask ---


def soft_blob(shape: tuple[int, ...], generator: np.random.Generator, share: float) -> np.ndarray:
    """(H, W) float32 in [0, 1]: an irregular patch over about `share` of a crop, near its middle, soft at the rim.

    A ball of random place and stretch, its rim bent by smooth noise.
    """
    height, width = shape[:2]
    radius = np.sqrt(share / np.pi)
    stretch = float(np.exp(generator.uniform(-0.4, 0.4)))
    reach = max(0.02, 0.42 - radius)
    x, y = 0.5 + generator.uniform(-reach, reach), 0.5 + generator.uniform(-reach, reach)
    down, across = np.mgrid[0:height, 0:width]
    distance = np.hypot(((across + 0.5) / width - x) / stretch, ((down + 0.5) / height - y) * stretch) / radius
    noise = generator.normal(0, 1, (6, 6)).astype(np.float32)
    bends = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    softness = generator.uniform(0.05, 0.25)
    return np.clip((1 - distance + 0.25 * bends) / softness + 0.5, 0, 1).astype(np.float32)


def face_shape(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the inner face of a crop around it, jittered, soft at the rim."""
    height, width = shape[:2]
    hard = np.zeros((height, width), np.float32)
    centre = (width * generator.uniform(0.46, 0.54), height * generator.uniform(0.52, 0.60))
    half = (width * generator.uniform(0.30, 0.40), height * generator.uniform(0.32, 0.42))
    cv2.ellipse(hard, tuple(round(c) for c in centre), tuple(round(h) for h in half), 0, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(hard, (0, 0), width * generator.uniform(0.02, 0.06))


def matched_colours(over: np.ndarray, under: np.ndarray, alpha: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """`over` with the mean and spread, inside `alpha` > .5, of `under` (Reinhard et al. 2001, in RGB), to `strength`
    in [0, 1]; (H, W, 3) float64."""
    inside = alpha > 0.5
    if not inside.any():
        return over.astype(np.float64)
    ours, theirs = under[inside].astype(np.float64), over[inside].astype(np.float64)
    ratio = np.clip(ours.std(0) / (theirs.std(0) + 1e-6), 0.5, 2.0)
    moved = (over - theirs.mean(0)) * ratio + ours.mean(0)
    return np.clip(over + strength * (moved - over), 0, 255)


def softened(picture: np.ndarray, factor: float) -> np.ndarray:
    """Down- and up-sampled by `factor` >= 1, as what a generator of lower resolution makes is."""
    height, width = picture.shape[:2]
    small = cv2.resize(
        picture, (max(8, round(width / factor)), max(8, round(height / factor))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def another_view(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The same picture moved, scaled, lit, sharpened or softened a little, and compressed (Shiohara & Yamasaki 2022,
    self-blended images)."""
    height, width = picture.shape[:2]
    scale = generator.uniform(0.97, 1.03)
    move = cv2.getRotationMatrix2D((width / 2, height / 2), generator.uniform(-2, 2), scale)
    move[:, 2] += generator.uniform(-0.02, 0.02, 2) * width
    view = cv2.warpAffine(picture, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    view = view * generator.uniform(0.9, 1.1, 3) + generator.uniform(-10, 10)
    view = np.clip(view, 0, 255).astype(np.uint8)
    choice = generator.integers(4)
    if choice == 0:
        return softened(view, generator.uniform(1.2, 2.5))
    if choice == 1:
        return sharpened(view, generator.uniform(0.5, 1.5))
    return jpeg_round_trip(view, int(generator.integers(40, 85))) if choice == 2 else view


def sharpened(picture: np.ndarray, amount: float) -> np.ndarray:
    """Unsharp mask with a Gaussian of 1.5 px."""
    soft = cv2.GaussianBlur(picture, (0, 0), 1.5).astype(np.float64)
    return np.clip(picture + amount * (picture - soft), 0, 255).astype(np.uint8)


def warped(picture: np.ndarray, generator: np.random.Generator, strength: float) -> np.ndarray:
    """Displaced by a smooth random field of up to about `strength` of the side."""
    height, width = picture.shape[:2]
    field = generator.normal(0, strength * width / 2, (2, 5, 5)).astype(np.float32)
    dx, dy = (cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in field)
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    return cv2.remap(picture, across + dx, down + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def recoloured(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each channel times .85 to 1.15, contrast about the mean times .7 to 1.3, and up to 10 grey levels lighter or
    darker."""
    mean = picture.mean((0, 1))
    moved = (picture - mean) * generator.uniform(0.7, 1.3) + mean * generator.uniform(0.85, 1.15, 3)
    return np.clip(moved + generator.uniform(-10, 10), 0, 255).astype(np.uint8)


def remade(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Imitate a generator of lower resolution: down-sample by 1.15 to 2.2, up-sample with some kernel, scale each
    channel by .96 to 1.04; half of the time smooth the grain away first."""
    height, width = picture.shape[:2]
    factor = generator.uniform(1.15, 2.2)
    down = (cv2.INTER_AREA, cv2.INTER_LINEAR)[int(generator.integers(2))]
    up = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[int(generator.integers(3))]
    smooth = cv2.bilateralFilter(picture, 5, 25, 2) if generator.random() < 0.5 else picture
    small = cv2.resize(smooth, (max(8, round(width / factor)), max(8, round(height / factor))), interpolation=down)
    large = cv2.resize(small, (width, height), interpolation=up)
    return np.clip(large * generator.uniform(0.96, 1.04, 3), 0, 255).astype(np.uint8)


def magnified(picture: np.ndarray, alpha: np.ndarray, factor: float) -> np.ndarray:
    """The picture magnified by `factor` about the middle of `alpha`, as a feature is made larger or smaller."""
    height, width = picture.shape[:2]
    down, across = (np.average(np.indices(alpha.shape)[k], weights=alpha + 1e-9) for k in range(2))
    move = cv2.getRotationMatrix2D((float(across), float(down)), 0, factor)
    return cv2.warpAffine(picture, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def poisson_blended(under: np.ndarray, over: np.ndarray, mask: np.ndarray) -> Edited:
    """`over` under `mask` (H, W) bool: it keeps its gradients, and has the colours of `under` at the rim (Perez et al.
    2003)."""
    inside = mask.copy()
    # The rim must lie within the picture.
    inside[[0, -1]] = inside[:, [0, -1]] = False
    if not inside.any():
        return Edited(under, inside)
    left, top, width, height = cv2.boundingRect(inside.astype(np.uint8))
    centre = (left + width // 2, top + height // 2)
    mixed = cv2.seamlessClone(over, under, inside.astype(np.uint8) * 255, centre, cv2.NORMAL_CLONE)
    return Edited(np.where(inside[..., None], mixed, under), inside)


def inpainted(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Fill the region of `alpha` > .5 from its rim (Telea 2004)."""
    return cv2.inpaint(picture, (alpha > 0.5).astype(np.uint8), 3, cv2.INPAINT_TELEA)


def shifted(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The picture moved by a fifth to two fifths of its side, mirrored at the border: the source of a copy-move."""
    height, width = picture.shape[:2]
    angle, far = generator.uniform(0, 2 * np.pi), generator.uniform(0.2, 0.4)
    move = np.array([[1.0, 0, far * width * np.cos(angle)], [0, 1.0, far * height * np.sin(angle)]])
    return cv2.warpAffine(picture, move, (width, height), borderMode=cv2.BORDER_REFLECT)


#: Kinds made of the crop alone: (crop, alpha, generator) -> what is laid under alpha. Strengths are fixed.
OWN_KINDS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "self_blend": lambda p, a, g: another_view(p, g),
    "copy_move": lambda p, a, g: shifted(p, g),
    "removal": lambda p, a, g: inpainted(p, a),
    "blur": lambda p, a, g: blurred(p, p.shape[0] * g.uniform(0.008, 0.02)),
    "sharpen": lambda p, a, g: sharpened(p, g.uniform(1.0, 2.5)),
    "noise": lambda p, a, g: noisy(p, g.uniform(6, 18), g),
    "warp": lambda p, a, g: warped(p, g, g.uniform(0.02, 0.05)),
    "compression": lambda p, a, g: jpeg_round_trip(p, int(g.integers(15, 40))),
    "recolour": lambda p, a, g: recoloured(p, g),
    "magnify": lambda p, a, g: magnified(p, a, float(np.exp(g.choice([-1, 1]) * g.uniform(0.1, 0.35)))),
    "soft_face": lambda p, a, g: remade(p, g),
}
#: Kinds that need another picture, and kinds that need the networks; training.forging makes them.
DONOR_KINDS = ("donor_blend", "donor_face", "donor_poisson")
#: Kinds laid over the whole inner face, as a swap by a generator is; the pair is then made equally sharp.
FACE_KINDS = ("generated_face", "soft_face")
MODEL_KINDS = ("reconstruction_blend", "restoration_blend", "generated_face")
KINDS = (*OWN_KINDS, *DONOR_KINDS, *MODEL_KINDS)


def own_kind(picture: np.ndarray, kind: str, alpha: np.ndarray, generator: np.random.Generator) -> Edited:
    """One of `OWN_KINDS` laid onto (H, W, 3) under `alpha`."""
    return _blended(picture, OWN_KINDS[kind](picture, alpha, generator).astype(np.float64), alpha)


def laid_over(picture: np.ndarray, over: np.ndarray, alpha: np.ndarray, match: float = 0.0) -> Edited:
    """`over`, of the same size, laid onto `picture` under `alpha`; its colours matched to `match` in [0, 1]."""
    return _blended(picture, matched_colours(over, picture, alpha, match), alpha)
