"""Turn what the networks measure into named scores and the map of surprise; higher is more unusual.

Of each prior's surprise, all from one pass:

| name | what |
| --- | --- |
| `tail_sum` | sum of NLL over codes with NLL > lambda_s: Marimont & Tarroni's score |
| `mean_nll` | mean NLL |
| `nll_minus_entropy` | mean of NLL - entropy, after ZED (Cozzolino et al. 2024) |
| `typicality` | |mean NLL - its mean on normal pictures|, two-sided (Nalisnick et al. 2019b) |
| `top_sixteenth` | mean of the largest sixteenth of NLL - entropy |
| `local_max` | largest 3x3 mean of NLL - entropy |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsleuth.records import Surprise
from pixelsleuth.scoring.combination import with_combined
from pixelsleuth.scoring.settings import (
    CENTRE_AND_RIM,
    CENTRE_SMOOTHNESS,
    DETECTIVE,
    DETECTIVE_NEAR,
    TAIL_SUM,
    TWO_WAY,
    ScoreSettings,
    scoring_prior,
)


@dataclass(frozen=True)
class Measurements:
    """The networks' results for a batch, before anything is fitted.

    Attributes:
        codes: (B, h, w) int64.
        surprise: prior kind -> its surprise, of the priors that were asked.
        two_way: `TWO_WAY` surprise; None where PixelSNAIL was not asked.
        rim: surprise of the masked prior with centre and rim hidden in turn; None where it was not asked.
        smoothness: (B,) float64, `CENTRE_SMOOTHNESS` before adjustment; None of slices.
        altered: the detective's (B, H / 4, W / 4) logits of places and (B,) logits of images; None without one.
        complexity: (B, F) float64, the features of `complexity`; None of slices.
        near: of a deep detective, the rows (k,) int64 that were looked at from near, (k, h, w) logits of their
            places and (k, 9) of their windows; None where there are none.
        appearance: of a deep detective, (B, F) float32, see `DeepDetective.seen`; None without one.
    """

    codes: Tensor
    surprise: dict[str, Surprise]
    two_way: Surprise | None = None
    rim: Surprise | None = None
    smoothness: Tensor | None = None
    complexity: np.ndarray | None = None
    altered: tuple[Tensor, Tensor] | None = None
    near: tuple[Tensor, Tensor, Tensor] | None = None
    appearance: Tensor | None = None

    @property
    def judging(self) -> Surprise:
        """The surprise of the prior that scores, averaged over the mirror image where that was asked for; also what a
        detective sees."""
        return self.two_way or self.surprise[scoring_prior(self.surprise)]


def tail_sum(nll: Tensor, lambda_s: float) -> Tensor:
    """Sum of the NLL of codes whose NLL exceeds `lambda_s` (Marimont & Tarroni's AS_sample): (B, h, w) -> (B,).

    >>> tail_sum(torch.tensor([[[1.0, 8.0], [9.0, 7.0]]]), 7.0)
    tensor([17.])
    """
    return torch.where(nll > lambda_s, nll, torch.zeros_like(nll)).sum((1, 2))


def surprise_scores(surprise: Surprise, lambda_s: float, mean_nll: float) -> dict[str, Tensor]:
    """Every score of the module's table, (B,) float32 each.

    Args:
        lambda_s: Marimont & Tarroni's threshold in nats, a quantile over normal codes.
        mean_nll: mean NLL of normal pictures in nats, for `typicality`.
    """
    mean = surprise.nll.mean((1, 2))
    less = surprise.nll - surprise.entropy
    top = less.flatten(1).topk(max(1, less[0].numel() // 16), dim=1).values
    local = F.avg_pool2d(less[:, None], 3, stride=1)[:, 0]
    return {
        "tail_sum": tail_sum(surprise.nll, lambda_s),
        "mean_nll": mean,
        "nll_minus_entropy": less.mean((1, 2)),
        "typicality": (mean - mean_nll).abs(),
        "top_sixteenth": top.mean(1),
        "local_max": local.flatten(1).amax(1),
    }


def surprise_map(surprise: Surprise, size: tuple[int, int]) -> Tensor:
    """NLL - entropy brought from (B, h, w) to (B, H, W) bilinearly and smoothed over one code; nats."""
    less = (surprise.nll - surprise.entropy)[:, None]
    large = F.interpolate(less, size=size, mode="bilinear", align_corners=False)
    step = max(1, size[0] // less.shape[2]) | 1
    return F.avg_pool2d(F.pad(large, (step // 2,) * 4, mode="replicate"), step, stride=1)[:, 0]


def raw_scores(seen: Measurements, settings: ScoreSettings) -> dict[str, np.ndarray]:
    """Every score by name before any adjustment for complexity, (B,) float64 each; all from the one pass."""
    return {name: values.double().cpu().numpy() for name, values in raw_tensors(seen, settings).items()}


def raw_tensors(seen: Measurements, settings: ScoreSettings) -> dict[str, Tensor]:
    """`raw_scores` on the networks' device, (B,) each, in the type in which they are computed."""
    scores: dict[str, Tensor] = {}
    for kind, surprise in seen.surprise.items():
        found = surprise_scores(surprise, settings.lambda_s[kind], settings.mean_nll[kind])
        for name, values in found.items():
            full = TAIL_SUM if name == "tail_sum" and kind == scoring_prior(settings.lambda_s) else f"{kind}_{name}"
            scores[full] = values
    if seen.two_way is not None:
        found = surprise_scores(seen.two_way, 0.0, 0.0)
        for name in ("mean_nll", "nll_minus_entropy", "top_sixteenth", "local_max"):
            scores[f"{TWO_WAY}_{name}"] = found[name]
    if seen.rim is not None:
        scores[CENTRE_AND_RIM] = (seen.rim.nll - seen.rim.entropy).mean((1, 2))
    if seen.smoothness is not None:
        scores[CENTRE_SMOOTHNESS] = seen.smoothness
    if seen.altered is not None:
        scores[DETECTIVE] = seen.altered[1]
    if settings.views_spread and seen.altered is not None:
        scores[DETECTIVE_NEAR] = near_scores(seen)
    return scores


def near_scores(seen: Measurements) -> Tensor:
    """(B,) float32, the largest logit of the windows seen from near; not a number without such a view."""
    assert seen.altered is not None
    found = torch.full_like(seen.altered[1], torch.nan)
    if seen.near is None:
        return found
    which, _, windows = seen.near
    return found.index_copy(0, which, windows.amax(1))


def fitted_scores(seen: Measurements, settings: ScoreSettings) -> dict[str, np.ndarray]:
    """`raw_scores`, those adjusted for complexity, and their combination, of what was measured of images."""
    assert seen.complexity is not None, "images have complexity"
    return with_combined(raw_scores(seen, settings), seen.complexity, settings)


def centre_of(grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """(h, w) bool, the middle five eighths in each direction: of a face crop the face, without hair and background."""
    row, column = ((torch.arange(side, device=device) - (side - 1) / 2).abs() < side * 5 / 16 for side in grid)
    return row[:, None] & column[None, :]


def centre_smoothness(luma: Tensor, centre: Tensor) -> Tensor:
    """(B,) float64 of (B, H, W) luma in [0, 1]: `local_sharpness` of the rim less that of the centre, (h, w) bool."""
    sharpness = local_sharpness(luma, (int(centre.shape[0]), int(centre.shape[1]))).flatten(1)
    inner = centre.flatten().double()
    rim = 1 - inner
    return (sharpness * rim).sum(1) / rim.sum() - (sharpness * inner).sum(1) / inner.sum()


def local_sharpness(luma: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, H, W) luma in [0, 1] -> (B, h, w) float64, log of the mean squared 5-point Laplacian in each code's cell,
    borders replicated. 1e-6 is added: below it lies what 8 bits round away."""
    wide = F.pad(luma.double()[:, None], (1, 1, 1, 1), mode="replicate")
    around = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
    squared = (around - 4 * wide[..., 1:-1, 1:-1]) ** 2
    cells = squared[:, 0].unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1))
    return (cells.mean((2, 4)) + 1e-6).log()


def slice_scores(seen: Measurements, settings: ScoreSettings) -> dict[str, np.ndarray]:
    """Every score of slices by name, (B,) float64 each."""
    return {name: values.double().cpu().numpy() for name, values in slice_tensors(seen, settings).items()}


def slice_tensors(seen: Measurements, settings: ScoreSettings) -> dict[str, Tensor]:
    """`slice_scores` on the networks' device, (B,) each, in the type in which they are computed."""
    kind = scoring_prior(seen.surprise)
    found = surprise_scores(seen.surprise[kind], settings.lambda_s[kind], 0.0)
    judging = seen.judging
    scores = {
        TAIL_SUM: found["tail_sum"],
        "mean_nll": judging.nll.mean((1, 2)),
        "nll_minus_entropy": (judging.nll - judging.entropy).mean((1, 2)),
    }
    if seen.altered is not None:
        scores[DETECTIVE] = seen.altered[1]
    return scores


def joined(parts: Sequence[Measurements]) -> Measurements:
    """Measurements of several batches as of one."""
    first = parts[0]
    altered = [part.altered for part in parts if part.altered is not None]
    return Measurements(
        torch.cat([part.codes for part in parts]),
        {kind: _surprises([part.surprise[kind] for part in parts]) for kind in first.surprise},
        None if first.rim is None else _surprises([part.rim for part in parts if part.rim]),
        None if first.two_way is None else _surprises([part.two_way for part in parts if part.two_way]),
        None if first.smoothness is None else torch.cat([p.smoothness for p in parts if p.smoothness is not None]),
        None if first.complexity is None else np.concatenate([p.complexity for p in parts if p.complexity is not None]),
        (torch.cat([places for places, _ in altered]), torch.cat([whole for _, whole in altered])) if altered else None,
        _joined_near(parts),
    )


def _surprises(pieces: Sequence[Surprise]) -> Surprise:
    return Surprise(torch.cat([piece.nll for piece in pieces]), torch.cat([piece.entropy for piece in pieces]))


def _joined_near(parts: Sequence[Measurements]) -> tuple[Tensor, Tensor, Tensor] | None:
    first, found = 0, []
    for part in parts:
        if part.near is not None:
            found.append((part.near[0] + first, *part.near[1:]))
        first += len(part.codes)
    if not found:
        return None
    which, places, windows = zip(*found, strict=True)
    return torch.cat(which), torch.cat(places), torch.cat(windows)
