"""The protocol that every prior over code grids implements, and functions the priors share."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pixelsleuth.models.configuration import PriorConfig
from pixelsleuth.models.share import Share
from pixelsleuth.records import Surprise


class Prior(Protocol):
    """A distribution over code grids of normal images. What it knows of an image beside its codes are `scalars`
    (B, `context`) float32, such as the position of a slice; one that was built for none looks at none.

    `log_prob` gives the surprise and entropy of every code; `resample` draws chosen codes anew; `sample` draws all.
    """

    config: PriorConfig

    def loss(self, codes: Tensor, scalars: Tensor | None = None, share: Share | None = None) -> Tensor:
        """Mean NLL in nats a code over the codes that this step predicts, a scalar.

        Args:
            share: which part of a batch these are; the mean of the losses over processes is that of the batch.
        """
        ...

    def log_prob(self, codes: Tensor, scalars: Tensor | None = None) -> Surprise:
        """(B, h, w) int64 -> surprise and entropy of every code, each (B, h, w) float32."""
        ...

    def resample(
        self,
        codes: Tensor,
        uniforms: Tensor,
        *,
        where: Tensor | None = None,
        above: float | None = None,
        scalars: Tensor | None = None,
    ) -> Tensor:
        """Draw codes anew at temperature 1, S times for each image, and leave the rest as they are.

        Args:
            codes: (B, h, w) int64.
            uniforms: (B, S, h, w) float in [0, 1): the draw at each place of each copy, turned into a code by the
                inverse of the conditional distribution, so that an answer does not depend on the batch.
            where: (B, h, w) bool, the codes to draw; or
            above: draw the codes whose surprise in nats exceeds this.

        Returns:
            (B, S, h, w) int64.
        """
        ...

    def sample(self, uniforms: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Codes of images that never were: (B, h, w) float in [0, 1), used as in `resample` -> (B, h, w) int64."""
        ...


def surprise_of(logits: Tensor, codes: Tensor) -> Surprise:
    """(B, K, h, w) logits and (B, h, w) codes -> surprise and entropy in nats."""
    # Over the last dimension it is faster where channels lie last in memory, as both priors' do.
    log_p = logits.float().permute(0, 2, 3, 1).log_softmax(3)
    nll = -log_p.gather(3, codes[..., None])[..., 0]
    return Surprise(nll, -(log_p.exp() * log_p).sum(3))


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse-CDF draw: (..., K) logits and (...) uniforms in [0, 1) -> (...) int64 codes.

    >>> draw(torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor(0.6))
    tensor(1)
    """
    cumulative = logits.double().softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(cumulative, uniforms.double()[..., None].contiguous(), right=True)
    return drawn[..., 0].clamp_max(logits.shape[-1] - 1)


def told(config: PriorConfig, scalars: Tensor | None, codes: Tensor) -> Tensor:
    """(B, `context`) float32: what a prior is told of (B, h, w) codes beside them. None of it where it was built for
    none, whatever `scalars` (B, n) there are.

    Raises:
        ValueError: it was built for scalars, and got none or as many as another.
    """
    if not config.context:
        return torch.zeros(codes.shape[0], 0, device=codes.device)
    if scalars is None or scalars.shape != (codes.shape[0], config.context):
        got = "none" if scalars is None else tuple(scalars.shape)
        raise ValueError(f"scalars: expected {(codes.shape[0], config.context)}, got {got}")
    return scalars
