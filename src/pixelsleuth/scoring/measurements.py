"""From what the networks measure to scores by name; higher is more unusual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pixelsleuth.records import Surprise
from pixelsleuth.scoring.settings import (
    BOTH_TRACKS,
    CENTRE_AND_RIM,
    CENTRE_SMOOTHNESS,
    COMBINED,
    DETECTIVE,
    DETECTIVE_NEAR,
    DETECTIVE_VIEWS,
    TEXT_SCORE,
    TWO_WAY,
    ScoreSettings,
    judge_of,
)
from pixelsleuth.scoring.surprise import surprise_scores

#: Score of a volume: mean of its most unusual slices' scores, this share of them.
TOP_SLICES = 0.25


@dataclass(frozen=True)
class Measurements:
    """What the networks say of a batch before anything is fitted.

    Attributes:
        codes: (B, h, w) int64.
        surprise: prior kind -> its surprise, of the priors that were asked.
        rim: surprise of the masked prior with centre and rim hidden in turn; None where it was not asked.
        two_way: `TWO_WAY` surprise; None where PixelSNAIL was not asked.
        smoothness: (B,) float64, `CENTRE_SMOOTHNESS` before adjustment; None of slices.
        altered: the detective's (B, H / 4, W / 4) logits of places and (B,) logits of images; None without one.
        complexity: (B, F) float64, the features of `complexity`; None of slices.
        near: of a deep detective, the rows (k,) that were looked at from near, (k, h, w) logits of their places and
            (k, 9) of their windows; None where there are none.
    """

    codes: Tensor
    surprise: dict[str, Surprise]
    rim: Surprise | None
    two_way: Surprise | None
    smoothness: np.ndarray | None = None
    complexity: np.ndarray | None = None
    altered: tuple[Tensor, Tensor] | None = None
    near: tuple[np.ndarray, Tensor, Tensor] | None = None

    @property
    def judging(self) -> Surprise:
        """Of the prior that scores, over image and mirror image where that was asked; what a detective sees."""
        return self.two_way or self.surprise[judge_of(self.surprise)]


def raw_scores(seen: Measurements, settings: ScoreSettings) -> dict[str, np.ndarray]:
    """Every score by name before any adjustment for complexity, (B,) float64 each; all from the one pass."""
    scores: dict[str, np.ndarray] = {}
    for kind, surprise in seen.surprise.items():
        found = surprise_scores(surprise, settings.lambda_s[kind], settings.mean_nll[kind])
        for name, values in found.items():
            full = TEXT_SCORE if name == "tail_sum" and kind == judge_of(settings.lambda_s) else f"{kind}_{name}"
            scores[full] = values.double().cpu().numpy()
    if seen.two_way is not None:
        found = surprise_scores(seen.two_way, 0.0, 0.0)
        for name in ("mean_nll", "nll_minus_entropy", "top_sixteenth", "local_max"):
            scores[f"{TWO_WAY}_{name}"] = found[name].double().cpu().numpy()
    if seen.rim is not None:
        scores[CENTRE_AND_RIM] = (seen.rim.nll - seen.rim.entropy).mean((1, 2)).double().cpu().numpy()
    if seen.smoothness is not None:
        scores[CENTRE_SMOOTHNESS] = seen.smoothness
    if seen.altered is not None:
        scores[DETECTIVE] = seen.altered[1].double().cpu().numpy()
    if settings.views_spread and seen.altered is not None:
        scores[DETECTIVE_NEAR] = near_scores(seen)
    return scores


def near_scores(seen: Measurements) -> np.ndarray:
    """(B,) float64, the largest logit of the windows seen from near; not a number without such a view."""
    assert seen.altered is not None
    found = np.full(len(seen.altered[1]), np.nan)
    if seen.near is not None:
        which, _, windows = seen.near
        found[which] = windows.amax(1).double().cpu().numpy()
    return found


def fitted_scores(seen: Measurements, settings: ScoreSettings) -> dict[str, np.ndarray]:
    """`raw_scores`, those adjusted for complexity, and their combination, of what was measured."""
    scores = raw_scores(seen, settings)
    for name, adjustment in settings.adjusted.items():
        if name in scores and seen.complexity is not None:
            scores[f"{name}_adjusted"] = adjustment(scores[name], seen.complexity)
    both = (f"{DETECTIVE}_adjusted", f"{DETECTIVE_NEAR}_adjusted")
    if all(name in scores for name in both):
        far, near = (scores[name] for name in both)
        scores[DETECTIVE_VIEWS] = np.where(np.isnan(near), far, (far + near) / settings.views_spread)
        # A record holds numbers: without a view from near the detective's only one stands in its place.
        for name in (DETECTIVE_NEAR, both[1]):
            stand_in = scores[name.replace(DETECTIVE_NEAR, DETECTIVE)]
            scores[name] = np.where(np.isnan(scores[name]), stand_in, scores[name])
    for whole, parts in ((COMBINED, settings.combined), (BOTH_TRACKS, settings.tracks)):
        if parts and all(name in scores for name in parts):
            scores[whole] = np.sum([scores[name] for name in parts], axis=0) / len(parts) ** 0.5
    return scores


def slice_scores(seen: Measurements, settings: ScoreSettings) -> dict[str, np.ndarray]:
    """Every score of slices by name, (B,) float64 each."""
    kind = judge_of(seen.surprise)
    found = surprise_scores(seen.surprise[kind], settings.lambda_s[kind], 0.0)
    judging = seen.judging
    scores = {
        TEXT_SCORE: found["tail_sum"],
        "mean_nll": judging.nll.mean((1, 2)),
        "nll_minus_entropy": (judging.nll - judging.entropy).mean((1, 2)),
    }
    if seen.altered is not None:
        scores[DETECTIVE] = seen.altered[1]
    return {name: values.double().cpu().numpy() for name, values in scores.items()}


def volume_scores(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Scores of a volume from its slices': Marimont & Tarroni's tail sum is summed, of the others the mean of the most
    unusual quarter is taken."""
    found = {}
    for name, values in scores.items():
        count = max(1, round(TOP_SLICES * len(values)))
        top = float(np.sort(values)[-count:].mean())
        found[name] = float(values.sum()) if name == TEXT_SCORE else top
    return found


def joined(parts: Sequence[Measurements]) -> Measurements:
    """Measurements of several batches as of one."""
    first = parts[0]
    altered = [part.altered for part in parts if part.altered is not None]
    return Measurements(
        torch.cat([part.codes for part in parts]),
        {kind: _surprises([part.surprise[kind] for part in parts]) for kind in first.surprise},
        None if first.rim is None else _surprises([part.rim for part in parts if part.rim]),
        None if first.two_way is None else _surprises([part.two_way for part in parts if part.two_way]),
        None if first.smoothness is None else np.concatenate([p.smoothness for p in parts if p.smoothness is not None]),
        None if first.complexity is None else np.concatenate([p.complexity for p in parts if p.complexity is not None]),
        (torch.cat([places for places, _ in altered]), torch.cat([whole for _, whole in altered])) if altered else None,
        _joined_near(parts),
    )


def _surprises(pieces: Sequence[Surprise]) -> Surprise:
    return Surprise(torch.cat([piece.nll for piece in pieces]), torch.cat([piece.entropy for piece in pieces]))


def _joined_near(parts: Sequence[Measurements]) -> tuple[np.ndarray, Tensor, Tensor] | None:
    first, found = 0, []
    for part in parts:
        if part.near is not None:
            found.append((part.near[0] + first, *part.near[1:]))
        first += len(part.codes)
    if not found:
        return None
    which, places, windows = zip(*found, strict=True)
    return np.concatenate(which), torch.cat(places), torch.cat(windows)
