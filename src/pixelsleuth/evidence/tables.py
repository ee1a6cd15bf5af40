"""Whose a JPEG's quantisation tables are: the standard's at some quality, or an encoder's own."""

from __future__ import annotations

import numpy as np

from pixelsleuth.sources.compression import jpeg_quality, scale_at

# The chrominance table of Annex K of the JPEG standard, row by row; libjpeg scales it by quality.
_CHROMINANCE = np.array(
    [
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99,
        99, 99, 99, 99, *[99] * 32,
    ]
)  # fmt: skip


def is_standard(tables: dict[int, list[int]]) -> bool:
    """Whether all tables are the standard's, each at a quality, as libjpeg and most programs write them."""
    _, exact = jpeg_quality(tables[0])
    return exact and all(table == tables[0] or _is_chrominance(table) for table in tables.values())


def _is_chrominance(table: list[int]) -> bool:
    scales = np.array([int(scale_at(quality)) for quality in range(1, 101)])
    made = np.clip((_CHROMINANCE * scales[:, None] + 50) // 100, 1, 255)
    return bool((made == np.array(table)).all(1).any())
