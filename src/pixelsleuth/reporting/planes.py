"""Views of a scan: three planes through a point, and a sheet of its slices."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pixelsleuth.records import Finding
from pixelsleuth.reporting.overlays import overlay
from pixelsleuth.sources.scans.slices import picture_of
from pixelsleuth.sources.scans.volumes import Volume, in_ras, voxel_sizes_of

#: Longer side in pixels of a plane, and of a slice on the sheet.
SIDE, TILE = 480, 112
#: Largest number of slices on the sheet, and slices in one of its rows.
MAX_TILES, TILES_PER_ROW = 30, 6
_TICK = (0, 229, 255)


@dataclass(frozen=True)
class ScanView:
    """A scan with its map, (X, Y, Z) in RAS.

    Attributes:
        grey: uint8; excess: float32, as `Finding.excess`.
        at: (i, j, k), the voxel that the planes go through.
        millimetres: of a voxel along x, y and z.
    """

    grey: np.ndarray
    excess: np.ndarray
    at: tuple[int, int, int]
    millimetres: tuple[float, float, float]


def scan_view(finding: Finding, volume: Volume) -> ScanView:
    """The scan that a finding with a map is of; its planes go through the largest region, without any through the most
    unusual place of the most unusual slice."""
    assert finding.excess is not None, "only a mapped finding is viewed"
    low, high = np.quantile(volume.values, (0.001, 0.995))
    grey = np.clip((volume.values - low) * (255 / max(float(high - low), 1e-12)), 0, 255).astype(np.uint8)
    excess = in_ras(finding.excess, volume)
    where = np.zeros(finding.excess.shape, bool)
    largest = max(finding.regions, key=lambda r: r.millilitres or 0.0, default=None)
    if largest is not None and largest.depth is not None:
        box = largest.box
        where[box.x0 : box.x1, box.y0 : box.y1, slice(*largest.depth)] = True
        inside = np.where(in_ras(where, volume), excess, 0)
    else:
        inside = np.zeros_like(excess)
        shown = max(finding.slices, key=lambda one: one.score).index
        inside[:, :, shown] = np.maximum(excess[:, :, shown], 1e-6)
    # In each direction the plane with most of it.
    i, j, k = (
        int(np.argmax(np.where(inside >= 1, inside, inside * 1e-3).sum(tuple(a for a in range(3) if a != axis))))
        for axis in range(3)
    )
    return ScanView(grey, excess, (i, j, k), voxel_sizes_of(volume))


def planes(scan: ScanView) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`axial`, `coronal` and `sagittal` -> the plane as (H, W, 3) uint8 and its excess (H, W), scaled so that a
    millimetre is as long in every direction; the patient's left is on the left, the front up or to the left."""
    i, j, k = scan.at
    x, y, z = scan.millimetres
    found = {}
    for name, cut, sizes in (
        ("axial", lambda v: picture_of(v, k), (y, x)),
        ("coronal", lambda v: v[:, j, ::-1].T, (z, x)),
        ("sagittal", lambda v: v[i, ::-1, ::-1].T, (z, y)),
    ):
        grey, excess = (np.ascontiguousarray(cut(values)) for values in (scan.grey, scan.excess))
        height, width = grey.shape[0] * sizes[0], grey.shape[1] * sizes[1]
        scale = SIDE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey, excess = (cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in (grey, excess))
        found[name] = np.repeat(grey[..., None], 3, 2), excess
    return found


def ticked(pixels: np.ndarray, scan: ScanView, name: str) -> np.ndarray:
    """A copy of a plane with short lines at its rims where the other two planes cut it."""
    drawn = pixels.copy()
    i, j, k = (at + 0.5 for at in scan.at)
    width, depth, height = scan.grey.shape
    across, down = {
        "axial": (i / width, 1 - j / depth),
        "coronal": (i / width, 1 - k / height),
        "sagittal": (1 - j / depth, 1 - k / height),
    }[name]
    x, y, long = round(across * drawn.shape[1]), round(down * drawn.shape[0]), drawn.shape[1] // 24
    for begin, end in (
        ((x, 0), (x, long)), ((x, drawn.shape[0] - 1), (x, drawn.shape[0] - 1 - long)),
        ((0, y), (long, y)), ((drawn.shape[1] - 1, y), (drawn.shape[1] - 1 - long, y)),
    ):  # fmt: skip
        cv2.line(drawn, begin, end, _TICK, 2)
    return drawn


def sheet(scan: ScanView) -> np.ndarray:
    """(H, W, 3) uint8, the slices with anything in them side by side with their map, from the lowest on."""
    (there,) = np.nonzero(scan.excess.any((0, 1)))
    if not len(there):
        there = np.arange(scan.grey.shape[2])
    shown = there[np.unique(np.linspace(0, len(there) - 1, min(len(there), MAX_TILES)).round().astype(int))]
    tiles = []
    for k in shown:
        grey = np.repeat(np.ascontiguousarray(picture_of(scan.grey, int(k)))[..., None], 3, 2)
        one = overlay(grey, np.ascontiguousarray(picture_of(scan.excess, int(k))))
        scale = TILE / max(one.shape[:2])
        size = (max(1, round(one.shape[1] * scale)), max(1, round(one.shape[0] * scale)))
        one = cv2.resize(one, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        tile = np.zeros((TILE, TILE, 3), np.uint8)
        top, left = (TILE - one.shape[0]) // 2, (TILE - one.shape[1]) // 2
        tile[top : top + one.shape[0], left : left + one.shape[1]] = one
        cv2.putText(tile, str(k + 1), (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros((TILE, TILE, 3), np.uint8)] * (-len(tiles) % min(TILES_PER_ROW, len(tiles)))
    columns = min(TILES_PER_ROW, len(tiles))
    rows = [np.concatenate(tiles[at : at + columns], 1) for at in range(0, len(tiles), columns)]
    return np.concatenate(rows)
