"""Trace one crop through the networks and keep every intermediate result, for figures of the method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pixelsleuth.scoring.networks import TorchNetworks, to_pixels
from pixelsleuth.scoring.scorer import Crops


@dataclass(frozen=True)
class Trace:
    """Every intermediate result of the networks for one crop.

    Attributes:
        image: (H, W, C) uint8, the input; reconstruction: its codes decoded as they are; restoration: the weighted
            mean over S restorations, in which unlikely codes were drawn anew.
        codes: (h, w) int64 in [0, K).
        surprise: (h, w) float32, NLL - entropy of each code in nats.
        flagged: (h, w) bool, the codes that were drawn anew, in any restoration.
        residual_reconstruction, residual_restoration: (H, W) float32 in [0, 1], mean |difference| over channels.
        replaced: mean share of all codes that came out another than they were.
    """

    image: np.ndarray
    reconstruction: np.ndarray
    restoration: np.ndarray
    codes: np.ndarray
    surprise: np.ndarray
    flagged: np.ndarray
    residual_reconstruction: np.ndarray
    residual_restoration: np.ndarray
    replaced: float


@torch.no_grad()
def trace(networks: TorchNetworks, crop: Crops, kind: str = "") -> Trace:
    """The way of a single crop, an image's or a slice's.

    Args:
        kind: of the prior that restores; the model's default unless given.

    Raises:
        KeyError: the model has no prior of this kind.
    """
    kind = kind or next(iter(networks.model.priors))
    encoded = networks.encoded(crop)
    seen, decoded = networks.measured(encoded, set(networks.model.priors))
    made = networks.restored(encoded, seen, crop.keys, kind)
    flagged = networks.flagged(encoded, seen, kind)[0] | (made.codes[0] != encoded.codes).any(0)
    surprise = seen.surprise[kind]
    return Trace(
        image=crop.square[0],
        reconstruction=to_pixels(decoded)[0],
        restoration=to_pixels(made.mean)[0],
        codes=encoded.codes[0].cpu().numpy(),
        surprise=(surprise.nll - surprise.entropy)[0].cpu().numpy(),
        flagged=flagged.cpu().numpy(),
        residual_reconstruction=(decoded - encoded.image).abs().mean((0, 1)).cpu().numpy(),
        residual_restoration=made.residual[0].cpu().numpy(),
        replaced=float(made.replaced[0]),
    )
