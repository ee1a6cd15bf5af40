"""The detective: a network trained on synthetic forgeries of normal images; it says how likely each place, and the
image, was altered. Training follows Face X-ray (Li et al. 2020) and self-blended images (Shiohara & Yamasaki 2022).

The light one sees the image, what the VQ-VAE could not reconstruct of it, the prior's surprise, and how much fine
detail each place holds; it is learnt from nothing, on scans or faces. The deep one sees the image alone, through a
trunk that has learnt from photographs before.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.models.backbone import CHANNELS, EfficientNetLite
from pixelsleuth.models.configuration import MAX_Z, DetectiveConfig
from pixelsleuth.models.vqvae import Residual
from pixelsleuth.records import Surprise

#: Pixels of the image, as the VQ-VAE sees it, for one of the map's, in each direction.
MAP_STRIDE = 4
#: Floor of a mean squared difference in [0, 1] units: about the variance of 8-bit rounding, 1 / (12 * 255^2) = 1.3e-6.
EPSILON = 1e-6


class Detective(nn.Module):
    """See the module's text."""

    def __init__(self, config: DetectiveConfig) -> None:
        super().__init__()
        self.config = config
        near, middle, deep = config.width, 2 * config.width, 3 * config.width
        halved = config.residual + config.mirror + config.atlas
        channels = config.channels * (config.cell**2 + 4 * halved + 3 * config.detail)
        # Numbered from 1, as models were saved whose step before was one of this list.
        self.fine = nn.Sequential(OrderedDict([("1", nn.Conv2d(channels, near, 3, padding=1)), ("2", Residual(near))]))
        self.middle = nn.Sequential(nn.Conv2d(near, middle, 2, stride=2), Residual(middle), Residual(middle))
        self.down = nn.Conv2d(middle, deep, 2, stride=2)
        self.surprise = nn.Conv2d(2, deep, 1) if config.surprise else None
        self.deep = nn.Sequential(Residual(deep), Residual(deep), Residual(deep))
        self.up = nn.Conv2d(deep, middle, 1)
        self.join = Residual(middle)
        self.place = nn.Conv2d(middle, 1, 1)
        self.whole = nn.Sequential(nn.Linear(2 * deep + 2, deep), nn.SiLU(), nn.Linear(deep, 1))

    def forward(
        self,
        image: Tensor,
        made: Tensor,
        surprise: Surprise,
        close: Tensor | None = None,
        usual: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """How likely it was altered, in logits.

        Args:
            image: (B, C, H, W) float32 in [0, 1].
            made: its reconstruction, likewise.
            surprise: of its codes, (B, h, w).
            close: the same square at `scale` times the side, (B, C, scale H, scale W); the image itself at scale 1.
            usual: (B, C, H, W) float32, standard scores against the atlas, where it was built for them.

        Returns:
            (B, H / 4, W / 4) logits of places, and (B,) of images.
        """
        close = image if close is None else close
        if close.shape[2] != self.config.scale * image.shape[2]:
            raise ValueError(
                f"close: expected {self.config.scale} times the image's {image.shape[2]} px, got {close.shape[2]}"
            )
        seen = [F.pixel_unshuffle(close * 2 - 1, self.config.cell)]
        if self.config.residual:
            # Residuals are small; in the image's own range they would begin unseen.
            seen.append(F.pixel_unshuffle((image - made) * 8, 2))
        if self.config.detail:
            # Picture by picture: its planes stay in the processor's cache, seven times as fast as a batch at once.
            # A graph holds no loop over a batch.
            parts = [close] if torch.compiler.is_exporting() else close.split(1)
            seen.append(torch.cat([local_detail(one, self.config.cell) for one in parts]))
        if self.config.mirror:
            seen.append(F.pixel_unshuffle((image - image.flip(3)) * 2, 2))
        if self.config.atlas:
            if usual is None:
                raise ValueError("usual: expected standard scores against the atlas, got none")
            seen.append(F.pixel_unshuffle(usual.clamp(-MAX_Z, MAX_Z) / 3, 2))
        middle = self.middle(self.fine(torch.cat(seen, 1)))
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


#: Pixels of what the deep detective sees for one of its map's, in each direction.
DEEP_STRIDE = 8


class DeepDetective(nn.Module):
    """See the module's text."""

    def __init__(self, config: DetectiveConfig) -> None:
        super().__init__()
        self.config = config
        width = 64
        self.trunk = EfficientNetLite()
        self.near = nn.Conv2d(CHANNELS[0], width, 1)
        self.middle = nn.Conv2d(CHANNELS[1], width, 1)
        self.deep = nn.Conv2d(CHANNELS[2], width, 1)
        self.join = Residual(width)
        self.place = nn.Conv2d(width, 1, 1)
        self.dropout = nn.Dropout(0.2)
        self.whole = nn.Linear(CHANNELS[2] + 2, 1)

    def forward(
        self,
        image: Tensor,
        made: Tensor | None = None,
        surprise: Surprise | None = None,
        close: Tensor | None = None,
        usual: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """How likely it was altered, in logits; as `Detective.forward`, of which only the image is looked at.

        Args:
            image: (B, 3, H, W) float32 in [0, 1], not looked at where `close` is given.
            close: (B, 3, S, S), the same square at the detective's size.

        Returns:
            (B, S / 8, S / 8) logits of places, and (B,) of images.
        """
        places, whole, _ = self.seen(image if close is None else close)
        return places, whole

    def seen(self, square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, of (B, 3, S, S) float32 squares at the detective's size; and (B, F) float32, how they look:
        mean and standard deviation over places of each of the trunk's features at strides 8 and 16."""
        places, deep, early = self._places(square)
        looks = [part.float().flatten(2) for part in early]
        appearance = torch.cat([figure for part in looks for figure in (part.mean(2), part.std(2))], 1)
        return places, self._verdict(places.flatten(1), deep.mean((2, 3))), appearance

    def windows(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """The same of squares looked at from near, at twice the size: each of nine windows of the detective's own size,
        which overlap by half, is judged alone, from features that are computed once.

        Args:
            near: (B, 3, 2 S, 2 S) float32 in [0, 1].

        Returns:
            (B, 2 S / 8, 2 S / 8) logits of places, and (B, 9) of windows.
        """
        places, deep, _ = self._places(near)
        side, step = places.shape[1] // 2, places.shape[1] // 4
        cells, stride = deep.shape[2] // 2, deep.shape[2] // 4
        means = F.avg_pool2d(deep, cells, stride).flatten(2)
        found = []
        for number in range(9):
            y, x = (step * (number // 3), step * (number % 3))
            part = places[:, y : y + side, x : x + side].flatten(1)
            found.append(self._verdict(part, means[:, :, number]))
        return places, torch.stack(found, 1)

    def _places(self, image: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """(B, H / 8, W / 8) logits, the trunk's last features (B, 1280, H / 32, W / 32) float32, and those before at
        strides 8 and 16."""
        near, middle, deep = self.trunk(image)
        size = near.shape[2:]
        joined = self.near(near)
        for layer, features in ((self.middle, middle), (self.deep, deep)):
            joined = joined + F.interpolate(layer(features), size, mode="bilinear", align_corners=False)
        return self.place(self.join(joined))[:, 0].float(), deep.float(), (near, middle)

    def _verdict(self, places: Tensor, mean: Tensor) -> Tensor:
        """(B,) logits from logits of places (B, n) and the mean features (B, 1280)."""
        top = places.topk(max(1, places.shape[1] // 32), dim=1).values.mean(1)
        about = torch.stack([places.mean(1), top], 1) / 4
        return self.whole(torch.cat([self.dropout(mean), about], 1))[:, 0].float()


def build_detective(config: DetectiveConfig) -> Detective | DeepDetective:
    """A new detective with random weights."""
    return DeepDetective(config) if config.kind == "deep" else Detective(config)


def local_detail(image: Tensor, cell: int) -> Tensor:
    """Measure the fine detail of each cell relative to the rest of the image. Noise, blur, sharpening and recompression
    change it, and a convolution, linear in the pixels, learns it only slowly (local noise levels: Mahdian & Saic 2009).

    Args:
        image: (B, C, H, W) float32 in [0, 1], C 1 or 3.
        cell: side of a cell in pixels.

    Returns:
        (B, 3 C, H / cell, W / cell) float32: of luma, and of blue and red less luma where there are three channels, the
        log of the mean squared second difference across, down, and across of down, less its mean over the picture,
        halved.
    """
    image = image.float()
    if image.shape[1] == 3:
        weights = torch.tensor([0.299, 0.587, 0.114], device=image.device)
        luma = (image * weights[:, None, None]).sum(1, keepdim=True)
        image = torch.cat([luma, image[:, 2:] - luma, image[:, :1] - luma], 1)
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across = wide[..., :-2] + wide[..., 2:] - 2 * wide[..., 1:-1]
    down = wide[:, :, :-2] + wide[:, :, 2:] - 2 * wide[:, :, 1:-1]
    both = across[:, :, :-2] + across[:, :, 2:] - 2 * across[:, :, 1:-1]
    changes = torch.cat([across[:, :, 1:-1], down[..., 1:-1], both], 1)
    level = F.avg_pool2d(changes**2, cell).float().add(EPSILON).log()
    return (level - level.mean((2, 3), keepdim=True)) / 2
