"""VQ-VAE: image -> grid of codes -> image, in two architectures, `fast` and `paper`."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.models.configuration import VQVAEConfig
from pixelsleuth.models.quantiser import Quantised, Quantiser


class Reconstruction(NamedTuple):
    """`image` (B, C, H, W) float32, nominally in [0, 1], not clamped; `quantised` as the quantiser gave it."""

    image: Tensor
    quantised: Quantised


class VQVAE(nn.Module):
    """Encoder, quantiser, decoder. Images are (B, C, H, W) float32 in [0, 1]."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        parts = _fast if config.kind == "fast" else _paper
        self.encoder, self.decoder = parts(config)
        self.quantiser = Quantiser(config.codes, config.dimensions, config.decay)

    def forward(self, image: Tensor, scalars: Tensor | None = None) -> Reconstruction:
        """`scalars` (B, `context`) float32 are what the architecture was built for, looked at by no other."""
        quantised = self.quantiser(self.encoder(self._beside(image * 2 - 1, scalars)))
        return Reconstruction(self.decoded(quantised.values, scalars), quantised)

    def encode(self, image: Tensor, scalars: Tensor | None = None) -> Tensor:
        """(B, C, H, W) float32 in [0, 1] -> codes (B, h, w) int64."""
        z = self.vectors(image, scalars)
        return self.quantiser.nearest(z.flatten(0, 2)).view(z.shape[:3])

    def vectors(self, image: Tensor, scalars: Tensor | None = None) -> Tensor:
        """(B, h, w, D) float32, what becomes the nearest codebook entry."""
        return self.encoder(self._beside(image * 2 - 1, scalars)).float().permute(0, 2, 3, 1)

    def decode(self, codes: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Codes (B, h, w) int64 -> image (B, C, H, W) float32 clamped to [0, 1]."""
        return self.decoded(self.quantiser.look_up(codes), scalars).clamp(0, 1)

    def decoded(self, values: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Codebook entries (B, D, h, w) -> image (B, C, H, W) float32, not clamped."""
        return self.decoder(self._beside(values, scalars)).float() / 2 + 0.5

    def _beside(self, x: Tensor, scalars: Tensor | None) -> Tensor:
        """(B, C, H, W) with one constant plane for each scalar that the architecture was built for."""
        if not self.config.context:
            return x
        got = 0 if scalars is None else scalars.shape[1]
        if scalars is None or got != self.config.context:
            raise ValueError(f"the VQ-VAE was built for {self.config.context} scalars of context, got {got}")
        planes = scalars.to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return torch.cat([x, planes], 1).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def grid(self) -> tuple[int, int]:
        """(h, w) of the codes of an image of the configured size."""
        was_training = self.training
        self.eval()
        channels = self.config.channels + self.config.context
        example = torch.zeros(1, channels, self.config.size, self.config.size)
        shape = self.encoder(example.to(self.quantiser.codebook.device)).shape
        self.train(was_training)
        return int(shape[2]), int(shape[3])


# --- fast: space-to-depth first, so that no convolution runs at full resolution ---


class Residual(nn.Module):
    """GroupNorm, SiLU, 3x3, SiLU, 1x1 (zero at the start), added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.spread = nn.Conv2d(width, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.silu(self.spread(F.silu(self.norm(x)))))


class SpaceToDepth(nn.Module):
    """(B, C, H, W) -> (B, C f f, H / f, W / f), channels last: of one channel the layout would else be lost, and bf16
    convolutions then take thirty times as long on a CPU."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, self.factor).contiguous(memory_format=torch.channels_last)


def _fast(config: VQVAEConfig) -> tuple[nn.Module, nn.Module]:
    near, deep = config.widths
    encoder = nn.Sequential(
        SpaceToDepth(4),
        nn.Conv2d((config.channels + config.context) * 16, near, 3, padding=1),
        Residual(near),
        nn.Conv2d(near, deep, 2, stride=2),
        Residual(deep),
        Residual(deep),
        nn.Conv2d(deep, config.dimensions, 1),
    )
    decoder = nn.Sequential(
        nn.Conv2d(config.dimensions + config.context, deep, 1),
        Residual(deep),
        Residual(deep),
        nn.Conv2d(deep, near * 4, 1),
        nn.PixelShuffle(2),
        Residual(near),
        nn.Conv2d(near, config.channels * 16, 3, padding=1),
        nn.PixelShuffle(4),
    )
    return encoder, decoder


# --- paper: gated residual blocks, stride-2 convolutions (Marimont & Tarroni 2021) ---


class _GatedResidual(nn.Module):
    """BN, ELU, 3x3, ELU, dropout, 3x3 to 2C, BN, GLU, added."""

    def __init__(self, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ELU(),
            nn.Dropout(dropout),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.GLU(dim=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _paper(config: VQVAEConfig) -> tuple[nn.Module, nn.Module]:
    widths = config.widths
    if widths[-1] != config.dimensions:
        raise ValueError(f"vqvae.widths must end with dimensions {config.dimensions}, got {widths}")
    down: list[nn.Module] = [nn.Conv2d(config.channels + config.context, widths[0], 7)]
    side = config.size - 6
    sides = [side]
    for here, there in pairwise(widths):
        down += [_GatedResidual(here), _GatedResidual(here)]
        down += [nn.Conv2d(here, there, 5, stride=2, padding=2), nn.BatchNorm2d(there)]
        side = (side + 1) // 2
        sides.append(side)
    down.append(_GatedResidual(widths[-1]))
    up: list[nn.Module] = [_GatedResidual(widths[-1])]
    if config.context:
        up.insert(0, nn.Conv2d(widths[-1] + config.context, widths[-1], 1))
    for level in range(len(widths) - 1, 0, -1):
        # 6x6 at stride 2 doubles with padding 2; one pixel more is cut where the encoder's side was odd.
        up.append(nn.ConvTranspose2d(widths[level], widths[level - 1], 6, stride=2, padding=2))
        if sides[level] * 2 != sides[level - 1]:
            up.append(nn.ZeroPad2d((0, -1, 0, -1)))
        up += [
            nn.BatchNorm2d(widths[level - 1]),
            _GatedResidual(widths[level - 1]),
            _GatedResidual(widths[level - 1]),
        ]
    up.append(nn.ConvTranspose2d(widths[0], config.channels, 7))
    return nn.Sequential(*down), nn.Sequential(*up)
