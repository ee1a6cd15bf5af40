"""Distributed training: each process computes its share of every batch, and the result equals that of one process on
the whole batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """The part of a batch that a process computes: pictures `first` to `first + count` of `total`.

    What is drawn at random of each picture is drawn for all of them, of a generator that all processes seed alike, and
    then cut: it does not depend on how many processes there are.

    Attributes:
        generator: None: torch's own.
    """

    first: int
    count: int
    total: int
    generator: torch.Generator | None = None

    @classmethod
    def whole(cls, count: int) -> Share:
        """All of a batch."""
        return cls(0, count, count)

    @property
    def weight(self) -> float:
        """Factor on a mean over this part, so that the mean over processes equals the mean over the batch."""
        return self.count * processes() / self.total

    def rand(self, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """(count, *shape) float32, uniform in [0, 1)."""
        return self._cut(torch.rand(self.total, *shape, generator=self.generator, device=device))

    def randn(self, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """(count, *shape) float32, standard normal."""
        return self._cut(torch.randn(self.total, *shape, generator=self.generator, device=device))

    def randint(self, low: int, high: int, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """(count, *shape) int64 in [low, high)."""
        return self._cut(torch.randint(low, high, (self.total, *shape), generator=self.generator, device=device))

    def _cut(self, values: Tensor) -> Tensor:
        return values[self.first : self.first + self.count]


def part_of(count: int, rank: int, world: int) -> slice:
    """The part of `count` pictures that the process numbered `rank` of `world` takes; sizes differ by at most one."""
    return slice(count * rank // world, count * (rank + 1) // world)


def processes() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def summed(values: Tensor) -> Tensor:
    """The sum over all processes, the same to the bit on each; the values themselves where there is one."""
    if processes() == 1:
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values


@torch.no_grad()
def drawn_rows(vectors: Tensor, count: int) -> Tensor:
    """(count, D) rows drawn with repetition from the (n, D) vectors of all processes together, the same on each."""
    if processes() == 1:
        return vectors[torch.randint(len(vectors), (count,), device=vectors.device)]
    rank = dist.get_rank()
    lengths = torch.zeros(processes(), dtype=torch.int64, device=vectors.device)
    lengths[rank] = len(vectors)
    lengths = summed(lengths)
    picks = torch.randint(int(lengths.sum()), (count,), device=vectors.device)
    dist.broadcast(picks, 0)
    picks = picks - int(lengths[:rank].sum())
    mine = (picks >= 0) & (picks < len(vectors))
    rows = vectors.new_zeros(count, vectors.shape[1])
    rows[mine] = vectors[picks[mine]]
    return summed(rows)
