"""How fast can the likelihood at the paper's size be beside MONAI's? Operations, rates and the ratio, alternated.

    python experiments/benchmarks/nll_floor.py [--rounds 3] [--images 16] [--bf16] [--keep-memory]

Images in, nats out, on both sides: encoding and the autoregressive prior of about equal parameters (benchmark.peer).
Time is CPU time of this process, which other processes disturb least. `at equal rate` is the ratio if
both networks ran at the same operations a second: what code alone can do without fewer operations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pixelsleuth.benchmark.machine import describe
from pixelsleuth.benchmark.measuring import gflops_of
from pixelsleuth.benchmark.monai_baseline import peer_likelihood
from pixelsleuth.files import write_text
from pixelsleuth.memory import keep_freed_memory
from pixelsleuth.models.checkpoint import bake, build_prior
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.training.presets import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--bf16", action="store_true", help="both networks in bf16")
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as the commands do")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "results/studies/nll_floor.json")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.keep_memory and not keep_freed_memory():
        parser.error("--keep-memory: the C library here does not take it")
    settings = PRESETS["paper-ffhq"]
    vqvae, prior = ready(VQVAE(settings.vqvae)), ready(build_prior(settings.priors[0]))
    theirs, *_ = peer_likelihood(settings.priors[0], settings.vqvae.size, settings.vqvae.dimensions)
    images = torch.rand(options.images, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    codes = vqvae.encode(images)
    work: dict[str, Callable[[], Any]] = {
        "encode": lambda: vqvae.encode(images),
        "prior": lambda: prior.log_prob(codes),
        "monai": lambda: theirs(images),
    }
    taken: dict[str, list[float]] = {name: [] for name in work}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        gflop = {name: gflops_of(run) / options.images for name, run in work.items()}
        for number in range(options.rounds + 1):
            for name, run in work.items():
                began = time.process_time()
                run()
                if number:
                    taken[name].append((time.process_time() - began) / options.images)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    ours, peer = seconds["encode"] + seconds["prior"], seconds["monai"]
    tree = {
        "precision": ("bf16" if options.bf16 else "float32") + (", memory kept" if options.keep_memory else ""),
        "machine": describe(torch.device("cpu")),
        "rounds": options.rounds,
        "images": options.images,
        "parts": {
            name: {
                "cpu_seconds_per_image": round(seconds[name], 5),
                "gflop_per_image": round(gflop[name], 3),
                "gflops": round(gflop[name] / seconds[name], 1),
            }
            for name in work
        },
        "ratio": round(peer / ours, 3),
        "ratio_by_round": [
            round(m / (e + p), 3) for e, p, m in zip(taken["encode"], taken["prior"], taken["monai"], strict=True)
        ],
        "ratio_at_equal_rate": round(gflop["monai"] / (gflop["encode"] + gflop["prior"]), 3),
    }
    print(json.dumps(tree, indent=1))
    kept = json.loads(options.out.read_text()) if options.out.exists() else {}
    write_text(options.out, json.dumps(kept | {tree["precision"]: tree}, indent=1) + "\n")


def ready(network: Any) -> Any:
    bake(network)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
