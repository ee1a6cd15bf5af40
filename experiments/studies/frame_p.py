"""What a video's p costs: twice the mean of its frames' p, as `detect` has it, beside a rule that never gives more.

    pixelsleuth detect DATA/videos --no-heatmap --out RUNS/videos
    python experiments/studies/frame_p.py RUNS/videos/findings.jsonl DATA/videos/labels.csv

Both hold however the frames depend on each other. Twice the mean (Vovk & Wang 2020) counts a frame far above the rest
against the others; cut off at zero it does not:

    p = the least e with mean over frames of max(0, 2 - 2 p_k / e) >= 1.

For a uniform U and e <= 1 the expectation of max(0, 2 - 2 U / e) is e, so that by Markov's inequality P(p <= e) <= e;
at e = twice the mean the sum reaches 1 even without the cut, so that p is never more than that (Vovk, Wang & Wang 2022,
"Admissible ways of merging p-values under arbitrary dependence"; Gasparin, Wang & Ramdas 2025, "Combining exchangeable
p-values"). Both are checked on frames drawn at random, more or less alike, before the table.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

RATES = (0.01, 0.05, 0.1)


def twice_the_mean(p: np.ndarray) -> np.ndarray:
    """(..., n) p-values -> (...)."""
    return np.minimum(1, 2 * p.mean(-1))


def cut_off(p: np.ndarray) -> np.ndarray:
    """(..., n) p-values -> (...), by bisection: the mean grows with e.

    >>> p = np.array([0.01, 0.01, 0.01, 0.9])
    >>> round(float(twice_the_mean(p)), 3), round(float(cut_off(p)), 3)
    (0.465, 0.03)
    """
    low, high = np.zeros(p.shape[:-1]), np.ones(p.shape[:-1])
    for _ in range(50):
        middle = (low + high) / 2
        enough = np.maximum(0, 2 - 2 * p / middle[..., None]).mean(-1) >= 1
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"twice the mean": twice_the_mean, "cut off": cut_off}


def under_the_null(seed: int, frames: int = 16, videos: int = 20_000) -> dict[float, dict[str, list[float]]]:
    """Shares at or below each rate of videos whose frames are uniform and correlated as told."""
    rng, found = np.random.default_rng(seed), {}
    for correlation in (0.0, 0.5, 0.9, 1.0):
        common, own = rng.standard_normal((videos, 1)), rng.standard_normal((videos, frames))
        p = norm.sf(np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)
        found[correlation] = {name: [float((rule(p) <= rate).mean()) for rate in RATES] for name, rule in RULES.items()}
    return found


def of_record(record: dict[str, Any], rule: Callable[[np.ndarray], np.ndarray]) -> float | None:
    """p of a video: m times the smallest of its m people's; None without a face."""
    people = defaultdict(list)
    for frame in record["frames"] or []:
        people[frame["track"]].append(frame["p_value"])
    each = [float(rule(np.array(values))) for values in people.values()]
    return min(1.0, len(each) * min(each)) if each else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("findings", type=Path)
    parser.add_argument("labels", type=Path, help="CSV with columns file, label (REAL, FAKE)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    console = Console(width=120)
    for correlation, shares in under_the_null(given.seed).items():
        told = "; ".join(f"{name} " + ", ".join(f"{share:.4f}" for share in row) for name, row in shares.items())
        console.print(f"null, frames correlated by {correlation:g}, shares at {RATES}: {told}", highlight=False)
    with open(given.labels, encoding="utf-8", newline="") as file:
        labels = {row["file"]: row["label"] for row in csv.DictReader(file)}
    records = [json.loads(line) for line in given.findings.read_text(encoding="utf-8").splitlines()]
    table = Table("video", "label", *RULES)
    found = defaultdict(list)
    for record in records:
        label = next((label for file, label in labels.items() if Path(record["path"]).match(file)), "no label")
        each = {name: of_record(record, rule) for name, rule in RULES.items()}
        table.add_row(Path(record["path"]).name, label, *("-" if p is None else f"{p:.4f}" for p in each.values()))
        for name, p in each.items():
            found[label, name].append(1.0 if p is None else p)
    console.print(table)
    for (label, name), values in found.items():
        shares = ", ".join(f"{np.mean(np.array(values) <= rate):.3f}" for rate in RATES)
        console.print(f"{label}, {name}: shares of {len(values)} at {RATES}: {shares}", highlight=False)


if __name__ == "__main__":
    main()
