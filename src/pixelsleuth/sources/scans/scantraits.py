"""Traits of a scan other than its content: how its voxels lie, how large the head is and whether the skull is on, which
tissue is bright, how sharp, noisy and even it is. A model trained on scans prepared in one way says nothing about
others."""

from __future__ import annotations

import cv2
import numpy as np

from pixelsleuth.sources.scans.slices import MAX_Z, MIN_Z, Slices, foreground_of, head_of
from pixelsleuth.sources.scans.volumes import Volume, voxel_sizes_of
from pixelsleuth.sources.traits import Trait

#: Largest number of distinct values in a map of labels.
MAX_LABELS = 64
#: Distance from the median, in interquartile ranges, beyond which it says no more.
MAX_TAIL = 20.0
#: Number of slices that are measured, evenly spaced.
MAX_SLICES = 32
#: Likeness is that of the best quarter of slices: a large lesion changes many, another kind of scan all.
BEST_QUANTILE = 0.75
#: A slice is looked at where it has at least this share of the largest slice's tissue: the ends of a head are small.
LARGE = 0.3

INPUT_TRAITS = {
    "voxel_across": Trait(
        "its voxels are smaller", "its voxels are larger", 0.15, lambda v: f"{2**v:.3g} mm within a slice"
    ),
    "voxel_through": Trait("its slices lie closer", "its slices lie further apart", 0.2, lambda v: f"{2**v:.3g} mm"),
    "width": Trait("the head is narrower", "the head is wider", 0.15, lambda v: f"{2**v:.0f} mm from side to side"),
    "depth": Trait("the head is shorter", "the head is longer", 0.15, lambda v: f"{2**v:.0f} mm from back to front"),
    "height": Trait("less of the head is there", "more of the head is there", 0.2, lambda v: f"{2**v:.0f} mm high"),
    "fill": Trait("the head is less round", "the head is squarer", 0.05),
    "air": Trait("the air around it is darker", "what lies around the head is not empty", 0.03),
    "levels": Trait(
        "it has few grey levels, as a map of labels has", "it has more grey levels", 0.5, lambda v: f"{2**v:.0f}"
    ),
    "dark_tail": Trait(
        "it has less dark tissue", "it has more dark tissue (another sequence, or another preparation)", 0.3
    ),
    "bright_tail": Trait(
        "it has less bright tissue", "it has more bright tissue (another sequence, or the skull is on)", 0.3
    ),
    "skew": Trait("its greys lean the other way", "its greys lean to the bright side", 0.15),
    "sharpness": Trait("it is blurrier", "it is sharper", 0.8),
    "noise": Trait("it has less noise", "it has more noise", 0.5),
    "symmetry": Trait("left and right are less alike (is it turned?)", "left and right are more alike", 0.12),
    "neighbours": Trait("neighbouring slices are less alike", "neighbouring slices are more alike", 0.08),
}


def scan_traits(volume: Volume, cut: Slices) -> np.ndarray:
    """(len(INPUT_TRAITS),) float64, not a number where it cannot be told.

    Args:
        cut: the volume's slices as the networks see them.
    """
    sizes = np.maximum(voxel_sizes_of(volume), 1e-3)
    foreground = foreground_of(volume.values)
    head = head_of(foreground)
    spans = [_extent(head, axis) for axis in range(3)]
    values = volume.values[foreground & head]
    return np.array([
        np.log2(np.sqrt(sizes[0] * sizes[1])), np.log2(sizes[2]),
        *(np.log2(max(1, span) * size) for span, size in zip(spans, sizes, strict=True)),
        float(head.sum()) / max(1, int(np.prod(spans))),
        _air(volume.values, head), np.log2(min(MAX_LABELS, len(np.unique(values[:: max(1, len(values) // 100_000)])))),
        *_shape_of(values),
        *_looks(cut),
    ])  # fmt: skip


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's of two arrays of one shape; not a number where one of them is flat."""
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-9 else float("nan")


def looked_at(inside: np.ndarray) -> np.ndarray:
    """Numbers of those of (n, H, W) slices that traits are medians over: those with enough of the head, at most
    `MAX_SLICES`, evenly spaced."""
    area = inside.sum((1, 2))
    (large,) = np.nonzero(area >= LARGE * max(1, area.max()))
    return large[np.unique(np.linspace(0, len(large) - 1, min(len(large), MAX_SLICES)).round().astype(int))]


def _extent(head: np.ndarray, axis: int) -> int:
    (there,) = np.nonzero(head.any(tuple(a for a in range(3) if a != axis)))
    return int(there[-1] - there[0]) + 1 if len(there) else 0


def _air(values: np.ndarray, head: np.ndarray) -> float:
    """The 95th percentile outside the head, as a share of the way from the lowest value to the head's median."""
    outside = values[~head]
    low = float(values.min())
    middle = float(np.median(values[head]))
    if not len(outside) or middle <= low:
        return float("nan")
    return (float(np.quantile(outside, 0.95)) - low) / (middle - low)


def _shape_of(values: np.ndarray) -> tuple[float, float, float]:
    """Of the head's values: how far its darker and its brighter tissue lie from the median on average, in interquartile
    ranges, and Bowley's skew of the quartiles, -1 to 1. The extreme twentieths, where lesions are, do not count."""
    ordered = np.sort(values.astype(np.float64))
    quarter, middle, three_quarters = (float(v) for v in np.quantile(ordered, (0.25, 0.5, 0.75)))
    ends = [round(share * len(ordered)) for share in (0.05, 0.25, 0.75, 0.95)]
    spread = max(three_quarters - quarter, 1e-6 * max(1.0, abs(middle)))
    dark = (middle - float(ordered[ends[0] : max(ends[0] + 1, ends[1])].mean())) / spread
    bright = (float(ordered[ends[2] : max(ends[2] + 1, ends[3])].mean()) - middle) / spread
    # A map of labels may have no spread at all.
    return min(dark, MAX_TAIL), min(bright, MAX_TAIL), (three_quarters + quarter - 2 * middle) / spread


def _looks(cut: Slices) -> tuple[float, float, float, float]:
    """Logarithms of sharpness and noise in standard scores, medians over slices; likeness of the halves, and of
    neighbours, in the best slices."""
    numbers = looked_at(cut.inside)
    scores = cut.pixels[numbers, ..., 0].astype(np.float32) * ((MAX_Z - MIN_Z) / 255)
    inside = cut.inside[numbers]
    found = [
        (*_texture(one, within), correlation(*_halves(one, within))) for one, within in zip(scores, inside, strict=True)
    ]
    sharpness, noise, _ = np.nanmedian(np.array(found), 0).tolist()
    symmetry = float(np.nanquantile(np.array(found)[:, 2], BEST_QUANTILE))
    every = cut.pixels[..., 0].astype(np.float32)
    near = [correlation(every[k], every[k + 1]) for k in numbers if k + 1 < len(every)]
    return sharpness, noise, symmetry, float(np.nanquantile(near, BEST_QUANTILE)) if near else float("nan")


def _texture(image: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Logarithms of the median squared Laplacian, and of the spread of the difference of two Laplacians (Immerkaer
    1996), within the head."""
    within = cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    if not within.any():
        return float("nan"), float("nan")
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    squared = cv2.Laplacian(image, cv2.CV_32F)[within] ** 2
    response = np.abs(cv2.filter2D(image, cv2.CV_32F, kernel)[within])
    return float(np.log2(np.median(squared) + 1e-4)), float(np.log2(np.median(response) / (0.6745 * 6) + 1e-2))


def _halves(image: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The head's box, and its mirror image."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return part, part[:, ::-1]
