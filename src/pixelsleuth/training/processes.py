"""The processes of a distributed training, one a device, on one machine or several."""

from __future__ import annotations

import datetime
import hashlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from torch import nn

from pixelsleuth.errors import PixelsleuthError

#: How long the other processes wait for the first, which alone forges, encodes, and fits what follows training.
TIMEOUT = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """What a process knows of the others. Made by `Processes.launched`; a single process unless made otherwise.

    Attributes:
        devices: processes on each machine, one a GPU, or one a CPU process where there is no GPU.
        nodes: machines.
        rank: number of this process, 0 being the one that writes.
    """

    devices: int = 1
    nodes: int = 1
    rank: int = 0

    @classmethod
    def launched(cls, devices: int = 1, nodes: int = 1) -> Processes:
        """Start the other processes of this machine, which run the same command, and join all of them.

        Lightning does it: within `torchrun`, Slurm and other launchers that it knows it joins what they started. On
        several machines without any of these, start the command on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK
        set.

        Raises:
            PixelsleuthError: fewer devices than asked for, or processes that do not find each other.
        """
        if devices * nodes == 1:
            return cls()
        quiet()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fabric = Fabric(
                    accelerator="auto", devices=devices, num_nodes=nodes, strategy=DDPStrategy(timeout=TIMEOUT)
                )
                fabric.launch()
        except (RuntimeError, ValueError, dist.DistError) as error:
            raise PixelsleuthError(f"{devices} devices on {nodes} nodes could not be joined ({error})") from error
        return cls(devices, nodes, fabric.global_rank)

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.devices * self.nodes

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def once(self, work: Callable[[], None]) -> None:
        """Run `work` in the first process while the others wait. An expected error of it ends all of them, told by the
        first alone."""
        error: PixelsleuthError | None = None
        if self.first:
            try:
                work()
            except PixelsleuthError as raised:
                error = raised
        if self.world > 1:
            told: list[Any] = [error is not None]
            dist.broadcast_object_list(told, 0)
            if told[0] and not self.first:
                raise SystemExit(2)
        if error is not None:
            raise error

    def agreed(self, value: bool) -> bool:
        """The first process's answer, shared by all: a file may appear while the others look for it."""
        if self.world == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, 0)
        return told[0]

    def compared(self, network: nn.Module) -> None:
        """Compare what all processes have learnt. Raises PixelsleuthError where it is not the same to the bit."""
        if self.world == 1:
            return
        digest = hashlib.sha256()
        for name, value in sorted(network.state_dict().items()):
            # Of normalisation each process keeps its own statistics where torch cannot share them.
            if "running_" not in name:
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        told: list[Any] = [None] * self.world
        dist.all_gather_object(told, digest.hexdigest())
        if len(set(told)) > 1:
            raise PixelsleuthError(
                f"{type(network).__name__}: {self.world} processes learnt different weights; resume the run"
            )

    def part(self) -> None:
        """Leave the others, once all are here."""
        if self.world > 1:
            dist.barrier()
            dist.destroy_process_group()


def quiet() -> None:
    """Silence what Lightning says of itself."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
