"""The detective: a light network taught on self-made forgeries, normal images only.

It sees the image, what the VQ-VAE could not reconstruct of it, and the prior's surprise, and says how likely each
place, and the image, was altered. Face X-ray (Li et al. 2020) and self-blended images (Shiohara & Yamasaki 2022) teach
in this way; here the forger also owns a VQ-VAE and a prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.models.vqvae import Residual
from pixelsleuth.records import Surprise

#: Pixels of the image for one of the map's, in each direction.
MAP_STRIDE = 4


@dataclass(frozen=True)
class DetectiveConfig:
    """Architecture of a detective.

    Attributes:
        width: channels at half the image's resolution; twice and three times as many below.
        residual, surprise: whether it sees them.
    """

    width: int = 32
    residual: bool = True
    surprise: bool = True


class Detective(nn.Module):
    """See the module's text."""

    def __init__(self, config: DetectiveConfig) -> None:
        super().__init__()
        self.config = config
        near, middle, deep = config.width, 2 * config.width, 3 * config.width
        channels = (6 if config.residual else 3) * 4
        self.fine = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(channels, near, 3, padding=1), Residual(near))
        self.middle = nn.Sequential(nn.Conv2d(near, middle, 2, stride=2), Residual(middle), Residual(middle))
        self.down = nn.Conv2d(middle, deep, 2, stride=2)
        self.surprise = nn.Conv2d(2, deep, 1) if config.surprise else None
        self.deep = nn.Sequential(Residual(deep), Residual(deep), Residual(deep))
        self.up = nn.Conv2d(deep, middle, 1)
        self.join = Residual(middle)
        self.place = nn.Conv2d(middle, 1, 1)
        self.whole = nn.Sequential(nn.Linear(2 * deep + 2, deep), nn.SiLU(), nn.Linear(deep, 1))

    def forward(self, image: Tensor, made: Tensor, surprise: Surprise) -> tuple[Tensor, Tensor]:
        """How likely it was altered, in logits.

        Args:
            image: (B, 3, H, W) float32 in [0, 1].
            made: its reconstruction, likewise.
            surprise: of its codes, (B, h, w).

        Returns:
            (B, H / 4, W / 4) logits of places, and (B,) of images.
        """
        seen = image * 2 - 1
        if self.config.residual:
            # Residuals are small; in the image's own range they would begin unseen.
            seen = torch.cat([seen, (image - made) * 8], 1)
        middle = self.middle(self.fine(seen))
        x = self.down(middle)
        if self.surprise is not None:
            # Nats of a few; brought to about one.
            felt = torch.stack([surprise.nll, surprise.entropy], 1) / 4 - 1
            x = x + F.interpolate(self.surprise(felt), x.shape[2:])
        deep = self.deep(x)
        places = self.place(self.join(middle + F.interpolate(self.up(deep), scale_factor=2.0)))[:, 0].float()
        flat = places.flatten(1)
        top = flat.topk(max(1, flat.shape[1] // 64), dim=1).values.mean(1)
        about = torch.stack([flat.logsumexp(1) - 7, top], 1)
        pooled = torch.cat([deep.float().mean((2, 3)), deep.float().amax((2, 3)), about], 1)
        return places, self.whole(pooled)[:, 0].float()
