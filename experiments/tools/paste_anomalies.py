"""Healthy volumes with one anomaly each laid into copies of them, with masks: every kind for every subject.

    python experiments/tools/paste_anomalies.py ../shared/data/brain_t1_healthy/test runs/t1_test --seed 11

See `pixelsleuth.evaluation.pasted`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pixelsleuth.evaluation.pasted import paste_anomalies
from pixelsleuth.synthesis.lesions import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--depth", type=float, default=0.5, help="voxels along z for one along x")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these")
    options = parser.parse_args()
    count = paste_anomalies(
        options.source, options.out, seed=options.seed, depth=options.depth, kinds=options.kind or KINDS
    )
    print(f"{count} volumes in {options.out}")


if __name__ == "__main__":
    main()
