"""What four volumes are worth: table 2 of *Deepfake CSI* on n pasted volumes, n = 4 beside n = 100.

    python experiments/studies/toy_size.py MODEL HEALTHY PASTED [--sizes 4 20 100] [--draws 1000]

HEALTHY is a folder of healthy volumes, PASTED what `paste_anomalies.py` wrote (`volumes/` and `mask/`). Every volume
is scored once; then n of the pasted ones, and with them n of the healthy ones (all, where there are fewer), are drawn
again and again, as if each draw were somebody's test set. Printed are the median draw and the range of 95% of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pixelsleuth.detector import Detector
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.samples import ScoredSample
from pixelsleuth.evaluation.volumes import EDGES, evaluate_volumes
from pixelsleuth.scoring.settings import TAIL_SUM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("healthy", type=Path)
    parser.add_argument("pasted", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 20, 100])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--text", action="store_true", help="also Marimont & Tarroni's map, which takes the time")
    options = parser.parse_args()
    detector = Detector.load(str(options.model))
    result = evaluate_volumes(
        detector, options.healthy, options.pasted / "volumes", masks=options.pasted / "mask", text=options.text
    )
    sick = [c for c in result.cases if c.anomalous]
    well = [c for c in result.cases if not c.anomalous]
    default = result.metrics["default_map"]
    maps = [default, *(["text_restoration"] if options.text else [])]
    print(f"{len(sick)} pasted and {len(well)} healthy volumes scored; {options.draws} draws")
    for size in options.sizes:
        if size > len(sick):
            print(f"n = {size}: only {len(sick)} pasted volumes")
            continue
        generator = np.random.default_rng(size)
        ours, theirs = (
            drawn(len(sick), size, options.draws, generator),
            drawn(len(well), size, options.draws, generator),
        )
        labels = np.array([c.anomalous for c in sick + well])
        for name in (result.metrics["default_score"], TAIL_SUM):
            scores = np.array([c.finding.scores[name] for c in sick + well], float)
            counts = metrics.image_counts(scores, labels, np.hstack([ours, theirs]))
            told(f"n = {size}, samples, {name}", AUROC=metrics.auroc(counts), AP=metrics.average_precision(counts))
        for name in maps:
            told(f"n = {size}, pixels, {name}", **pixels(sick, name, ours))


def drawn(count: int, size: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """(draws, count) float64, 1 for each of the `size` volumes that a draw holds."""
    chosen = np.argsort(generator.random((draws, count)), 1) < min(size, count)
    return chosen.astype(float)


def pixels(sick: list[ScoredSample], name: str, weights: np.ndarray) -> dict[str, np.ndarray]:
    """AUROC, AP and the best DSC (chosen on each draw itself, as on a toy set it would be) by draw."""
    values = [c.values(name) for c in sick]
    edges = np.unique(np.quantile(np.concatenate([v[::8] for v in values]), EDGES))
    counts = metrics.pixel_counts(values, [c.marked() for c in sick], weights, edges)
    best = metrics.dice(counts).max(1)
    return {"AUROC": metrics.auroc(counts), "AP": metrics.average_precision(counts), "DSC_best": best}


def told(about: str, **found: np.ndarray) -> None:
    row = []
    for name, values in found.items():
        low, middle, high = np.quantile(values[np.isfinite(values)], (0.025, 0.5, 0.975))
        row.append(f"{name} {middle:.3f} [{low:.3f}, {high:.3f}]")
    print(f"{about}: " + ", ".join(row), flush=True)


if __name__ == "__main__":
    main()
