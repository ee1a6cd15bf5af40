"""What seeing forgeries buys, and what it costs on kinds not seen: each kind taught alone, tried on all.

    python experiments/studies/supervised.py NORMALS.h5 --work runs/supervised [--only NETWORK KIND]

After Chai et al. 2020 (patches) and Dang et al. 2020 (attention), both small, at 128 px: each network learns from pairs
of one kind of `synthesis.face_edits` (or of `all` of them), made of half of the faces. It is tried on pairs of every
kind made of the other half, both pictures of a pair treated alike, and on the validation swaps that `sweep.py` cut of
DFDC.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from experiments.studies.sweep import rows_of, scaled, validation
from pixelsleuth.baselines.supervised import NETWORKS, Supervised
from pixelsleuth.datasets.store import Store
from pixelsleuth.evaluation import metrics
from pixelsleuth.files import write_text
from pixelsleuth.synthesis.face_edits import SHARES
from pixelsleuth.training.pairs import PairSettings, PairSource

SIDE, STRIDE = 128, 4
KINDS = ("donor_swap", "feature_swap", "self_blend", "healed", "generated")
TAUGHT, TRIED = 400, 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("normals", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/supervised"))
    parser.add_argument("--val", type=Path, default=Path("runs/sweeps/val.npz"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", nargs=2, default=None, metavar=("NETWORK", "KIND"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "results/studies/supervised.json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    tried = {kind: pairs_of(options.normals, kind, options.work, 1, TRIED)[0] for kind in KINDS}
    val = validation(options.val)
    tried["DFDC swaps"] = np.stack([scaled(val["real"], SIDE), scaled(val["swapped"], SIDE)], 1)
    for network in NETWORKS:
        for kind in (*KINDS, "all"):
            path = options.work / f"{network}_{kind}_{options.steps}.json"
            if path.exists() or (options.only and options.only != [network, kind]):
                continue
            began = time.process_time()
            made = Supervised(network, options.steps)
            made.teach_on(*pairs_of(options.normals, kind, options.work, 0, TAUGHT))
            found = {name: measured(made, pairs) for name, pairs in tried.items()}
            path.write_text(json.dumps({"cpu_seconds": round(time.process_time() - began, 1), "auroc": found}))
            print(network, kind, json.dumps(found), flush=True)
    tree = {
        network: {
            kind: json.loads(path.read_text())
            for kind in (*KINDS, "all")
            if (path := options.work / f"{network}_{kind}_{options.steps}.json").exists()
        }
        for network in NETWORKS
    }
    write_text(
        options.out,
        json.dumps({"steps": options.steps, "taught_pairs": TAUGHT, "tried_pairs": TRIED, "networks": tree}, indent=1)
        + "\n",
    )


def pairs_of(normals: Path, kind: str, work: Path, half: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2, SIDE, SIDE, 3) uint8 and (n, SIDE, SIDE) bool masks of one kind, made of one half of the faces."""
    path = work / f"pairs_{kind}_{half}.npz"
    if not path.exists():
        with Store(normals) as store:
            rows = store.rows("train")
            rows = rows[[store.landmarks(int(row)) is not None for row in rows]][half::2]
        shares = dict(SHARES) if kind == "all" else {kind: 1}
        source = PairSource(normals, rows, PairSettings(SIDE, STRIDE, shares, seed=half))
        picked = np.random.default_rng(half).permutation(len(rows))[:count]
        made = [source.pair(int(which), number) for number, which in enumerate(picked)]
        masks = [cv2.resize(pair.mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0.5 for pair in made]
        np.savez(path, pairs=np.stack([[pair.picture, pair.forgery] for pair in made]), masks=np.stack(masks))
    with np.load(path, allow_pickle=False) as kept:
        return kept["pairs"], kept["masks"]


def measured(made: Supervised, pairs: np.ndarray) -> metrics.Interval:
    normal, altered = (made.classified(pairs[:, k])[0] for k in (0, 1))
    return metrics.interval(rows_of(normal, altered, paired=True))


if __name__ == "__main__":
    main()
