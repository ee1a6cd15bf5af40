"""Which scores, and which combinations of up to three of them, find validation fakes: as they are, and with each pair
blurred to its softer picture's sharpness. Labelled: it is what FACE_COMBINATION was chosen by.

    python experiments/studies/choose_score.py runs/faces
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
from pathlib import Path

import numpy as np

from pixelsleuth.evaluation.metrics import auroc, image_counts, interval, resample_weights
from pixelsleuth.evaluation.protocol import sharpness_sigmas
from pixelsleuth.models.checkpoint import load_model
from pixelsleuth.models.configuration import find_model
from pixelsleuth.scoring.measurements import fitted_scores, joined
from pixelsleuth.scoring.networks import TorchNetworks
from pixelsleuth.scoring.scorer import Scorer, stacked
from pixelsleuth.scoring.settings import settings_from_tree
from pixelsleuth.sources.faces import cut_views, find_faces, whole_picture
from pixelsleuth.sources.images import read_picture
from pixelsleuth.synthesis.anomalies import blurred

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--val", type=Path, default=SHARED / "data/faces_dfdc/val")
    options = parser.parse_args()
    model = load_model(find_model(options.model)[0])
    settings = settings_from_tree(model.config.scoring)
    networks = TorchNetworks(model, settings)
    sizes = Scorer(networks).sizes
    with open(options.val / "pairs.csv", newline="") as file:
        pairs = {options.val / "fake" / r["fake"]: options.val / "real" / r["real"] for r in csv.DictReader(file)}
    paths = [*pairs, *pairs.values()]
    labels = np.arange(len(paths)) < len(pairs)
    weights = resample_weights([str(i % len(pairs)) for i in range(len(paths))], None)
    sigma = sharpness_sigmas(pairs)
    found = {}
    for condition in ("as they are", "equal sharpness"):
        squares = []
        for path in paths:
            pixels = read_picture(path).pixels
            if condition == "equal sharpness":
                pixels = blurred(pixels, sigma[path])
            faces = find_faces(pixels)
            squares.append(cut_views(pixels, faces[0].box if faces else whole_picture(pixels), sizes))
        parts = [networks.measure(stacked(squares[i : i + 32])) for i in range(0, len(squares), 32)]
        found[condition] = fitted_scores(joined(parts), settings)
    rows = []
    names = list(found["as they are"])
    candidates = [n for n in names if n.endswith("_adjusted")]
    sets = [(n,) for n in names]
    sets += [c for size in (2, 3) for c in itertools.combinations(candidates, size)]
    for chosen in sets:
        row = []
        for scores in found.values():
            values = np.sum([scores[n] for n in chosen], axis=0)
            row.append(interval(auroc(image_counts(values, labels, weights))))
        rows.append((row, chosen))
    rows.sort(key=lambda item: -sum(values[0] for values in item[0]))
    print("AUROC on validation pairs as they are, and at equal sharpness; best sum first, then every single score")
    for row, chosen in [*rows[:15], *(r for r in rows[15:] if len(r[1]) == 1)]:
        print(*row, " + ".join(chosen))


if __name__ == "__main__":
    main()
