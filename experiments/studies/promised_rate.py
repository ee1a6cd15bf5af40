"""The share of fresh normal faces with p at most the rate, for both test sets, against the beta-binomial band.

    python experiments/studies/promised_rate.py

Pictures without a face are not judged and not counted.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path

import numpy as np

from pixelsleuth.detector import Detector
from pixelsleuth.evaluation.metrics import promised_band
from pixelsleuth.sources.images import find_images

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="faces")
    parser.add_argument("--rate", type=float, default=0.05, help="at which `unsure` is counted")
    options = parser.parse_args()
    detector = Detector.load(options.model)
    everything = []
    for name in ("faces_dfdc", "faces_utk"):
        paths = list(find_images(SHARED / f"data/{name}/test/real"))
        found = list(detector.detect_many(paths, max_false_alarm=options.rate, heatmap=False, batch_size=32))
        p = np.array([f.p_value for f in found if f.p_value is not None])
        everything.append(p)
        show(f"{name} test reals", p, detector.calibration.count)
        print("  verdicts at", options.rate, dict(Counter(f.verdict for f in found)))
    show("both", np.concatenate(everything), detector.calibration.count)


def show(name: str, p: np.ndarray, n_calibration: int) -> None:
    print(f"{name}: {len(p)} judged")
    for rate in (0.01, 0.05, 0.1):
        low, high = promised_band(rate, n_calibration, len(p))
        share = (p <= rate).mean()
        print(f"  p <= {rate:<4g}: {share:.4f}, band [{low:.4f}, {high:.4f}] {'in' if low <= share <= high else 'OUT'}")


if __name__ == "__main__":
    main()
