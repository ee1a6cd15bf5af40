"""Cautions: what of a picture, besides tampering, could make its score unusual or its verdict weak."""

from __future__ import annotations

import numpy as np

from pixelsleuth.records import Finding
from pixelsleuth.reporting.filefacts import FileFacts
from pixelsleuth.scoring.complexity import FEATURES, complexity
from pixelsleuth.scoring.settings import ScoreSettings

#: Standard deviations from the mean of normal training pictures; beyond it lies 1% of a normal distribution.
FAR = 2.6
#: JPEG quality below which block edges and lost detail dominate what is left.
LOW_QUALITY = 60
#: Share of a square that lay outside the picture, worth a word.
PADDED = 0.1

_WORDS = {
    "log_laplacian_variance": ("blurrier", "sharper"),
    "log_jpeg_bytes": ("plainer", "busier"),
    "log_contrast": ("of lower contrast", "of higher contrast"),
    "brightness": ("darker", "brighter"),
    "colour": ("less colourful", "more colourful"),
}


def cautions(
    finding: Finding, square: np.ndarray | None, facts: FileFacts, settings: ScoreSettings, size: int
) -> list[str]:
    """One sentence each.

    Args:
        square: (size, size, 3) uint8, as the networks saw it; None for a video.
        settings: hold what normal training pictures measured.
        size: side of the model's squares in pixels.
    """
    found = [_deviation(name, z) for name, z in unusual_features(square, settings) if abs(z) > FAR]
    widths = [face.face.box.width for face in finding.faces] or ([finding.square.width] if finding.square else [])
    if widths and min(widths) < size:
        found.append(
            f"What was judged is only {min(widths)} pixels wide and was enlarged to {size}: detail that the model "
            "knows of normal pictures is missing."
        )
    if any(face.face.padded > PADDED for face in finding.faces):
        found.append("Part of a face's square lies outside the picture and was filled up by reflection.")
    if facts.quality is not None and facts.quality < LOW_QUALITY:
        found.append(
            f"The file is a JPEG of quality about {facts.quality}: strong compression hides traces of tampering and "
            "leaves traces of its own."
        )
    return found


def unusual_features(square: np.ndarray | None, settings: ScoreSettings) -> list[tuple[str, float]]:
    """Each feature of complexity with its distance from normal training pictures in their standard deviations."""
    fitted = next(iter(settings.adjusted.values()), None)
    if square is None or fitted is None:
        return []
    z = (complexity(square)[: len(fitted.mean)] - np.array(fitted.mean)) / np.array(fitted.scale)
    return list(zip(FEATURES, z.tolist(), strict=False))


def _deviation(name: str, z: float) -> str:
    return (
        f"What was judged is {_WORDS[name][z > 0]} than nearly all normal pictures the model learned from "
        f"({abs(z):.1f} standard deviations): its score rests on few examples like it."
    )
