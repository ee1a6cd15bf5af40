"""What the JPEG files of CIPLAB's portraits tell without a look at a pixel: AUROC by level of difficulty.

    python experiments/studies/jpeg_tables.py

For each file: the mean of its luma quantisation table, how rare its tables are among the untouched portraits, its
chroma subsampling, bytes a pixel, and width. Intervals resample files within each class.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from pixelsleuth.evaluation import metrics
from pixelsleuth.files import write_text
from pixelsleuth.sources.images import find_images

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "data/faces_ciplab/val")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "results/studies/jpeg_tables.json")
    options = parser.parse_args()
    paths = [(p, bad) for bad, kind in ((False, "real"), (True, "fake")) for p in find_images(options.data / kind)]
    altered = np.array([bad for _, bad in paths])
    level = np.array([path.name.split("_")[0] if bad else "" for path, bad in paths])
    tables, rows = [], []
    for path, _ in paths:
        with Image.open(path) as image:
            found = getattr(image, "quantization", None) or {}
            tables.append(json.dumps({k: list(v) for k, v in sorted(found.items())}))
            sampling = [c[1:3] for c in getattr(image, "layer", [])]
            rows.append([np.mean(found.get(0, [0])), path.stat().st_size / (image.width * image.height), image.width,
                         float(len({tuple(s) for s in sampling}))])  # fmt: skip
    among = Counter(t for t, bad in zip(tables, altered, strict=True) if not bad)
    rare = np.array([-float(among[t]) for t in tables])
    measures = dict(zip(("luma_table_mean", "bytes_a_pixel", "width", "subsampling"), np.array(rows).T, strict=True))
    measures["tables_rare_among_untouched"] = rare
    tree: dict[str, object] = {
        "data": options.data.name, "n_normal": int((~altered).sum()), "n_anomalous": int(altered.sum()),
        "tables_among_untouched": len(among), "altered_with_a_table_of_their_own": int((rare[altered] == 0).sum()),
    }  # fmt: skip
    found_rows: dict[str, dict[str, metrics.Interval]] = {}
    for name, values in measures.items():
        found_rows[name] = {}
        for which in ("all", *sorted(set(level) - {""})):
            some = ~altered | (altered if which == "all" else level == which)
            weights = metrics.resample_weights([str(i) for i in np.flatnonzero(some)], altered[some].astype(int))
            counts = metrics.image_counts(values[some].astype(float), altered[some], weights)
            found_rows[name][which] = metrics.interval(metrics.auroc(counts))
    tree["auroc"] = found_rows
    print(json.dumps(tree, indent=1))
    write_text(options.out, json.dumps(tree, indent=1) + "\n")


if __name__ == "__main__":
    main()
