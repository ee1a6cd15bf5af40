"""Make healthy scans anomalous, with exact masks, after MOOD's toy data (Zimmerer et al. 2022) and its winners (foreign
patches: Tan et al. 2020; deformations and noise: Marimont et al. 2021, Cho et al. 2021).

Everything works on slices (H, W) and on volumes (X, Y, Z) alike, in standard scores of the scan's own foreground, so
that a strength means the same for every scanner. Randomness comes from the generator that is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize

KINDS = ("noise", "constant", "shift", "deform", "foreign", "blur")
#: How plain an anomaly is, from what anybody sees to what an expert may miss.
SUBTLETIES = ("plain", "medium", "subtle")
#: Strength by kind and subtlety: standard deviation of the noise, distance from the local mean, and shift, in standard
#: scores; displacement at its largest as a share of the radius; share of the foreign patch in the blend; sigma of
#: the blur as a share of the radius.
STRENGTHS: dict[str, tuple[float, float, float]] = {
    "noise": (1.2, 0.7, 0.4),
    "constant": (2.5, 1.5, 0.8),
    "shift": (2.0, 1.2, 0.6),
    "deform": (0.9, 0.6, 0.4),
    "foreign": (1.0, 0.8, 0.6),
    "blur": (0.5, 0.3, 0.18),
}
#: Strengths that have an end: a patch can't be more than foreign, nor tissue be moved further than the whole radius.
MAX_STRENGTH = {"foreign": 1.0, "deform": 0.9}
#: Radius of an anomaly as a share of the longer side of a slice.
RADIUS = (0.05, 0.12)
#: A place belongs to the mask where this share of the change is laid on.
MASKED_FROM = 0.3


@dataclass(frozen=True)
class Lesion:
    """The settings of one anomaly.

    Attributes:
        kind: one of `KINDS`.
        strength: as `STRENGTHS` says.
        sign: 1 brighter, -1 darker, 0 either, for `constant` and `shift`.
        radius: as a share of the longer side of a slice.
        irregular: a bent blob, else an ellipsoid.
        softness: width of the rim as a share of the radius; a deformation has none, it ends where nothing moves.
    """

    kind: str
    strength: float
    radius: float
    sign: int = 0
    irregular: bool = True
    softness: float = 0.3


def graded(kind: str, subtlety: str, generator: np.random.Generator, sign: int = 0) -> Lesion:
    """An anomaly of a fixed strength; its size, shape and rim are drawn.

    Raises:
        ValueError: an unknown kind or subtlety.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}; got {kind!r}")
    if subtlety not in SUBTLETIES:
        raise ValueError(f"subtlety: expected one of {', '.join(SUBTLETIES)}; got {subtlety!r}")
    strength = STRENGTHS[kind][SUBTLETIES.index(subtlety)]
    return Lesion(
        kind, strength, float(generator.uniform(*RADIUS)), sign, bool(generator.random() < 0.5),
        float(generator.uniform(0.1, 0.5)),
    )  # fmt: skip


def drawn(kinds: tuple[str, ...], generator: np.random.Generator, sign: int = 0) -> Lesion:
    """An anomaly of any strength between subtle and plain and of a wide range of sizes, to learn from."""
    kind = kinds[int(generator.integers(len(kinds)))]
    plain, _, subtle = STRENGTHS[kind]
    radius = float(np.exp(generator.uniform(np.log(0.03), np.log(0.2))))
    # As many halvings as strengths: subtle ones are seen as often as plain ones.
    strength = float(np.exp(generator.uniform(np.log(subtle * 0.8), np.log(plain * 1.4))))
    if kind in MAX_STRENGTH:
        strength = min(MAX_STRENGTH[kind], strength)
    return Lesion(kind, strength, radius, sign, bool(generator.random() < 0.75), float(generator.uniform(0.08, 0.8)))


def made_anomalous(
    values: np.ndarray, inside: np.ndarray, lesion: Lesion, generator: np.random.Generator,
    donor: np.ndarray | None = None, depth: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Paste one anomaly into a scan.

    Args:
        values: (H, W) or (X, Y, Z) float32, standard scores.
        inside: bool of the same shape, the head; its centre is drawn in there, away from the rim.
        donor: a scan of the same shape that `foreign` takes its patch from; another place of `values` if None.
        depth: of a volume, voxels along z for one along x, so that thick slices hold round lesions.

    Returns:
        The scan (a copy), and its mask, bool; nothing outside the mask and a thin rim around it is changed.

    Raises:
        ValueError: no place inside the head is far enough from its rim.
    """
    side = max(values.shape[:2])
    radius = lesion.radius * side
    radii = np.array([radius, radius, max(0.75, radius * depth)][: values.ndim])
    centre = _place(inside, min(radius, 0.05 * side), generator)
    around = tuple(
        slice(max(0, int(c - 2 * r - 2)), min(n, int(c + 2 * r + 3)))
        for c, r, n in zip(centre, radii, values.shape, strict=True)
    )
    begin = np.array([s.start for s in around])
    part, within = values[around], inside[around]
    distance = _distance(part.shape, centre - begin, radii, lesion, generator)
    alpha = np.clip((1 - distance) / lesion.softness + 0.5, 0, 1).astype(np.float32) * within
    result, mask = values.copy(), np.zeros(values.shape, bool)
    if lesion.kind == "deform":
        # Nothing is blended: a warp laid over what it was made of would show both.
        moved = _deformed(part, distance, radii, centre - begin, lesion.strength, generator)
        result[around] = np.where(within, moved, part)
    else:
        changed = _changed(part, alpha, lesion, generator, radii, values, donor, around)
        result[around] = part + alpha * (changed - part)
    mask[around] = alpha > MASKED_FROM
    return result, mask


def _place(inside: np.ndarray, away: float, generator: np.random.Generator) -> np.ndarray:
    """(d,) the centre, drawn among places at least `away` from the head's rim within a slice."""
    if inside.ndim == 3:
        kept = np.zeros_like(inside)
        for k in range(inside.shape[2]):
            kept[:, :, k] = ndimage.distance_transform_edt(inside[:, :, k]) > away
    else:
        kept = ndimage.distance_transform_edt(inside) > away
    places = np.flatnonzero(kept)
    if not len(places):
        raise ValueError(f"no place is {away:.1f} pixels inside the head")
    return np.array(np.unravel_index(int(generator.choice(places)), inside.shape), float)


def _smooth_noise(shape: tuple[int, ...], cells: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of mean about 0 and standard deviation about 1 that varies over a `cells`-th of the shape."""
    small = generator.normal(0, 1, tuple(min(cells, n) for n in shape))
    factors = [n / m for n, m in zip(shape, small.shape, strict=True)]
    return np.asarray(
        ndimage.zoom(small, factors, order=1 if min(small.shape) < 4 else 3, grid_mode=True, mode="nearest")
    )


def _distance(
    shape: tuple[int, ...], centre: np.ndarray, radii: np.ndarray, lesion: Lesion, generator: np.random.Generator
) -> np.ndarray:
    """Distance from the centre, 1 at the rim of an ellipsoid turned at random within the slice, or of one that smooth
    noise bends."""
    stretch = np.exp(generator.uniform(-0.35, 0.35))
    turn = generator.uniform(0, np.pi)
    offsets = [g - c for g, c in zip(np.indices(shape, dtype=np.float32), centre, strict=True)]
    along = (np.cos(turn) * offsets[0] + np.sin(turn) * offsets[1]) / (radii[0] * stretch)
    across = (-np.sin(turn) * offsets[0] + np.cos(turn) * offsets[1]) / (radii[1] / stretch)
    squared = along**2 + across**2
    if len(shape) == 3:
        squared = squared + (offsets[2] / radii[2]) ** 2
    distance = np.sqrt(squared)
    if lesion.irregular:
        distance = distance + 0.22 * _smooth_noise(shape, 7, generator)
    return np.asarray(distance)


def _changed(
    part: np.ndarray, alpha: np.ndarray, lesion: Lesion, generator: np.random.Generator, radii: np.ndarray,
    values: np.ndarray, donor: np.ndarray | None, around: tuple[slice, ...],
) -> np.ndarray:  # fmt: skip
    """What is laid on under alpha."""
    sign = lesion.sign or int(generator.choice((-1, 1)))
    if lesion.kind == "noise":
        return part + generator.normal(0, lesion.strength, part.shape)
    if lesion.kind == "constant":
        weight = float(alpha.sum()) or 1.0
        level = float((part * alpha).sum()) / weight + sign * lesion.strength
        return np.full_like(part, level) + generator.normal(0, 0.08, part.shape)
    if lesion.kind == "shift":
        # Lesions are not even: their brightness varies smoothly by a quarter.
        return part + sign * lesion.strength * (1 + 0.25 * np.clip(_smooth_noise(part.shape, 5, generator), -2, 2))
    if lesion.kind == "blur":
        sigma = [lesion.strength * r if k < 2 else 0 for k, r in enumerate(radii)]
        return np.asarray(ndimage.gaussian_filter(part, sigma))
    patch = _foreign(values, donor, around, generator)
    return part + lesion.strength * (patch - part)


def _foreign(
    values: np.ndarray, donor: np.ndarray | None, around: tuple[slice, ...], generator: np.random.Generator
) -> np.ndarray:
    """A patch of the same size: of the donor near the same place, or of the scan itself elsewhere."""
    source = values if donor is None else donor
    far = 0.3 if donor is None else 0.1
    moved = []
    for axis, piece in enumerate(around):
        length, whole = piece.stop - piece.start, values.shape[axis]
        step = round(float(generator.uniform(-far, far)) * whole) if axis < 2 else 0
        start = int(np.clip(piece.start + step, 0, whole - length))
        moved.append(slice(start, start + length))
    patch = source[tuple(moved)]
    return np.flip(patch, 0) if donor is None and generator.random() < 0.5 else patch


def _deformed(
    part: np.ndarray, distance: np.ndarray, radii: np.ndarray, centre: np.ndarray, strength: float,
    generator: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Tissue pushed away from the centre as by a growing mass, pulled to it, or along one direction within the slice.

    The largest displacement is `strength` of the radius and nothing moves at the rim. Radially an ellipsoid is not
    folded; under a bent rim, or far along one direction across a narrow one, tissue may be. Cubic splines keep the
    scan's grain, so that bent shapes tell and not smoothness.
    """
    grid = np.indices(part.shape, dtype=np.float64)
    offsets = np.stack([g - c for g, c in zip(grid, centre, strict=True)])
    near = np.clip(distance, 1e-3, 1.0)
    mode = int(generator.integers(3))
    if mode == 2:
        angle = generator.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle), 0.0])[: part.ndim]
        shift = direction.reshape(-1, *([1] * part.ndim)) * (1 - near) * strength * radii[0]
    else:
        power = _power(strength)
        shift = offsets * (near ** ((power if mode else 1 / power) - 1) - 1)
        shift[2:] = 0
        # A bent rim makes some places lie nearer the centre than they are.
        shift *= np.minimum(1, strength * radii[0] / np.maximum(np.hypot(shift[0], shift[1]), 1e-6))
    return np.asarray(ndimage.map_coordinates(part, grid + shift, order=3, mode="nearest"))


def _power(largest: float) -> float:
    """The power p above 1 of which x - x^p is at most `largest` in [0, 1]."""

    def short(p: float) -> float:
        at = p ** (-1 / (p - 1))
        return at - at**p - largest

    return float(optimize.brentq(short, 1 + 1e-6, 1e4))
