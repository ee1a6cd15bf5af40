"""Batches that depend on the seed and the step alone, so that a resumed run sees the same ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.models.share import Share, part_of
from pixelsleuth.training.presets import Stage


class Sampler:
    """Chooses the rows in the batch of each step.

    Args:
        groups: a group's name for each of n rows; "" is a group of its own.
        stage: its `batch`, `groups` and `balance`.
        seed: of the permutations.
        sources: the name of each row's source, for `balance`.
    """

    def __init__(self, groups: Sequence[str], stage: Stage, seed: int, sources: Sequence[str] = ()) -> None:
        self.count, self.batch, self.seed = len(groups), stage.batch, seed
        self.weights = balanced(sources, stage.balance) if stage.balance < 1 and len(set(sources)) > 1 else None
        self.per_batch = stage.groups
        self._epoch, self._order = -1, np.zeros(0, np.int64)
        if self.count == 0:
            raise PixelsleuthError("no normal training pictures; the store needs rows of split 'train'")
        if stage.groups:
            names: dict[str, list[int]] = {}
            for row, name in enumerate(groups):
                names.setdefault(name or f"\0{row}", []).append(row)
            self.members = [np.array(rows) for rows in names.values()]
            if stage.batch % stage.groups:
                raise PixelsleuthError(f"batch {stage.batch} is not a multiple of groups {stage.groups}")
            self.steps_per_epoch = max(1, len(self.members) // stage.groups)
        else:
            self.batch = min(self.batch, self.count)
            self.steps_per_epoch = max(1, self.count // self.batch)

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of the batch at `step`; within an epoch no row stands twice, unless sources are balanced."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._ordered(epoch)
        if not self.per_batch:
            return self._order[place * self.batch : (place + 1) * self.batch]
        order = self._order[place * self.per_batch : (place + 1) * self.per_batch]
        each = self.batch // self.per_batch
        generator = np.random.default_rng((self.seed, epoch, place))
        picks = [generator.permutation(self.members[group])[:each] for group in order]
        return np.sort(np.concatenate(picks))

    def _ordered(self, epoch: int) -> np.ndarray:
        """The order of rows, or of groups, in an epoch."""
        generator = np.random.default_rng((self.seed, epoch))
        if self.per_batch:
            return generator.permutation(len(self.members))
        if self.weights is None:
            return generator.permutation(self.count)
        return generator.choice(self.count, self.count, p=self.weights)


def balanced(sources: Sequence[str], power: float) -> np.ndarray:
    """(n,) probabilities of rows, such that a source of m rows is drawn in proportion to m to the `power`."""
    _, place, count = np.unique(np.array(sources), return_inverse=True, return_counts=True)
    weights = count[place].astype(np.float64) ** (power - 1)
    return weights / weights.sum()


class Viewed:
    """A sampler whose batches say of each row also which of its `views` is seen, by its place in the batch, so that no
    random state is carried; (B, 2) int64."""

    def __init__(self, sampler: Sampler, views: int) -> None:
        self.sampler, self.views, self.batch, self.steps_per_epoch = (
            sampler, views, sampler.batch, sampler.steps_per_epoch,
        )  # fmt: skip

    def rows(self, step: int) -> np.ndarray:
        rows = self.sampler.rows(step)
        return np.stack([rows, (rows + np.arange(len(rows))) % self.views], 1)


class StepBatches(Dataset):
    """A data set whose items are a process's part of whole batches, numbered by step.

    Args:
        source: anything that gives the rows asked for as an array, or as several (a store's `pixels`, cached codes,
            each perhaps with its context).
        sampler: of the rows of a batch, the same in every process.
        rank, world: number of the process, and how many there are.
    """

    def __init__(self, source: Any, sampler: Any, first: int, count: int, rank: int = 0, world: int = 1) -> None:
        self.source, self.sampler, self.first, self.count = source, sampler, first, count
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.count

    def after(self, step: int, most: int) -> StepBatches:
        """At most `most` of these steps, and at least one, from `step` on."""
        count = max(1, min(most, self.first + self.count - step))
        return StepBatches(self.source, self.sampler, step, count, self.rank, self.world)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, ...]:
        if index >= self.count:
            raise IndexError(index)
        rows = self.sampler.rows(self.first + index)
        found = self.source(rows[part_of(len(rows), self.rank, self.world)])
        if isinstance(found, tuple):
            return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in found)
        return torch.from_numpy(np.ascontiguousarray(found))


def to_float(pixels: Tensor) -> Tensor:
    """(B, H, W, C) uint8 -> (B, C, H, W) float32 in [0, 1], channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def scalars_of(store: Store, rows: np.ndarray, count: int) -> np.ndarray:
    """(n, count) float32, the context of the rows: of slices their position; empty where `count` is 0."""
    if not count:
        return np.zeros((len(rows), 0), np.float32)
    return store.table["position"][rows].astype(np.float32)[:, None]


def augmented(image: Tensor, kind: str, share: Share | None = None) -> Tensor:
    """(B, C, H, W) float32 in [0, 1], changed at random as `Stage.augment` says; random state is the share's, else
    torch's own."""
    if kind == "none":
        return image
    share, device = share or Share.whole(len(image)), image.device
    flip = share.rand(1, 1, 1, device=device) < 0.5
    image = torch.where(flip, image.flip(3), image)
    if kind == "flip":
        return image
    if kind == "scans":
        return _another_scan(image, share)
    if kind != "faces":
        raise PixelsleuthError(f"augment: expected 'none', 'flip', 'faces' or 'scans', got {kind!r}")
    image = image * (1 + (share.rand(1, 1, 1, device=device) * 2 - 1) * 0.3)
    angle = (share.rand(device=device) * 2 - 1) * 0.2 * 2 * math.pi
    image = torch.einsum("bij,bjhw->bihw", _hue_rotation(angle), image).clamp(0, 1)
    turn = (share.rand(device=device) * 2 - 1) * math.radians(10)
    zero = torch.zeros_like(turn)
    theta = torch.stack([turn.cos(), -turn.sin(), zero, turn.sin(), turn.cos(), zero], 1).view(len(image), 2, 3)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _another_scan(image: Tensor, share: Share) -> Tensor:
    """(B, C, H, W) as another head might be scanned: turned by up to 5 degrees, scaled by up to 6%, bent a little,
    contrast and brightness by up to 8%, a little noise (the recipe of Marimont & Tarroni 2021)."""
    count, device = len(image), image.device

    def uniform(*shape: int) -> Tensor:
        return share.rand(*shape, device=device) * 2 - 1

    turn, scale = uniform() * math.radians(5), 1 + 0.06 * uniform()
    move = 0.03 * uniform(2)
    theta = torch.stack(
        [scale * turn.cos(), -scale * turn.sin(), move[:, 0], scale * turn.sin(), scale * turn.cos(), move[:, 1]], 1
    ).view(count, 2, 3)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    bends = F.interpolate(0.015 * uniform(2, 5, 5), image.shape[2:], mode="bicubic", align_corners=False)
    moved = F.grid_sample(
        image, grid + bends.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False
    )
    middle = moved.mean((2, 3), keepdim=True)
    lit = (moved - middle) * (1 + 0.08 * uniform(1, 1, 1)) + middle + 0.02 * uniform(1, 1, 1)
    grain = share.rand(1, 1, 1, device=device) * share.randn(*lit.shape[1:], device=device)
    return (lit + 0.01 * grain).clamp(0, 1)


def _hue_rotation(angle: Tensor) -> Tensor:
    """(B,) radians -> (B, 3, 3) RGB matrices that turn the chroma plane of YIQ and leave luma alone."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    to_yiq = to_yiq.to(angle)
    turn = torch.zeros(len(angle), 3, 3, device=angle.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    return torch.linalg.inv(to_yiq) @ turn @ to_yiq
