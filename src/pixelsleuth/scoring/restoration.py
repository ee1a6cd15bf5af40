"""Restorations: resample unlikely codes, decode them, and take the residual map (Marimont & Tarroni 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsleuth.models.prior import Prior
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.scoring import draws

#: k of the weights' softmax (Marimont & Tarroni 2021).
TEMPERATURE = 3.0
#: Smallest mean residual, on the scale of [-1, 1], that a weight is computed from: a perfect restoration
#: would otherwise get an infinite one.
MIN_RESIDUAL = 1e-3


@dataclass(frozen=True)
class Restored:
    """Restorations of a batch.

    Attributes:
        codes: (B, S, h, w) int64.
        mean: (B, C, H, W) float32 in [0, 1], the weighted mean restoration.
        weights: (B, S) float32, sum 1.
        effective: (B,) float32 in [1, S], the effective number of restorations 1 / sum w^2.
        residual: (B, H, W) float32 in [0, 1], the weighted mean over restorations, and over channels, of
            |X - restoration|, before pooling.
        replaced: (B,) float32 in [0, 1], mean share of codes that differ from the input's.
    """

    codes: Tensor
    mean: Tensor
    weights: Tensor
    effective: Tensor
    residual: Tensor
    replaced: Tensor


@torch.no_grad()
def restore(
    image: Tensor,
    codes: Tensor,
    vqvae: VQVAE,
    prior: Prior,
    keys: Sequence[str],
    *,
    restorations: int,
    above: float | None = None,
    where: Tensor | None = None,
    scalars: Tensor | None = None,
    k: float = TEMPERATURE,
) -> Restored:
    """Draw `restorations` restorations of each image and weigh them.

    Weights: w_j = softmax_j(k / mean|Y - X_j|), Y the input itself, the mean over pixels and channels on the
    intensity scale of [-1, 1] (Marimont & Tarroni 2021, section 2.3).

    Args:
        image: (B, C, H, W) float32 in [0, 1].
        codes: (B, h, w) int64.
        keys: of the random draws, see `draws.uniforms`.
        above: codes whose surprise in nats exceeds this are drawn anew; or
        where: (B, h, w) bool, the codes to draw anew.
        scalars: (B, n) float32, what networks that were built for it are told beside the images; none unless given.
    """
    batch, grid = len(codes), (int(codes.shape[1]), int(codes.shape[2]))
    drawing = torch.from_numpy(draws.uniforms(keys, restorations, grid)).to(codes.device)
    drawn = prior.resample(codes, drawing, where=where, above=above, scalars=scalars)
    about = None if scalars is None else scalars.repeat_interleave(restorations, 0)
    decoded = vqvae.decode(drawn.flatten(0, 1), about).view(batch, restorations, *image.shape[1:])
    distance = (decoded - image[:, None]).abs()
    weights = restoration_weights(distance.mean((2, 3, 4)) * 2, k)
    spread = weights[:, :, None, None, None]
    return Restored(
        drawn,
        (decoded * spread).sum(1),
        weights,
        1 / (weights**2).sum(1),
        (distance * spread).sum(1).mean(1),
        (drawn != codes[:, None]).float().mean((1, 2, 3)),
    )


def restoration_weights(residual: Tensor, k: float) -> Tensor:
    """(B, S) mean residuals on the scale of [-1, 1] -> (B, S) weights, softmax of k / residual.

    >>> restoration_weights(torch.tensor([[0.1, 0.1]]), 3.0)
    tensor([[0.5000, 0.5000]])
    """
    return (k / residual.clamp_min(MIN_RESIDUAL)).softmax(1)


def pooled(residual: Tensor) -> Tensor:
    """(B, H, W) -> (B, H, W): 3x3 min-pool, then 7x7 average-pool, borders replicated."""
    x = F.pad(residual[:, None], (1, 1, 1, 1), mode="replicate")
    x = -F.max_pool2d(-x, 3, stride=1)
    x = F.pad(x, (3, 3, 3, 3), mode="replicate")
    return F.avg_pool2d(x, 7, stride=1)[:, 0]
