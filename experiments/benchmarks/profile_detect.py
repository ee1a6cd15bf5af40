"""Where the time of a detection goes, and how far each network is from its floor (operations over the matmul rate).

python experiments/benchmarks/profile_detect.py --images 128
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pixelsleuth import findings
from pixelsleuth.benchmark.machine import matmul_rate
from pixelsleuth.benchmark.measuring import gflops_of
from pixelsleuth.benchmark.workloads import face_crops, without_face_search
from pixelsleuth.detector import Detector
from pixelsleuth.memory import keep_freed_memory
from pixelsleuth.models.detective import DeepDetective
from pixelsleuth.scoring import networks, scorer

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--heatmap", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    # As the commands do.
    keep_freed_memory()
    detector = without_face_search(Detector.load("faces", device="cpu"))
    model = detector.model
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*values: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = work(*values, **named)
            spent[name] += time.perf_counter() - began
            calls[name] += 1
            return result

        return run

    rate = matmul_rate(torch.device("cpu"))
    codes = torch.zeros(1, *model.vqvae.grid(), dtype=torch.int64)
    image = torch.rand(1, 3, detector.scorer.size, detector.scorer.size)
    passes = {
        "encode": partial(model.vqvae.encode, image),
        "decode": partial(model.vqvae.decode, codes),
        **{f"{kind} likelihood": partial(prior.log_prob, codes) for kind, prior in model.priors.items()},
    }
    gflops = {}
    with torch.no_grad():
        for name, work in passes.items():
            gflops[name] = gflops_of(work)
    for kind, prior in model.priors.items():
        prior.log_prob = timed(f"{kind} likelihood", prior.log_prob)
        prior.resample = timed(f"{kind} resampling", prior.resample)
    model.vqvae.encode = timed("encode", model.vqvae.encode)
    model.vqvae.decode = timed("decode", model.vqvae.decode)
    if isinstance(model.detective, DeepDetective):
        model.detective.seen = timed("detective", model.detective.seen)
        model.detective.windows = timed("detective from near", model.detective.windows)
    elif model.detective is not None:
        model.detective.forward = timed("detective", model.detective.forward)
    scorer.complexity = timed("complexity", scorer.complexity)
    networks.pooled = timed("pooling", networks.pooled)
    for name in ("share", "excess", "regions"):
        setattr(
            type(detector.calibration),
            name,
            timed("calibrated map and regions", getattr(type(detector.calibration), name)),
        )
    findings.drawn_back = timed("drawing back", findings.drawn_back)
    with tempfile.TemporaryDirectory() as folder:
        paths = face_crops(Path(folder) / "crops", options.images)
        list(detector.detect_many(paths[:BATCH], heatmap=options.heatmap))
        spent.clear()
        calls.clear()
        began = time.perf_counter()
        list(detector.detect_many(paths, heatmap=options.heatmap, batch_size=BATCH))
        total = time.perf_counter() - began
    print(f"{options.images} crops, {total:.2f} s, {1000 * total / options.images:.1f} ms an image, "
          f"matmul {rate / 1e9:.0f} GFLOP/s, {torch.get_num_threads()} threads")  # fmt: skip
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        floor = ""
        if name in gflops and not name.endswith("resampling"):
            # `decode` runs on restorations too; its floor is given for one image.
            floor = f", {gflops[name]:.2f} GFLOP a pass and image, floor {1e12 * gflops[name] / rate:.1f} ms"
        print(f"{name:28s} {1000 * seconds / options.images:7.2f} ms an image, {seconds / total:5.1%}{floor}")
    print(f"{'the rest':28s} {1000 * (total - sum(spent.values())) / options.images:7.2f} ms an image")


if __name__ == "__main__":
    main()
