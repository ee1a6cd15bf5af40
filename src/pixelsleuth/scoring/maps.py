"""Maps of what is unusual, of single images and of the slices of a volume, which are pooled within the volume."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pixelsleuth.models.configuration import MAX_Z
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.scoring.settings import DETECTIVE_MAP

#: Pooling of Marimont & Tarroni 2021: a minimum over 3 pixels, then a mean over 7. A volume with as many slices as a
#: slice has pixels is pooled as deep as it is wide; thin stacks are not.
MINIMUM, MEAN = 3, 7
#: Rim of the head, as a share of its side, in which nothing is counted: partial volumes and scalp.
RIM = 0.02
#: Smallest connected part of a map, in voxels at the networks' size, that counts as one finding.
MIN_VOXELS = 10
#: Of a slice's score `MAP_SCORE`: share of the head's pixels whose mean it is.
TOP_SHARE = 0.01
#: Maps that networks or formulas draw smoothly; they need no minimum.
_SMOOTH = (DETECTIVE_MAP, "surprise", "masked_surprise", "baseline_centre", "baseline_position")

Maps = dict[str, np.ndarray]


def centre_prior(side: int) -> np.ndarray:
    """(side, side) float32, a Gaussian at the centre with sigma a quarter of the side: a map without any model."""
    axis = (np.arange(side) + 0.5) / side - 0.5
    return np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * 0.25**2)).astype(np.float32)


def volume_maps(raw: Maps, image: np.ndarray, position: np.ndarray, head: np.ndarray, sign: int,
                atlas: Atlas | None = None) -> Maps:  # fmt: skip
    """The maps of a whole volume: baselines and products are added, then all are pooled and cut to the head.

    Args:
        raw: name -> (n, H, W) float32; image: (n, H, W) float32 in [0, 1]; position: (n,); head: (n, H, W) bool.
        sign: see `ScoreSettings`.
        atlas: also make the maps that name no anomaly by learning (`baseline_...`).
    """
    every = dict(raw) if atlas is None else raw | _baselines(atlas, image, position, head, sign)
    every |= _products(every, image, sign)
    return {name: smoothed(values, name) * head for name, values in every.items()}


def _baselines(atlas: Atlas, image: np.ndarray, position: np.ndarray, head: np.ndarray, sign: int) -> Maps:
    z = atlas.z(image, position)
    mirrored = image - image[:, :, ::-1]
    return {
        "baseline_brightness": image,
        "baseline_equalised": equalised(image, head),
        "baseline_atlas": np.abs(z) if sign == 0 else np.maximum(sign * z, 0),
        "baseline_asymmetry": np.abs(mirrored) if sign == 0 else np.maximum(sign * mirrored, 0),
        "baseline_position": np.maximum(atlas.usual_surprise(position, image.shape[1:]), 0) * image,
        "baseline_centre": np.broadcast_to(centre_prior(image.shape[1]), image.shape),
    }


def equalised(image: np.ndarray, head: np.ndarray) -> np.ndarray:
    """(n, H, W) float32 in [0, 1]: of each voxel of one volume the share of its head's voxels that are as dark or
    darker, 0 outside; the histogram of the whole volume equalised, which Meissen et al. 2021 put a threshold on."""
    levels = np.rint(image * 255).astype(np.int64)
    counts = np.bincount(levels[head], minlength=256)
    share = np.cumsum(counts) / max(1, counts.sum())
    return np.where(head, share[levels], 0).astype(np.float32)


def _products(raw: Maps, image: np.ndarray, sign: int) -> Maps:
    """Products of evidence that is independent: what was learnt, and what the sequence shows as it is."""
    light = image if sign >= 0 else 1 - image
    found = {"surprise_x_brightness": np.maximum(raw["masked_surprise"], 0) * light} if sign else {}
    if DETECTIVE_MAP not in raw:
        return found
    if sign:
        found["detective_x_brightness"] = raw[DETECTIVE_MAP] * light
    if "restoration" in raw:
        found["detective_x_restoration"] = raw[DETECTIVE_MAP] * raw["restoration"]
    if "baseline_atlas" in raw:
        found["detective_x_atlas"] = raw[DETECTIVE_MAP] * np.minimum(raw["baseline_atlas"], MAX_Z)
    return found


def within(inside: np.ndarray) -> np.ndarray:
    """(n, H, W) bool, the head without its rim."""
    depth = max(1, round(RIM * inside.shape[1]))
    return np.stack([ndimage.binary_erosion(one, iterations=depth) for one in inside])


def smoothed(values: np.ndarray, name: str) -> np.ndarray:
    """(n, H, W) of one volume, pooled as its kind wants: residuals and grey levels by a minimum over 3x3(x3), then a
    mean over 7x7(x7), deep only as far as slices lie dense; what networks drew smoothly by a mean over slices."""
    depth = _odd(MEAN * len(values) / values.shape[1])
    if name in _SMOOTH:
        return np.asarray(ndimage.uniform_filter(values, (depth, 1, 1), mode="nearest"), np.float32)
    least = ndimage.minimum_filter(values, (1 if depth == 1 else 3, MINIMUM, MINIMUM), mode="nearest")
    return np.asarray(ndimage.uniform_filter(least, (depth, MEAN, MEAN), mode="nearest"), np.float32)


def parts_of(marked: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Indices of the connected parts of (n, H, W) bool that have at least `MIN_VOXELS` voxels."""
    labels, _ = ndimage.label(marked)
    found = []
    for number, around in enumerate(ndimage.find_objects(labels), 1):
        places = np.nonzero(labels[around] == number)
        if len(places[0]) >= MIN_VOXELS:
            found.append(tuple(p + piece.start for p, piece in zip(places, around, strict=True)))
    return found


def _odd(value: float) -> int:
    return max(1, 2 * int(value // 2) + 1)


def top_of(values: np.ndarray, head: np.ndarray) -> np.ndarray:
    """(n,) float64: mean of each slice's largest values within the head, `TOP_SHARE` of it."""
    found = np.zeros(len(values))
    for k, (one, where) in enumerate(zip(values, head, strict=True)):
        chosen = one[where]
        if len(chosen):
            count = max(1, round(TOP_SHARE * len(chosen)))
            found[k] = float(np.partition(chosen, -count)[-count:].mean())
    return found
