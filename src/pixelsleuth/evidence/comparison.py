"""Compare an image with an earlier copy: align the two, and find where they differ by more than recompression, scaling
and a change of brightness explain. No model is involved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.records import Box, Change, Comparison, Finding
from pixelsleuth.sources.images import decode, read_bytes

#: Longest side, in pixels, at which two pictures are laid onto each other and compared.
SIDE = 1400
#: Points that are matched, and how much better a match must be than the next best (Lowe 2004).
POINTS, RATIO = 4000, 0.75
#: Smallest number of matches that agree on how the copy lies, and the distance in pixels within which they agree.
MIN_MATCHES, MAX_MISFIT = 25, 2.5
#: Smallest share of the file that the copy must show.
MIN_COVERED = 0.05
#: Correlation, of the four fifths that fit best, from which two pictures without points to match, such as blurred ones,
#: count as the same one scaled.
MIN_CORRELATION = 0.97
#: Smallest difference of two places that counts: in grey levels, and as a multiple of their noise.
MIN_DIFFERENCE, NOISE_FACTOR = 8.0, 6.0
#: Classes of texture whose noise is measured apart: the same saving changes edges more than even places.
CLASSES = 8
#: Smallest area of a place, as a share of the compared image, and the multiple of the threshold its peak must reach.
MIN_PLACE, PEAK_FACTOR = 1e-4, 1.4
#: Largest number of places reported, the largest ones.
MAX_PLACES = 20
#: Pixels that a change of colours is fitted to, and the share of them, those that fit best, that is trusted.
FITTED, TRUSTED = 20_000, 0.7
#: Grey levels from which a change of brightness or colour of the whole is told.
TONED = 4.0


@dataclass(frozen=True)
class Alignment:
    """The position of the copy on the file.

    Attributes:
        matrix: (3, 3) float64, pixels of the copy -> pixels of the file.
        mirrored: the copy was mirrored first.
    """

    matrix: np.ndarray
    mirrored: bool = False


def compare(pixels: np.ndarray, earlier: np.ndarray, path: str = "", sha256: str = "") -> Comparison:
    """Find the differences between an image and an earlier copy of it.

    Args:
        pixels: (H, W, 3) uint8 RGB, the file in question, upright; earlier: (h, w, 3) uint8, the copy.
        path, sha256: of the copy.
    """
    mine, scale = _fitted(pixels)
    theirs, other_scale = _fitted(earlier)
    found = aligned(mine, theirs)
    if found is None:
        return Comparison(path, sha256, "not_alignable", pixels.shape[:2])
    theirs = np.ascontiguousarray(theirs[:, ::-1]) if found.mirrored else theirs
    laid, inside = _laid(theirs, found.matrix, mine.shape)
    laid, toned = _with_tone_of(mine, laid, inside)
    excess = differing(mine, laid, inside)
    changes = tuple(
        Change(Box(*(round(side / scale) for side in box)), levels, share)
        for box, levels, share in _places(excess, mine, laid, inside)
    )
    corners = _corners(mine.shape, np.linalg.inv(found.matrix))
    kept = _overlap(corners, theirs.shape)
    return Comparison(
        path, sha256, "changed" if changes else "same", pixels.shape[:2], changes,
        covered=float(inside.mean()), kept=kept, mirrored=found.mirrored, turned=_turned(found.matrix),
        scaled=float(np.sqrt(abs(np.linalg.det(found.matrix[:2, :2])))) * other_scale / scale,
        toned=toned, earlier=laid, excess=excess,
    )  # fmt: skip


def compared(findings: Iterable[Finding], earlier: Finding, pixels: np.ndarray) -> Iterator[Finding]:
    """Add to findings of images how each differs from an earlier copy, and what the model says of the places that do.

    Args:
        earlier: the copy's own finding; pixels: (H, W, 3) uint8, the copy.
    """
    for finding in findings:
        try:
            mine = decode(read_bytes(finding.path)).pixels if finding.kind == "image" else None
        except InputError:
            mine = None
        if mine is None:
            yield finding
            continue
        found = compare(mine, pixels, earlier.path, earlier.sha256 or "")
        changes = tuple(replace(one, model=_said_of(one.box, finding)) for one in found.changes)
        found = replace(found, changes=changes, verdict=earlier.verdict, p_value=earlier.p_promised)
        yield replace(finding, against=found)


def _said_of(box: Box, finding: Finding) -> str:
    """What a finding's maps say of a place: see `Change.model`."""
    if finding.heatmap is None or finding.excess is None:
        return ""
    part = (slice(box.y0, box.y1), slice(box.x0, box.x1))
    if not (finding.heatmap[part] > 0).any():
        return "not_looked_at"
    return "marked" if (finding.excess[part] >= 1).any() else "unmarked"


def aligned(mine: np.ndarray, theirs: np.ndarray) -> Alignment | None:
    """Align a copy with an image, both (H, W, 3) uint8; None where no alignment is found.

    Points by SIFT (Lowe 2004), their agreement by MAGSAC++ (Barath et al. 2020), as OpenCV has them.
    """
    grey, other = (cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (mine, theirs))
    sift = cv2.SIFT_create(POINTS)  # type: ignore[attr-defined]
    points, words = sift.detectAndCompute(grey, None)
    for mirrored in (False, True):
        copy = np.ascontiguousarray(other[:, ::-1]) if mirrored else other
        matrix = _matched(points, words, *sift.detectAndCompute(copy, None))
        if matrix is not None and _sound(matrix, copy.shape, grey.shape):
            return Alignment(_settled(matrix, copy.shape, grey.shape), mirrored)
    small, smaller = (cv2.resize(one, (64, 64), interpolation=cv2.INTER_AREA) for one in (grey, other))
    shapes_agree = abs(grey.shape[1] / grey.shape[0] - other.shape[1] / other.shape[0]) < 0.02
    if shapes_agree and _alike(small.ravel().astype(np.float64), smaller.ravel().astype(np.float64)):
        return Alignment(np.diag([grey.shape[1] / other.shape[1], grey.shape[0] / other.shape[0], 1.0]))
    return None


def differing(mine: np.ndarray, laid: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(H, W) float32, how much two pictures that lie on each other differ: 1 is more than their noise explains.

    Places that a pixel's shift explains do not count. The noise is measured on the two themselves, by texture: the
    median difference of a class, which changed places do not move while they are less than half of it.
    """
    one, other = (cv2.GaussianBlur(values.astype(np.float32), (0, 0), 1.2) for values in (mine, laid))
    window = np.ones((3, 3), np.uint8)
    gaps = []
    for here, there in ((one, other), (other, one)):
        low, high = cv2.erode(there, window), cv2.dilate(there, window)
        gaps.append(np.maximum(np.maximum(low - here, here - high), 0).max(2))
    gap = cv2.blur(np.minimum(*gaps), (5, 5))
    plain = np.abs(one - other).max(2)
    texture = cv2.blur(np.abs(other - cv2.blur(other, (9, 9))).max(2), (9, 9))
    noise = np.zeros_like(plain)
    edges = np.quantile(texture[inside], np.linspace(0, 1, CLASSES + 1)[1:-1]) if inside.any() else []
    classes = np.digitize(texture, edges)
    for number in range(CLASSES):
        rows = (classes == number) & inside
        noise[rows] = np.median(plain[rows]) if rows.any() else 0
    excess: np.ndarray = np.where(inside, gap / np.maximum(MIN_DIFFERENCE, NOISE_FACTOR * noise), 0)
    return excess.astype(np.float32)


def _fitted(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    scale = min(1.0, SIDE / max(pixels.shape[:2]))
    if scale == 1:
        return pixels, 1.0
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def _matched(points: Any, words: np.ndarray | None, others: Any, other_words: np.ndarray | None) -> np.ndarray | None:
    """(3, 3) from the copy to the picture, where enough points agree on it."""
    if words is None or other_words is None or min(len(words), len(other_words)) < MIN_MATCHES:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(other_words, words, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
    if len(good) < MIN_MATCHES:
        return None
    from_points = np.array([others[match.queryIdx].pt for match in good], np.float32)
    to_points = np.array([points[match.trainIdx].pt for match in good], np.float32)
    matrix, agreeing = cv2.findHomography(
        from_points, to_points, cv2.USAC_MAGSAC, MAX_MISFIT, maxIters=5000, confidence=0.999
    )
    if matrix is None or int(agreeing.sum()) < MIN_MATCHES:
        return None
    return np.asarray(matrix, np.float64)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two small pictures (n,) are one but for brightness and contrast, where they fit best."""
    kept = np.ones(len(one), bool)
    for _ in range(2):
        slope, offset = np.polyfit(other[kept], one[kept], 1)
        missed = np.abs(slope * other + offset - one)
        kept = missed <= np.quantile(missed, 0.8)
    spread = min(one[kept].std(), other[kept].std())
    return bool(spread > 1 and np.corrcoef(one[kept], other[kept])[0, 1] > MIN_CORRELATION)


def _sound(matrix: np.ndarray, copy: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a copy that lies so is a copy: not folded, not squeezed to a line, and on the picture."""
    corners = _corners(copy, matrix)
    sides = np.roll(corners, -1, 0) - corners
    turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
    if not np.isfinite(corners).all() or not (turns > 0).all():
        return False
    lengths = np.hypot(*sides.T)
    oblong = (lengths[0] / lengths[1]) / (copy[1] / copy[0])
    return bool(0.5 < oblong < 2 and _overlap(corners, shape) > MIN_COVERED)


def _settled(matrix: np.ndarray, copy: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The matrix, or that of no movement, or of mere scaling, where these are within a pixel of it: laying a copy on by
    whole pixels changes none of them."""
    plain = np.diag([shape[1] / copy[1], shape[0] / copy[0], 1.0])
    apart = np.abs(_corners(copy, matrix) - _corners(copy, plain)).max()
    return plain if apart < 1.0 else matrix


def _corners(shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """(4, 2), where the corners of a picture come to lie, clockwise from its top left."""
    corners = np.array([[0, 0], [shape[1], 0], [shape[1], shape[0]], [0, shape[0]]], np.float64)
    return cv2.perspectiveTransform(corners[None], matrix)[0]


def _overlap(corners: np.ndarray, shape: tuple[int, ...]) -> float:
    """Share of a picture that a quadrangle covers."""
    frame = np.array([[0, 0], [shape[1], 0], [shape[1], shape[0]], [0, shape[0]]], np.float32)
    area, _ = cv2.intersectConvexConvex(corners.astype(np.float32), frame)
    return float(area) / (shape[0] * shape[1])


def _laid(theirs: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The copy in the picture's pixels, and (H, W) bool where it is."""
    size = (shape[1], shape[0])
    whole = np.full(theirs.shape[:2], 255, np.uint8)
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        return cv2.resize(theirs, size, interpolation=cv2.INTER_AREA), np.ones(shape[:2], bool)
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    # What is drawn smaller must be smoothed first, or its detail would alias.
    smooth = cv2.GaussianBlur(theirs, (0, 0), 0.45 / shrink) if shrink < 0.8 else theirs
    laid = cv2.warpPerspective(smooth, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(whole, matrix, size, flags=cv2.INTER_NEAREST) > 0
    return laid, cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0) > 0


def _with_tone_of(mine: np.ndarray, laid: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, float]:
    """The copy with brightness and colours of the picture, and by how many grey levels they differed.

    Of each channel the median level that the picture has where the copy has another: a curve that places which were
    changed do not move while they are less than half of a level's pixels.
    """
    toned, moved = laid.copy(), []
    for channel in range(3):
        mine_, laid_ = mine[..., channel][inside], laid[..., channel][inside]
        levels = np.unique(np.quantile(laid_, np.linspace(0, 1, 17)).astype(int)) if len(laid_) else np.array([0])
        bins = np.digitize(laid_, levels[1:-1]) if len(levels) > 2 else np.zeros(len(laid_), int)
        points = [
            (float(np.median(laid_[rows])), float(np.median(mine_[rows])))
            for number in range(bins.max(initial=0) + 1)
            if (rows := bins == number).sum() > 50
        ]
        if not points:
            continue
        at, becomes = np.array(points).T
        curve = np.arange(256) + np.interp(np.arange(256), at, becomes - at)
        moved.append(float(np.abs(becomes - at).mean()))
        toned[..., channel] = np.clip(np.rint(curve), 0, 255).astype(np.uint8)[laid[..., channel]]
    return _with_colours_of(mine, toned, inside), max(moved, default=0.0)


def _with_colours_of(mine: np.ndarray, laid: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The copy after the polynomial of degree 2 in its channels that comes nearest to the picture: what curves of
    single channels cannot do, such as a change of saturation. Fitted thrice, each time to what fitted best before."""
    if int(inside.sum()) < FITTED:
        return laid
    rows = np.flatnonzero(inside.ravel())[:: max(1, int(inside.sum()) // FITTED)]
    terms, wanted = _polynomial(laid.reshape(-1, 3)[rows]), mine.reshape(-1, 3)[rows].astype(np.float32) / 255
    kept = np.ones(len(rows), bool)
    for _ in range(3):
        factors = np.linalg.lstsq(terms[kept], wanted[kept], rcond=None)[0]
        missed = np.abs(terms @ factors - wanted).max(1)
        kept = missed <= np.quantile(missed, TRUSTED)
    whole = _polynomial(laid.reshape(-1, 3)) @ factors
    return np.clip(np.rint(255 * whole), 0, 255).astype(np.uint8).reshape(laid.shape)


def _polynomial(colours: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 -> (n, 10) float32, all products of at most two channels in [0, 1]."""
    r, g, b = (colours.astype(np.float32) / 255).T
    return np.stack([np.ones_like(r), r, g, b, r * r, g * g, b * b, r * g, g * b, b * r], 1)


def _places(
    excess: np.ndarray, mine: np.ndarray, laid: np.ndarray, inside: np.ndarray
) -> list[tuple[tuple[int, int, int, int], float, float]]:
    """Connected places that differ, the largest first: box, mean difference in grey levels, share of what was
    compared."""
    joined = cv2.morphologyEx((excess > 1).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((13, 13), np.uint8))
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(joined)
    difference, compared = cv2.absdiff(mine, laid).max(2), max(1, int(inside.sum()))
    found = []
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in boxes[number])
        part = labels[y : y + height, x : x + width] == number
        peak = float(excess[y : y + height, x : x + width][part].max())
        if area < max(30, MIN_PLACE * compared) or peak < PEAK_FACTOR:
            continue
        strength = float(difference[y : y + height, x : x + width][part].mean())
        found.append(((x, y, x + width, y + height), strength, area / compared))
    return sorted(found, key=lambda place: -place[2])[:MAX_PLACES]


def _turned(matrix: np.ndarray) -> float:
    """Degrees, clockwise."""
    return float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
