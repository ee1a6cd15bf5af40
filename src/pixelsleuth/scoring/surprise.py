"""Sample-wise scores from a prior's surprise; all come from one pass. Higher is more unusual.

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

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsleuth.records import Surprise


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
    return torch.nn.functional.avg_pool2d(F.pad(large, (step // 2,) * 4, mode="replicate"), step, stride=1)[:, 0]
