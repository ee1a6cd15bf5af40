"""What does a threshold on brightness find of tumours on FLAIR, as it is and with each volume's histogram equalised
(Meissen et al. 2021, arXiv:2109.06023)? No network runs, so that these baselines can be measured without a model.

    python experiments/studies/flair_thresholds.py DATA/brain_lgg_flair OUT --split val
    python experiments/studies/flair_thresholds.py DATA/brain_lgg_flair OUT --split test

Slices, head, pooling and resampling by patient are those of `evaluate`; thresholds of test come from
OUT/flair_val.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.datasets.volume_preparation import find_volumes, mask_of
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.volumes import EDGES
from pixelsleuth.scoring.maps import equalised, smoothed, within
from pixelsleuth.sources.scans.slices import SliceFraming, slices_of
from pixelsleuth.sources.scans.volumes import read_mask, read_volume, stem_of


def measured(folder: Path, size: int, levels: dict[str, float]) -> dict[str, Any]:
    """AP, AUROC and DSC of both maps on the volumes of a folder, and the difference of the two, with intervals."""
    values: dict[str, list[np.ndarray]] = {"baseline_brightness": [], "baseline_equalised": []}
    truth, units = [], []
    for path in sorted(find_volumes(folder)):
        volume = read_volume(path)
        cut = slices_of(volume, SliceFraming(size=size))
        mask = mask_of(path, folder)
        if mask is None:
            raise SystemExit(f"{path}: expected a mask beside it")
        lesion, head = cut.cut(read_mask(mask, volume)), within(cut.inside)
        if not lesion.any():
            continue
        image = cut.pixels[..., 0].astype(np.float32) / 255
        for name, made in (("baseline_brightness", image), ("baseline_equalised", equalised(image, head))):
            # As `evaluate` keeps maps.
            pooled = (smoothed(made, name) * head).astype(np.float16)
            values[name].append(pooled[head].astype(np.float32))
        truth.append(lesion[head])
        units.append(stem_of(path))
    weights = metrics.resample_weights(units, None)
    found: dict[str, Any] = {"n_patients": len(units), "prevalence": float(np.mean(np.concatenate(truth))), "pixel": {}}
    rows = {}
    found["thresholds"] = {}
    for name, maps in values.items():
        edges = np.unique(np.quantile(np.concatenate([v[:: max(1, len(maps) // 8)] for v in maps]), EDGES))
        one = metrics.map_metrics(maps, truth, weights, edges, levels.get(name))
        rows[name], found["pixel"][name], found["thresholds"][name] = one.rows, one.intervals(), one.best_level
    found["equalised_minus_brightness"] = {
        key: metrics.interval(rows["baseline_equalised"][key] - rows["baseline_brightness"][key])
        for key in rows["baseline_brightness"]
        if key in rows["baseline_equalised"]
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--size", type=int, default=160)
    options = parser.parse_args()
    levels = {}
    if options.split == "test":
        levels = json.loads((options.out / "flair_val.json").read_text(encoding="utf-8"))["thresholds"]
    found = measured(options.data / options.split / "flair", options.size, levels)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"flair_{options.split}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{found['n_patients']} patients, prevalence {found['prevalence']:.2%}")
    for name, row in (*found["pixel"].items(), ("equalised minus brightness", found["equalised_minus_brightness"])):
        shown = (f"{key} {v[0]:+.3f} [{v[1]:+.3f}, {v[2]:+.3f}]" for key, v in row.items())
        print(f"{name}: {', '.join(shown)}")


if __name__ == "__main__":
    main()
