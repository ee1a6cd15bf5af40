"""Tell how strongly a JPEG was compressed from its quantisation tables, and whether they are the standard's at some
quality or an encoder's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelsleuth.errors import InputError
from pixelsleuth.sources.images import opened

# The chrominance table of Annex K of the JPEG standard, row by row; libjpeg scales it by quality.
_CHROMINANCE = np.array(
    [
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99,
        99, 99, 99, 99, *[99] * 32,
    ]
)  # fmt: skip
# The luminance table of Annex K of the JPEG standard, row by row; libjpeg scales it by quality.
_STANDARD = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
        51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121,
        120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ]
)  # fmt: skip


def scale_at(quality: int) -> float:
    """Percent of the standard's tables that libjpeg takes at a quality from 1 to 100: how coarse the steps are."""
    return 5000 / quality if quality < 50 else 200.0 - 2 * quality


def quality_at(scale: float) -> int:
    """The inverse of `scale_at`, from 1 to 100."""
    return max(1, min(100, round(5000 / scale if scale > 100 else (200 - scale) / 2)))


def jpeg_quality(table: Sequence[int]) -> tuple[int, bool]:
    """Quality from 1 to 100 whose libjpeg table is nearest to a luminance table of 64, and whether it is that one."""
    qualities = np.arange(1, 101)
    scales = np.array([int(scale_at(quality)) for quality in qualities.tolist()])
    made = np.clip((_STANDARD * scales[:, None] + 50) // 100, 1, 255)
    distance = np.abs(made - np.array(table)).sum(1)
    # Of equal ones the highest: tables of 1 everywhere are quality 100.
    best = len(qualities) - 1 - int(np.argmin(distance[::-1]))
    return int(qualities[best]), int(distance[best]) == 0


def quality_of(data: bytes) -> int | None:
    """Quality of an encoded JPEG as its tables tell; None for anything else."""
    if not data.startswith(b"\xff\xd8"):
        return None
    try:
        table = getattr(opened(data), "quantization", {}).get(0)
    except (InputError, OSError, SyntaxError, ValueError):
        return None
    return None if table is None else jpeg_quality(table)[0]


def is_standard(tables: dict[int, list[int]]) -> bool:
    """Whether all tables are the standard's, each at a quality, as libjpeg and most programs write them."""
    _, exact = jpeg_quality(tables[0])
    scales = np.array([int(scale_at(quality)) for quality in range(1, 101)])
    chrominance = np.clip((_CHROMINANCE * scales[:, None] + 50) // 100, 1, 255)
    others = [table for table in tables.values() if table != tables[0]]
    return exact and all((chrominance == np.array(table)).all(1).any() for table in others)
