"""MONAI's VQ-VAE with its decoder-only transformer as the prior (Pinaya et al. 2022), scored by the codes' NLL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.baselines.baseline import Compared, ComparedCrop, squares_of
from pixelsleuth.baselines.teaching import image_of, seeded, teach
from pixelsleuth.errors import needs_extra
from pixelsleuth.scoring.measurements import tail_sum
from pixelsleuth.scoring.settings import LAMBDA_S_QUANTILE

SIZE, GRID, CODES = 128, 16, 256
BATCH = 32


class MonaiTransformer:
    """`monai_tail_sum`: Marimont & Tarroni's sum over unlikely codes, its threshold fitted on the normal crops;
    `monai_mean_nll`: the mean over all codes, in nats. The map is the codes' NLL.

    Raises:
        PixelsleuthError: MONAI is not installed.
    """

    def __init__(self, steps: int = 1000) -> None:
        with needs_extra("bench", "monai_transformer"):
            from monai.networks.nets import VQVAE, DecoderOnlyTransformer
        self.steps = steps
        self.vqvae: Any = seeded(
            lambda: VQVAE(
                spatial_dims=2, in_channels=3, out_channels=3, channels=(32, 64, 128), num_res_layers=1,
                num_res_channels=(32, 64, 128), num_embeddings=CODES, embedding_dim=32,
            )
        )  # fmt: skip
        self.transformer: Any = seeded(
            lambda: DecoderOnlyTransformer(
                num_tokens=CODES + 1, max_seq_len=GRID**2, attn_layers_dim=128, attn_layers_depth=6,
                attn_layers_heads=4, use_flash_attention=True,
            )
        )  # fmt: skip
        self.threshold = 0.0

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        pixels = squares_of(crops, SIZE)

        def reconstruction(picked: np.ndarray) -> Tensor:
            image = image_of(pixels[picked])
            made, quantisation = self.vqvae(image)
            return F.l1_loss(made.float(), image) + quantisation.float().mean()

        with torch.random.fork_rng():
            torch.manual_seed(0)
            teach(cast(nn.Module, self.vqvae), reconstruction, len(pixels), self.steps, BATCH, 1e-3)
            codes = torch.cat([self._codes(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)])
            teach(
                cast(nn.Module, self.transformer),
                lambda picked: self._nll(codes[torch.from_numpy(picked)]).mean(),
                len(codes), self.steps, BATCH, 1e-3,
            )  # fmt: skip
        with torch.no_grad():
            nll = torch.cat([self._nll(codes[i : i + BATCH]) for i in range(0, min(len(codes), 500), BATCH)])
        self.threshold = float(nll.quantile(LAMBDA_S_QUANTILE))

    @torch.no_grad()
    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        nll = self._nll(self._codes(squares_of(crops, SIZE)))
        scores = {"monai_tail_sum": tail_sum(nll, self.threshold), "monai_mean_nll": nll.mean((1, 2))}
        return Compared({name: values.double().numpy() for name, values in scores.items()}, {"monai_nll": nll.numpy()})

    @torch.no_grad()
    def _codes(self, pixels: np.ndarray) -> Tensor:
        return cast(Tensor, self.vqvae.index_quantize(image_of(pixels))).long()

    def _nll(self, codes: Tensor) -> Tensor:
        """(B, h, w) codes -> (B, h, w) float32 nats, each code given those before it in raster order."""
        flat = codes.flatten(1)
        logits = self.transformer(F.pad(flat, (1, 0), value=CODES)[:, :-1]).float()
        return F.cross_entropy(logits.transpose(1, 2), flat, reduction="none").view(codes.shape)
