"""The training loop of a baseline's small network."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pixelsleuth.models.precision import has_bf16


def teach(
    network: nn.Module, loss: Callable[[np.ndarray], Tensor], count: int, steps: int, batch: int, rate: float
) -> None:
    """Train by AdamW with a warm-up and cosine decay, in bf16 where the hardware has it; the same for the same input.

    Args:
        loss: from the numbers (batch,) of examples to a scalar.
        count: of the examples.
    """
    generator = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    warm = max(1, steps // 20)
    network.train()
    for step in range(steps):
        factor = min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
            value = loss(generator.integers(count, size=min(batch, count)))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval().requires_grad_(False)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose first weights do not depend on what ran before, in channels-last memory."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().to(memory_format=torch.channels_last)


def image_of(pixels: np.ndarray) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) float32 in [0, 1], channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
