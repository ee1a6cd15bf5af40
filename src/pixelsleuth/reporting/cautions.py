"""Cautions: what of a picture, besides tampering, could make its score unusual or its verdict weak."""

from __future__ import annotations

import numpy as np

from pixelsleuth.language import Language, language
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


def cautions(
    finding: Finding, square: np.ndarray | None, facts: FileFacts, settings: ScoreSettings, size: int,
    say: Language | None = None,
) -> list[str]:  # fmt: skip
    """One sentence each.

    Args:
        square: (size, size, 3) uint8, as the networks saw it; None for a video.
        settings: hold what normal training pictures measured.
        size: side of the model's squares in pixels.
    """
    say = say or language()
    found = [
        say("caution.feature", how=say(f"caution.{name}.{'more' if z > 0 else 'less'}"), z=say.decimal(abs(z), ".1f"))
        for name, z in unusual_features(square, settings)
        if abs(z) > FAR
    ]
    widths = [face.face.box.width for face in finding.faces] or ([finding.square.width] if finding.square else [])
    if widths and min(widths) < size:
        found.append(say("caution.small", width=str(min(widths)), size=str(size)))
    if any(face.face.padded > PADDED for face in finding.faces):
        found.append(say("caution.padded"))
    if facts.quality is not None and facts.quality < LOW_QUALITY:
        found.append(say("caution.quality", quality=str(facts.quality)))
    return found


def unusual_features(square: np.ndarray | None, settings: ScoreSettings) -> list[tuple[str, float]]:
    """Each feature of complexity with its distance from normal training pictures in their standard deviations."""
    fitted = next(iter(settings.adjusted.values()), None)
    if square is None or fitted is None:
        return []
    z = (complexity(square)[: len(fitted.mean)] - np.array(fitted.mean)) / np.array(fitted.scale)
    return list(zip(FEATURES, z.tolist(), strict=False))
