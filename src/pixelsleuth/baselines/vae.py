"""The plain VAE that Marimont & Tarroni 2021 compare with (`models.vae`), on crops of faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from pixelsleuth.baselines.baseline import Compared, ComparedCrop, squares_of
from pixelsleuth.baselines.teaching import image_of, seeded, teach
from pixelsleuth.models.vae import NOISE, VAE, VAEConfig
from pixelsleuth.scoring.restoration import pooled

CONFIG = VAEConfig(size=128, channels=3)
BATCH = 32


class PlainVAE:
    """`vae_residual`: mean |image - reconstruction|; `vae_elbo`: minus the evidence lower bound, in nats, with the
    posterior's mean in place of a draw. The map is the residual, pooled as Marimont & Tarroni's."""

    def __init__(self, steps: int = 1500) -> None:
        self.steps = steps
        self.network = cast(VAE, seeded(lambda: VAE(CONFIG)))

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        pixels = squares_of(crops, CONFIG.size)

        def loss(picked: np.ndarray) -> torch.Tensor:
            image = image_of(pixels[picked])
            flip = torch.rand(len(image), 1, 1, 1) < 0.5
            return self.network.loss(torch.where(flip, image.flip(3), image))

        with torch.random.fork_rng():
            torch.manual_seed(0)
            teach(self.network, loss, len(pixels), self.steps, BATCH, 1e-3)

    @torch.no_grad()
    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        image = image_of(squares_of(crops, CONFIG.size))
        made, divergence = self.network.posterior(image)
        squared = ((made - image) ** 2).sum((1, 2, 3))
        residual = (made.clamp(0, 1) - image).abs().mean(1)
        return Compared(
            {
                "vae_residual": residual.mean((1, 2)).double().numpy(),
                "vae_elbo": (squared / (2 * NOISE**2) + divergence).double().numpy(),
            },
            {"vae_residual": pooled(residual).numpy()},
        )
