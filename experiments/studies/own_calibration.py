"""A model calibrated on pictures of one source alone, judging others of that source: does the rate hold?

    python experiments/studies/own_calibration.py SCORES.npz --out RUNS

SCORES.npz is written by experiments/tools/score_pictures.py. Of every source with at least 120 untouched pictures 200,
or half where there are fewer than 300, calibrate, as `pixelsleuth calibrate --normal` does, and the others are judged,
over many draws. A draw makes calibration and others exchangeable, so that only ties and the program could break the
rate; what a folder of one's own is really like is closer to `by name`: the first ones, by name, calibrate, and the
others are judged. UTKFace's names begin with the age.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tools.score_pictures import load
from pixelsleuth.evaluation.metrics import promised_band
from pixelsleuth.files import write_text
from pixelsleuth.models.configuration import digest_of, find_model, load_config

RATES = (0.01, 0.05, 0.1)
MIN_IMAGES = 120


def shares(scores: np.ndarray, count: int) -> list[float]:
    """Of the scores after the first `count`, which calibrate, the share with p at or below each rate."""
    ascending = np.sort(scores[:count])
    p = (1 + count - np.searchsorted(ascending, scores[count:], "left")) / (count + 1)
    return [float((p <= rate).mean()) for rate in RATES]


def of_source(scores: np.ndarray, repetitions: int) -> dict[str, Any]:
    """Of (n,) scores in order of name."""
    count = 200 if len(scores) >= 300 else len(scores) // 2
    generator = np.random.default_rng(0)
    drawn = np.array([shares(generator.permutation(scores), count) for _ in range(repetitions)])
    row: dict[str, Any] = {"n": len(scores), "calibrate": count, "judged": len(scores) - count}
    for number, (rate, by_name) in enumerate(zip(RATES, shares(scores, count), strict=True)):
        low, high = promised_band(rate, count, len(scores) - count)
        inside = (drawn[:, number] >= low - 1e-4) & (drawn[:, number] <= high + 1e-4)
        row[f"{rate:g}"] = {
            "mean": round(float(drawn[:, number].mean()), 4),
            "middle": [round(float(v), 4) for v in np.quantile(drawn[:, number], (0.025, 0.975))],
            "band": [low, high],
            "inside": round(float(inside.mean()), 4),
            "by_name": round(by_name, 4),
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table, folder = load(options.scores), find_model("faces")[0]
    untouched = np.array(["/fake/" not in path for path in table["path"]])
    tree: dict[str, Any] = {"model_sha256": digest_of(folder, load_config(folder))}
    for name in sorted(set(table["source"].tolist())):
        here = np.flatnonzero(untouched & (table["source"] == name))
        here = here[np.argsort([Path(path).name for path in table["path"][here]], kind="stable")]
        if len(here) >= MIN_IMAGES:
            tree[name] = of_source(table["score"][here], options.repetitions)
            print(name, tree[name], flush=True)
    if options.out:
        write_text(options.out / "own_calibration.json", json.dumps(tree, indent=1) + "\n")


if __name__ == "__main__":
    main()
