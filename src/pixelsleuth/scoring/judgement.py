"""From the p-values of faces and frames to those of tracks and inputs, and to verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pixelsleuth.records import Face, Verdict
from pixelsleuth.scoring.calibration import SLICE, Calibration, slice_name
from pixelsleuth.scoring.combination import volume_scores
from pixelsleuth.scoring.complexity import laplacian_variance
from pixelsleuth.scoring.origins import Promise

#: Distance of the nose from the middle between the eyes, along their line, in distances between the eyes: about 1%
#: of calibration faces are turned further; a profile has 1 or more.
MAX_TURN = 0.75
#: Variance of the Laplacian at 128 px: of calibration faces less than 1% are as blurred.
MIN_SHARPNESS = 6.0
#: A re-encoding is tried only where p is within this factor of the rate.
NEAR_RATE = 3.0


@dataclass(frozen=True)
class Judgement:
    """One input's p-values and verdict. Made by `judgement`.

    Attributes:
        rate: what they are held against.
        p_tracks: p-values of each track; p_value: of the input.
        verdicts: of each track; verdict: of the input; `reasons` and `reason`: why these are `unsure`, else None.
        counted: numbers of the tracks that the input's verdict rests on.
    """

    rate: float
    p_tracks: Sequence[float]
    p_value: float
    verdicts: Sequence[Verdict]
    reasons: Sequence[dict[str, str] | None]
    verdict: Verdict
    reason: dict[str, str] | None = None
    counted: Sequence[int] = ()

    @property
    def decisive(self) -> int:
        """Number of the most unusual track among those that count."""
        return min(self.counted, key=lambda number: self.p_tracks[number])

    @property
    def near(self) -> bool:
        """Whether any verdict could turn over under a mild re-encoding."""
        return self.verdict != "not_applicable" and any(_near(p, self.rate) for p in (self.p_value, *self.p_tracks))

    def overruled(self, verdict: Verdict, reason: dict[str, str]) -> Judgement:
        """This judgement, where the input itself forbids another verdict, of whatever score."""
        count = len(self.verdicts)
        return replace(self, verdict=verdict, reason=reason, verdicts=[verdict] * count, reasons=[reason] * count)

    def doubted(self, again: Judgement, encoding: str) -> Judgement:
        """This judgement, with what turned over in `again`, the one of the re-encoded input, become `unsure`."""
        if self.verdict == "unsure":
            return self
        both = list(zip(self.p_tracks, again.p_tracks, strict=True))
        reasons = [
            old or (_unstable(*p, self.rate, encoding) if _turned(*p, self.rate) else None)
            for p, old in zip(both, self.reasons, strict=True)
        ]
        verdicts: list[Verdict] = [
            "unsure" if reason else old for reason, old in zip(reasons, self.verdicts, strict=True)
        ]
        doubted = replace(self, verdicts=verdicts, reasons=reasons)
        if not _turned(self.p_value, again.p_value, self.rate):
            return doubted
        return replace(doubted, verdict="unsure", reason=_unstable(self.p_value, again.p_value, self.rate, encoding))


def p_values(
    calibration: Calibration,
    kind: str,
    tracks: Sequence[range],
    scores: Mapping[str, np.ndarray],
    promise: Promise = "calibration",
    encoding: str = "original",
) -> tuple[list[list[float]], list[float]]:
    """p-values of the crops of an input, by track, and of its tracks.

    Args:
        kind: of the input: `image`, `video` or `volume`.
        tracks: which rows of the scores are whose.
        scores: name -> (n,) of all crops.
        promise: which images p is valid for; of a volume the first is the only one.
        encoding: of the calibration scores that p is among.
    """
    values = scores[calibration.score]
    if kind == "volume":
        of_slices = slice_name(encoding)
        p_crops = [[calibration.p_value(float(values[i]), of_slices) for i in rows] for rows in tracks]
        if calibration.about["unit"] == SLICE:
            return p_crops, of_tracks(p_crops, kind)
        return p_crops, [calibration.p_value(volume_scores(scores)[calibration.score], encoding)]
    p = calibration.p_by(promise)
    p_crops = [[p(float(values[i]), encoding) for i in rows] for rows in tracks]
    return p_crops, of_tracks(p_crops, kind)


def judgement(p_tracks: Sequence[float], rate: float, limits: Sequence[dict[str, str] | None] = ()) -> Judgement:
    """Of the p-values of an input's tracks.

    Args:
        limits: of each track, why it cannot be judged surely (see `limit_of`), or None. A limited track is `unsure`,
            and does not count beside one that is not; where all are limited, the input is `unsure`.
    """
    limits = limits or [None] * len(p_tracks)
    counted = [number for number, limit in enumerate(limits) if limit is None] or list(range(len(p_tracks)))
    p_value = of_input(p_tracks, counted)
    verdicts: list[Verdict] = [
        "unsure" if limit else "anomalous" if p <= rate else "normal" for p, limit in zip(p_tracks, limits, strict=True)
    ]
    whole: Verdict = "anomalous" if p_value <= rate else "normal"
    found = Judgement(rate, p_tracks, p_value, verdicts, limits, whole, counted=counted)
    limit = limits[found.decisive]
    return found if limit is None else replace(found, verdict="unsure", reason=limit)


def of_tracks(p_crops: Sequence[Sequence[float]], kind: str) -> list[float]:
    """Of each track of frames or slices twice the mean of theirs, valid under any dependence (Vovk & Wang 2020)."""
    return [ps[0] if kind == "image" else min(1.0, 2 * float(np.mean(ps))) for ps in p_crops]


def of_input(p_tracks: Sequence[float], counted: Sequence[int]) -> float:
    """Of m faces or tracks m times the smallest (Bonferroni)."""
    return min(1.0, len(counted) * min(p_tracks[number] for number in counted))


def limit_of(face: Face, square: np.ndarray) -> dict[str, str] | None:
    """Why a face lies beyond nearly all that the model was calibrated on, as a reason with code and sentence: turned
    away from the camera, or blurred; None where it does not.

    Args:
        square: (128, 128, 3) uint8, or of the size the VQ-VAE sees.
    """
    if face.landmarks:
        left, right, nose = (np.array(p) for p in face.landmarks[:3])
        across = right - left
        span = max(float(across @ across), 1e-9)
        if abs(float((nose - (left + right) / 2) @ across) / span) > MAX_TURN:
            return {
                "code": "turned_away",
                "sentence": "the face is seen from the side, as hardly any that the model was calibrated on; look for "
                "a picture that shows it from the front",
            }
    if laplacian_variance(square) < MIN_SHARPNESS:
        return {
            "code": "blurred",
            "sentence": "the face is blurred beyond nearly all that the model was calibrated on; look for a sharper "
            "picture",
        }
    return None


def _unstable(p: float, again: float, rate: float, encoding: str) -> dict[str, str]:
    how = {
        "jpeg_90": "the picture is saved again as a JPEG of quality 90",
        "resize_0.9": "the picture is shrunk to 90%",
        "rescaled_0.9": "the slices are shrunk to 90% and enlarged again",
        "shifted_0.5": "the slices are moved by half a pixel",
    }
    return {
        "code": "unstable",
        "sentence": f"the answer changes when {how[encoding]}: p goes from {_held(p, rate)} to {_held(again, rate)}; "
        f"the threshold is {rate:g}",
    }


def _held(p: float, rate: float) -> str:
    return f"{p:.3g} ({'unusual' if p <= rate else 'not unusual'})"


def _near(p: float, rate: float) -> bool:
    return rate / NEAR_RATE <= p <= rate * NEAR_RATE


def _turned(p: float, again: float, rate: float) -> bool:
    return _near(p, rate) and (again <= rate) != (p <= rate)
