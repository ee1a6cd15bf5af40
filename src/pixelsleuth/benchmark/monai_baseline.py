"""MONAI's VQ-VAE and transformer, with the same grid and codebook and about as many parameters as ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pixelsleuth.models.checkpoint import parameter_count
from pixelsleuth.models.configuration import PriorConfig

#: Dimension and depth of the transformer, channels of the VQ-VAE, by the number of codes of our model: both networks
#: come within 10% of ours. 512: bundled size; 128: the paper's.
SIZES = {512: (128, 6, 4, 53), 128: (448, 5, 8, 130)}


def peer_likelihood(config: PriorConfig, size: int, dimensions: int) -> tuple[Callable[[Tensor], Tensor], int, int]:
    """A function from images (B, 3, size, size) to log-likelihoods of their codes (B, h, w), the transformer's
    parameters and the VQ-VAE's.

    Raises:
        ImportError: MONAI is not installed.
    """
    from monai.inferers import VQVAETransformerInferer
    from monai.networks.nets import VQVAE, DecoderOnlyTransformer
    from monai.utils import OrderingType
    from monai.utils.ordering import Ordering

    width, depth, heads, channels = SIZES[config.codes]
    torch.manual_seed(0)
    vqvae: Any = VQVAE(
        spatial_dims=2, in_channels=3, out_channels=3, channels=(channels,) * 3, num_res_channels=(channels,) * 3,
        num_res_layers=2, downsample_parameters=((2, 4, 1, 1),) * 3, upsample_parameters=((2, 4, 1, 1, 0),) * 3,
        num_embeddings=config.codes, embedding_dim=dimensions,
    ).eval()  # fmt: skip
    transformer = DecoderOnlyTransformer(
        num_tokens=config.codes + 1,
        max_seq_len=config.grid[0] * config.grid[1] + 1,
        attn_layers_dim=width,
        attn_layers_depth=depth,
        attn_layers_heads=heads,
        use_flash_attention=True,
    ).eval()
    ordering = Ordering(ordering_type=OrderingType.RASTER_SCAN.value, spatial_dims=2, dimensions=(1, *config.grid))
    inferer = VQVAETransformerInferer()
    if vqvae.index_quantize(torch.zeros(1, 3, size, size)).shape[1:] != torch.Size(config.grid):
        raise ValueError(f"the peer's grid is not {config.grid}")

    def likelihood(images: Tensor) -> Tensor:
        found: Tensor = inferer.get_likelihood(
            inputs=images, vqvae_model=vqvae, transformer_model=transformer, ordering=ordering
        )
        return found

    return likelihood, parameter_count(transformer), parameter_count(vqvae)
