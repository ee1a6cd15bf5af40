"""Cautions: properties of an image other than tampering that can raise its score or weaken its verdict, why they
matter, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass

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
#: Features of detail; the others are of light and colour.
_DETAIL = ("log_laplacian_variance", "log_jpeg_bytes")
#: Share of a square that lay outside the picture, worth a word.
PADDED = 0.1
#: Judged frames of a video, fewer than which are worth a word.
FEW_FRAMES = 4


@dataclass(frozen=True)
class Caution:
    """One sentence each: what it is, why it matters, what to do."""

    what: str
    why: str
    do: str


def cautions(
    finding: Finding, square: np.ndarray | None, facts: FileFacts, settings: ScoreSettings, size: int,
    say: Language | None = None,
) -> list[Caution]:  # fmt: skip
    """
    Args:
        square: (size, size, 3) uint8, as the networks saw it; None for a video.
        settings: hold what normal training pictures measured.
        size: side of the model's squares in pixels.
    """
    say = say or language()
    found = [
        _caution(
            say,
            "feature",
            do=f"feature.{'detail' if name in _DETAIL else 'light'}",
            how=say(f"caution.{name}.{'more' if z > 0 else 'less'}"),
            z=say.decimal(abs(z), ".1f"),
        )
        for name, z in unusual_features(square, settings)
        if abs(z) > FAR
    ]
    widths = [face.face.box.width for face in finding.faces] or ([finding.square.width] if finding.square else [])
    if widths and min(widths) < size:
        small = "small" if finding.faces else "small.whole"
        found.append(_caution(say, small, "small", width=str(min(widths)), size=str(size)))
    if any(face.face.padded > PADDED for face in finding.faces):
        found.append(_caution(say, "padded"))
    # Of two people in a frame each has one.
    frames = len({frame.index for frame in finding.frames})
    if 0 < frames < FEW_FRAMES:
        found.append(_caution(say, "few_frames", n=say.number(frames)))
    if facts.quality is not None and facts.quality < LOW_QUALITY:
        found.append(_caution(say, "quality", quality=str(facts.quality)))
    return found


def reason_caution(finding: Finding, say: Language) -> Caution | None:
    """Explain the reason of a finding without a plain verdict, and what to do, where there is more to say."""
    plain = f"reason.{finding.reason_code}"
    of_kind = f"{plain}.{finding.kind}"
    key = of_kind if f"{of_kind}.why" in say.texts else plain
    if f"{key}.why" not in say.texts:
        return None
    return Caution(say(key), say(f"{key}.why"), say(f"{key}.do"))


def _caution(say: Language, name: str, do: str = "", **values: str) -> Caution:
    """The texts of a caution by its name; what to do by `do` where it is told apart; why as `do` where it has none."""
    key = f"caution.{name}"
    why = say.first_of(f"{key}.why", f"caution.{do}.why")
    return Caution(say(key, **values), why, say(f"caution.{do or name}.do"))


def unusual_features(square: np.ndarray | None, settings: ScoreSettings) -> list[tuple[str, float]]:
    """Each feature of complexity with its distance from normal training pictures in their standard deviations."""
    fitted = next(iter(settings.adjusted.values()), None)
    if square is None or fitted is None:
        return []
    z = (complexity(square)[: len(fitted.mean)] - np.array(fitted.mean)) / np.array(fitted.scale)
    return list(zip(FEATURES, z.tolist(), strict=False))
