"""Time one workload."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pixelsleuth.benchmark.machine import finish, peak_mb, reset_peak


@dataclass
class Measured:
    """The time a workload took: the median of its repetitions.

    Attributes:
        images_per_second: by the clock.
        cpu_seconds_per_image: of all threads of this process, user and system.
        peak_mb: peak resident memory of the process while it ran, with everything that was loaded before.
        settings: what was run.
    """

    images_per_second: float
    cpu_seconds_per_image: float
    peak_mb: float
    settings: dict[str, Any] = field(default_factory=dict)

    def as_tree(self) -> dict[str, Any]:
        return {
            "images_per_second": round(self.images_per_second, 4),
            "cpu_seconds_per_image": round(self.cpu_seconds_per_image, 5),
            "peak_mb": round(self.peak_mb, 1),
            "settings": self.settings,
        }


def measure(
    work: Callable[[], Any],
    images: int,
    about: dict[str, Any] | None = None,
    *,
    device: torch.device,
    warm: bool = True,
    least_seconds: float = 2.0,
    most: int = 5,
) -> Measured:
    """Run `work`, which handles `images` images, until `least_seconds` are over or `most` times.

    Args:
        about: settings to keep with the figures.
        warm: run it once before, unmeasured; where one run takes minutes, do not.
    """
    if warm:
        work()
        finish(device)
    reset_peak()
    walls: list[float] = []
    cpus: list[float] = []
    while len(walls) < most and (not walls or sum(walls) < least_seconds):
        cpu, began = time.process_time(), time.perf_counter()
        work()
        finish(device)
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - cpu)
    wall = statistics.median(walls)
    return Measured(
        images / wall,
        statistics.median(cpus) / images,
        peak_mb(),
        {"images": images, "repetitions": len(walls), **(about or {})},
    )


def gflops_of(work: Callable[[], Any]) -> float:
    """10^9 floating-point operations of one call, as torch counts convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def with_floor(found: Measured, gflops: float, rate_gflops: float) -> Measured:
    """Add operations an image, and the share of the machine's matmul rate that was reached: 1 is the floor."""
    found.settings["gflop_per_image"] = round(gflops, 3)
    found.settings["share_of_matmul_rate"] = round(gflops * found.images_per_second / rate_gflops, 4)
    return found
