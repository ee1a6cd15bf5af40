"""Fast against direct restoration, alternated in one run, and whether both give the same codes.

    python experiments/benchmarks/restoration_speed.py --rounds 3 --equal 20

Speed: PixelSNAIL at the paper's size (random weights: speed does not depend on them), S = 15, 128 px, 10% of the codes
flagged in the first pass; the direct algorithm in full on one image, the fast one on one image and on eight, the
masked prior as it is by default. Equality: `--equal` images, at the paper's size with `--copies` restorations each,
and with the bundled model's trained PixelSNAIL with `--trained-copies`: the direct algorithm takes hours otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixelsleuth.benchmark.workloads import FLAGGED, RESTORATIONS, awake, face_crops, restoration_input
from pixelsleuth.detector import Detector
from pixelsleuth.models.checkpoint import bake, build_prior, parameter_count
from pixelsleuth.sources.images import read_picture
from pixelsleuth.training.presets import PRESETS

#: Where codes first differ, a probability this close to a uniform draw, or a surprise to the threshold, is a tie.
TIE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--equal", type=int, default=20, help="images whose codes are compared")
    parser.add_argument("--copies", type=int, default=1, help="restorations of each at the paper's size")
    parser.add_argument("--trained-copies", type=int, default=5, help="and with the bundled, smaller network")
    options = parser.parse_args()
    torch.manual_seed(0)
    (config,) = PRESETS["paper-ffhq"].priors
    prior = ready(build_prior(config))
    print(
        f"PixelSNAIL {parameter_count(prior):,} parameters, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    if options.rounds:
        speed(prior, options.rounds)
    if options.equal:
        codes, uniforms, above = restoration_input(prior, options.equal, options.copies)
        compare("paper's size, random weights", prior, codes, uniforms, above)
        detector = Detector.load("faces", device="cpu")
        trained = detector.model.priors["pixelsnail"]
        with tempfile.TemporaryDirectory() as name:
            crops = [read_picture(p).pixels for p in face_crops(Path(name) / "crops", options.equal)]
        size = detector.scorer.size
        squares = np.stack([crop[:size, :size] for crop in crops])
        image = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255
        codes = detector.model.vqvae.encode(image)
        _, uniforms, _ = restoration_input(trained, options.equal, options.trained_copies)
        above = float(trained.log_prob(codes).nll.quantile(1 - FLAGGED))
        compare("bundled, trained", trained, codes, uniforms, above)


def ready(prior: Any) -> Any:
    bake(prior)
    prior.eval().requires_grad_(False)
    return prior.to(memory_format=torch.channels_last)


def speed(prior: Any, rounds: int) -> None:
    codes, uniforms, above = restoration_input(prior, 8, RESTORATIONS)
    default = replace(PRESETS["fast"].priors[0], codes=prior.config.codes)
    masked = ready(awake(build_prior(default)))
    nll = masked.log_prob(codes).nll
    where = nll > nll.flatten(1).quantile(1 - FLAGGED, dim=1)[:, None, None]

    def restored_by_masked(copies: int) -> Tensor:
        masked.log_prob(codes)
        done: Tensor = masked.resample(codes, uniforms[:, :copies], where=where)
        return done

    ways: dict[str, tuple[int, Callable[[], Tensor]]] = {
        "fast, 1 image": (1, lambda: prior.resample(codes[:1], uniforms[:1], above=above)),
        "fast, 8 images": (8, lambda: prior.resample(codes, uniforms, above=above)),
        "masked default, S = 4, 8 images": (8, lambda: restored_by_masked(4)),
        "masked default, S = 15, 8 images": (8, lambda: restored_by_masked(RESTORATIONS)),
        "direct, 1 image": (1, lambda: prior.resample_directly(codes[:1], uniforms[:1], above)),
    }
    for name, (_, work) in ways.items():
        if not name.startswith("direct"):
            work()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    last: dict[str, Tensor] = {}
    for number in range(rounds):
        for name, (images, work) in ways.items():
            began = time.perf_counter()
            last[name] = work()
            taken[name].append((time.perf_counter() - began) / images)
        print(f"round {number + 1}: " + ", ".join(f"{n} {t[-1]:.4g} s" for n, t in taken.items()), flush=True)
    direct = statistics.median(taken["direct, 1 image"])
    for name, times in taken.items():
        print(f"{name:34s} {statistics.median(times):10.4f} s an image, {direct / statistics.median(times):8.1f} times")
    flagged = float((prior.log_prob(codes[:1]).nll > above).float().mean())
    replaced = float((last["fast, 1 image"] != codes[:1, None]).float().mean())
    equal = float((last["fast, 1 image"] == last["direct, 1 image"]).float().mean())
    print(f"flagged {flagged:.3f}, replaced {replaced:.3f}, equal codes {equal:.6f}")


def compare(name: str, prior: Any, codes: Tensor, uniforms: Tensor, above: float) -> None:
    """Counts the copies whose codes differ, and those of them whose first difference is no tie."""
    fast = prior.resample(codes, uniforms, above=above)
    differ = ties = 0
    replaced = []
    for i in range(len(codes)):
        direct = prior.resample_directly(codes[i : i + 1], uniforms[i : i + 1], above)[0]
        replaced.append(float((direct != codes[i]).float().mean()))
        for copy in range(len(direct)):
            if torch.equal(direct[copy], fast[i, copy]):
                continue
            differ += 1
            ties += is_tie(prior, codes[i], direct[copy], fast[i, copy], uniforms[i, copy], above)
    total = uniforms.shape[0] * uniforms.shape[1]
    print(
        f"{name}: {len(codes)} images x {uniforms.shape[1]} restorations, {np.mean(replaced):.3f} of codes replaced; "
        f"{total - differ} of {total} equal in every code, {differ} differ, {ties} of them begin with a tie",
        flush=True,
    )


def is_tie(prior: Any, original: Tensor, one: Tensor, other: Tensor, uniforms: Tensor, above: float) -> bool:
    place = int((one != other).flatten().nonzero()[0])
    # Up to there both are alike; from there on the walk still sees the input's codes.
    seen = torch.cat([one.flatten()[:place], original.flatten()[place:]]).view(1, *original.shape)
    log_p = prior(seen)[0].flatten(1)[:, place].double().log_softmax(0)
    near_threshold = abs(float(-log_p[original.flatten()[place]]) - above) < TIE
    edges = log_p.exp().cumsum(0)
    return near_threshold or float((edges - uniforms.flatten()[place]).abs().min()) < TIE


if __name__ == "__main__":
    main()
