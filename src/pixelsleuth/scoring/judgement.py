"""Combine the p-values of faces and frames to those of tracks and inputs, and derive verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from pixelsleuth.records import Face, Verdict
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.scoring.calibration import SLICE, Calibration, slice_name
from pixelsleuth.scoring.combination import volume_scores
from pixelsleuth.scoring.complexity import laplacian_variance
from pixelsleuth.scoring.origins import PROMISES, Promise
from pixelsleuth.scoring.scanlooks import model_traits
from pixelsleuth.scoring.scorer import Scores
from pixelsleuth.scoring.typicality import Typicality
from pixelsleuth.sources.samples import Sample
from pixelsleuth.sources.scans.scantraits import scan_traits
from pixelsleuth.sources.traits import traits_of

#: Distance of the nose from the middle between the eyes, along their line, in distances between the eyes: about 1%
#: of calibration faces are turned further; a profile has 1 or more.
MAX_TURN = 0.75
#: Variance of the Laplacian at 128 px: of calibration faces less than 1% are as blurred.
MIN_SHARPNESS = 6.0
#: A re-encoding is tried only where p is within this factor of the rate.
NEAR_RATE = 3.0


class PValues(NamedTuple):
    """p-values of an input by one promise: of the crops of each track, and of its tracks."""

    crops: list[list[float]]
    tracks: list[float]


class Limits(NamedTuple):
    """What forbids a sure verdict on an input: for each track a reason with code and sentence, or None.

    Attributes:
        refused: it is of another kind altogether, and gets no verdict at all.
    """

    reasons: Sequence[dict[str, str] | None]
    refused: bool = False


@dataclass(frozen=True)
class Judgement:
    """One input's p-values and verdict. Made by `judgement`.

    Attributes:
        rate: what they are held against.
        p_tracks: p-values of each track; p_value: of the input.
        verdicts: of each track; verdict: of the input; `reasons` and `reason`: why these are `unsure`, else None.
        counted: numbers of the tracks that the input's verdict rests on.
        promise: the verdicts rest on; promised, p_input: p-values, and those of the input, by each promise that the
            calibration can give.
    """

    rate: float
    p_tracks: Sequence[float]
    p_value: float
    verdicts: Sequence[Verdict]
    reasons: Sequence[dict[str, str] | None]
    verdict: Verdict
    reason: dict[str, str] | None = None
    counted: Sequence[int] = ()
    promised: Mapping[Promise, PValues] = field(default_factory=dict)
    p_input: Mapping[Promise, float] = field(default_factory=dict)
    promise: Promise = "calibration"

    @property
    def decisive(self) -> int:
        """Number of the most unusual track among those that count."""
        return min(self.counted, key=lambda number: self.p_tracks[number])

    @property
    def could_turn(self) -> bool:
        """Whether any verdict could turn over under a mild re-encoding."""
        return self.verdict != "not_applicable" and any(_near(p, self.rate) for p in (self.p_value, *self.p_tracks))

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
    calibration: Calibration, sample: Sample, scores: Scores, encoding: str = "original"
) -> dict[Promise, PValues]:
    """p-values of an input, by each promise that the calibration can give; of a volume the first is the only one.

    Args:
        scores: of its crops.
        encoding: of the calibration scores that p is among.
    """
    values = [[float(scores.scores[calibration.score][i]) for i in rows] for rows in sample.rows]
    if sample.kind == "volume":
        p_slices = [[calibration.p_value(value, slice_name(encoding)) for value in track] for track in values]
        if calibration.about["unit"] == SLICE:
            return {"calibration": PValues(p_slices, _of_tracks(p_slices))}
        whole = volume_scores(scores.scores)[calibration.score]
        return {"calibration": PValues(p_slices, [calibration.p_value(whole, encoding)])}
    found = {}
    for promise in PROMISES if calibration.sources else PROMISES[:1]:
        p_crops = [[calibration.p_value(value, encoding, promise) for value in track] for track in values]
        of_faces = sample.kind == "image"
        found[promise] = PValues(p_crops, [p[0] for p in p_crops] if of_faces else _of_tracks(p_crops))
    return found


def judgement(
    promised: Mapping[Promise, PValues], rate: float, limits: Limits, promise: Promise = "calibration"
) -> Judgement:
    """Judge an input from the p-values of its tracks, under the promise that the verdict rests on.

    Args:
        limits: a limited track is `unsure`, and does not count beside one that is not; where all are limited, the
            input is `unsure`.
    """
    reasons, p_tracks = limits.reasons, promised[promise].tracks
    counted = [number for number, reason in enumerate(reasons) if reason is None] or list(range(len(p_tracks)))
    # Of m faces or tracks m times the smallest (Bonferroni).
    p_input = {
        name: min(1.0, len(counted) * min(p.tracks[number] for number in counted)) for name, p in promised.items()
    }
    verdicts: list[Verdict] = [
        "unsure" if reason else "anomalous" if p <= rate else "normal"
        for p, reason in zip(p_tracks, reasons, strict=True)
    ]
    whole: Verdict = "anomalous" if p_input[promise] <= rate else "normal"
    found = Judgement(
        rate, p_tracks, p_input[promise], verdicts, reasons, whole, None, counted, promised, p_input, promise
    )
    reason = reasons[found.decisive]
    if reason is None:
        return found
    if limits.refused:
        return replace(found, verdict="not_applicable", reason=reason, verdicts=["not_applicable"] * len(verdicts))
    return replace(found, verdict="unsure", reason=reason)


def _of_tracks(p_crops: Sequence[Sequence[float]]) -> list[float]:
    """Of each track of frames or slices twice the mean of theirs, valid under any dependence (Vovk & Wang 2020)."""
    return [min(1.0, 2 * float(np.mean(ps))) for ps in p_crops]


def limits_of(sample: Sample, scores: Scores, usual: Typicality | None, atlas: Atlas | None) -> Limits:
    """Collect what forbids a sure verdict on an input; nothing for videos.

    Args:
        scores: of its crops, of a volume with maps.
        usual: what inputs like those of calibration are like; None where that shall not count.
        atlas: of the model, where it has one.
    """
    if sample.kind == "volume":
        if usual is None:
            return Limits([None])
        cut, maps = sample.slices, scores.maps
        of_model = model_traits(
            cut.pixels, cut.inside, cut.position, atlas, scores.scores["mean_nll"], maps["reconstruction"]
        )
        traits = np.concatenate([scan_traits(sample.volume, cut), of_model])
        return Limits([usual.reason(traits)], usual.far(traits))
    reasons: list[dict[str, str] | None] = []
    for crop, *_ in sample.tracks:
        face, square, reason = crop.face, crop.views.square, None
        if sample.kind == "image" and face.landmarks:
            reason = limit_of(face, square)
            if reason is None and usual is not None:
                encoded = sample.source if isinstance(sample.source, bytes) else None
                reason = usual.reason(traits_of(square, face.box.width, encoded, face.landmarks))
        reasons.append(reason)
    return Limits(reasons)


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
