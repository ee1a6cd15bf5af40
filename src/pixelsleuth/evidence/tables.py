"""A JPEG's quantisation tables: whose they are, and of what quality."""

from __future__ import annotations

import numpy as np

# The tables of Annex K of the JPEG standard, row by row; libjpeg scales them by quality.
_LUMINANCE = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
        51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
        120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ]
)  # fmt: skip
_CHROMINANCE = np.array(
    [
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99,
        99, 99, 99, 99, *[99] * 32,
    ]
)  # fmt: skip


def jpeg_quality(table: list[int]) -> tuple[int, bool]:
    """Quality from 1 to 100 whose libjpeg table is nearest to a luminance table of 64, and whether it is that one."""
    return _nearest(table, _LUMINANCE)


def is_standard(tables: dict[int, list[int]]) -> bool:
    """Whether all tables are the standard's at one quality, as libjpeg and most programs write them."""
    _, exact = jpeg_quality(tables[0])
    colour = [table for number, table in tables.items() if number > 0]
    return exact and all(_nearest(table, _CHROMINANCE)[1] or table == tables[0] for table in colour)


def _nearest(table: list[int], standard: np.ndarray) -> tuple[int, bool]:
    qualities = np.arange(1, 101)
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    made = np.clip((standard * scales[:, None] + 50) // 100, 1, 255)
    distance = np.abs(made - np.array(table)).sum(1)
    # Of equal ones the highest: tables of 1 everywhere are quality 100.
    best = len(qualities) - 1 - int(np.argmin(distance[::-1]))
    return int(qualities[best]), int(distance[best]) == 0
