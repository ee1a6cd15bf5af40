"""Batches that depend on seed and step alone, so that a resumed run sees what an unbroken one would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.training.presets import Stage


class Sampler:
    """Which rows stand in the batch of a step.

    Args:
        groups: a group's name for each of n rows; "" is a group of its own.
        stage: its `batch` and `groups`.
        seed: of the permutations.
    """

    def __init__(self, groups: Sequence[str], stage: Stage, seed: int) -> None:
        self.count, self.batch, self.seed = len(groups), stage.batch, seed
        self.per_batch = stage.groups
        if self.count == 0:
            raise PixelsleuthError("no normal training pictures; the store needs rows of split 'train'")
        names: dict[str, list[int]] = {}
        for row, name in enumerate(groups):
            names.setdefault(name or f"\0{row}", []).append(row)
        self.members = [np.array(rows) for rows in names.values()]
        if stage.groups:
            if stage.batch % stage.groups:
                raise PixelsleuthError(f"batch {stage.batch} is not a multiple of groups {stage.groups}")
            self.steps_per_epoch = max(1, len(self.members) // stage.groups)
        else:
            self.batch = min(self.batch, self.count)
            self.steps_per_epoch = max(1, self.count // self.batch)

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of the batch at `step`; within an epoch no row stands twice."""
        epoch, place = divmod(step, self.steps_per_epoch)
        generator = np.random.default_rng((self.seed, epoch))
        if not self.per_batch:
            order = generator.permutation(self.count)
            return order[place * self.batch : (place + 1) * self.batch]
        order = generator.permutation(len(self.members))[place * self.per_batch : (place + 1) * self.per_batch]
        each = self.batch // self.per_batch
        generator = np.random.default_rng((self.seed, epoch, place))
        picks = [generator.permutation(self.members[group])[:each] for group in order]
        return np.sort(np.concatenate(picks))


class Steps(Dataset):
    """A data set whose items are whole batches, numbered by step.

    Args:
        source: anything that gives the rows asked for as an array (a store's `pixels`, cached codes).
    """

    def __init__(self, source: Any, sampler: Sampler, first: int, count: int) -> None:
        self.source, self.sampler, self.first, self.count = source, sampler, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        if index >= self.count:
            raise IndexError(index)
        return torch.from_numpy(np.ascontiguousarray(self.source(self.sampler.rows(self.first + index))))


def to_float(pixels: Tensor) -> Tensor:
    """(B, H, W, C) uint8 -> (B, C, H, W) float32 in [0, 1], channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def augmented(image: Tensor, kind: str) -> Tensor:
    """(B, C, H, W) float32 in [0, 1], changed at random as `Stage.augment` says; random state is torch's own."""
    if kind == "none":
        return image
    flip = torch.rand(len(image), 1, 1, 1, device=image.device) < 0.5
    image = torch.where(flip, image.flip(3), image)
    if kind == "flip":
        return image
    if kind != "faces":
        raise PixelsleuthError(f"augment: expected 'none', 'flip' or 'faces', got {kind!r}")
    count = len(image)
    image = image * (1 + (torch.rand(count, 1, 1, 1, device=image.device) * 2 - 1) * 0.3)
    angle = (torch.rand(count, device=image.device) * 2 - 1) * 0.2 * 2 * math.pi
    image = torch.einsum("bij,bjhw->bihw", _hue_rotation(angle), image).clamp(0, 1)
    turn = (torch.rand(count, device=image.device) * 2 - 1) * math.radians(10)
    zero = torch.zeros_like(turn)
    theta = torch.stack([turn.cos(), -turn.sin(), zero, turn.sin(), turn.cos(), zero], 1).view(count, 2, 3)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _hue_rotation(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 3, 3) RGB matrices that turn the chroma plane of YIQ and leave luma alone."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    to_yiq = to_yiq.to(angle)
    turn = torch.zeros(len(angle), 3, 3, device=angle.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    return torch.linalg.inv(to_yiq) @ turn @ to_yiq
