"""A plain variational auto-encoder (Kingma & Welling 2014): the baseline that Marimont & Tarroni 2021 compare with.

One dense latent vector an image; what it cannot reconstruct is called anomalous. It takes no part in any verdict.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.models.configuration import VAEConfig
from pixelsleuth.models.share import Share

#: Standard deviation of the reconstruction, in [0, 1], that weighs it against the prior.
NOISE = 0.1


class VAE(nn.Module):
    """See the module's text."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        widths, side = config.widths, config.size // 2 ** len(config.widths)
        down: list[nn.Module] = []
        for here, there in pairwise((config.channels, *widths)):
            down += [nn.Conv2d(here, there, 4, stride=2, padding=1), nn.GroupNorm(8, there), nn.SiLU()]
        up: list[nn.Module] = []
        for here, there in pairwise((*reversed(widths), widths[0])):
            up += [nn.ConvTranspose2d(here, there, 4, stride=2, padding=1), nn.GroupNorm(8, there), nn.SiLU()]
        self.shape = (widths[-1], side, side)
        flat = widths[-1] * side * side
        self.down = nn.Sequential(*down)
        self.code = nn.Linear(flat, 2 * config.latents)
        self.start = nn.Linear(config.latents, flat)
        self.up = nn.Sequential(*up, nn.Conv2d(widths[0], config.channels, 3, padding=1))

    def loss(self, image: Tensor, share: Share | None = None) -> Tensor:
        """Negative evidence lower bound in nats an image, with a Gaussian likelihood of deviation `NOISE`; image (B, C,
        H, W) float32 in [0, 1]; `share` as of `Prior.loss`."""
        share = share or Share.whole(len(image))
        mean, log_variance = self.code(self.down(image * 2 - 1).flatten(1)).float().chunk(2, 1)
        drawn = mean + share.randn(mean.shape[1], device=mean.device) * (log_variance / 2).exp()
        squared = F.mse_loss(self._decoded(drawn), image, reduction="none").sum((1, 2, 3))
        return (squared / (2 * NOISE**2) + _divergence(mean, log_variance)).mean() * share.weight

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1] -> the decoded mean of its posterior, not clamped, and (B,) the divergence of the
        posterior from the prior in nats."""
        mean, log_variance = self.code(self.down(image * 2 - 1).flatten(1)).float().chunk(2, 1)
        return self._decoded(mean), _divergence(mean, log_variance)

    def reconstruct(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> the decoded mean of its posterior, clamped to [0, 1]."""
        return self.posterior(image)[0].clamp(0, 1)

    def _decoded(self, latents: Tensor) -> Tensor:
        return self.up(self.start(latents).unflatten(1, self.shape)).float() / 2 + 0.5


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B,) Kullback-Leibler divergence from N(0, 1), in nats."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
