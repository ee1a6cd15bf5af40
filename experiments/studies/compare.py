"""Methods side by side on the same images: one table a set, AUROC with intervals and the paired difference to ours.

    python experiments/studies/compare.py --normals NORMALS.h5 --work runs/compare [--only METHOD] [--sets NAME...]

The sets: `dfdc_test` (pairs of faces_dfdc/test), `ciplab_val`, and `local_edits` (a feature swapped in with and without
matched colours, and copy-move, made of faces_dfdc/val/real; edited and untouched saved alike as JPEG 90). Each baseline
of `pixelsleuth evaluate --compare` is fitted once on the same normal crops of NORMALS.h5 and scores all sets; our own
scores are those of the bundled model. What is finished is kept in WORK: a run that was stopped goes on. The numbers are
those of `pixelsleuth evaluate --compare`; here a method is fitted once for three sets.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelsleuth.baselines.baseline import ComparedCrop, compared_crop
from pixelsleuth.baselines.registry import BASELINES, baseline
from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.comparison import normal_crops
from pixelsleuth.files import write_text
from pixelsleuth.records import Box
from pixelsleuth.scoring.complexity import jpeg_bytes, laplacian_variance
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.scoring.settings import TAIL_SUM
from pixelsleuth.sources.faces import Framing, find_faces, whole_picture
from pixelsleuth.sources.images import find_images, jpeg_round_trip, read_picture
from pixelsleuth.synthesis.anomalies import FEATURES, copy_move, feature_swap

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared")) / "data"
EDITS = ("swap_unmatched", "swap_matched", "copy_move")
SETS = ("dfdc_test", "ciplab_val", "local_edits")
#: The default score of the bundled model, and others of its scores that stand in the tables.
DEFAULT = "ours"
OURS = ("both_tracks", "combined", "detective_views", TAIL_SUM, "pixelsnail_mean_nll", "masked_mean_nll")
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--normals", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/compare"))
    parser.add_argument(
        "--only", nargs="+", default=["ours", "trivial", *BASELINES], help="some of the methods, or a model's folder"
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--images", type=int, default=600, help="normal crops that baselines are fitted on")
    parser.add_argument("--steps", type=int, default=0, help="training steps of methods that train; 0: their own")
    parser.add_argument("--pairs", type=int, default=250, help="of dfdc_test")
    parser.add_argument("--edited", type=int, default=60, help="photographs that local edits are made of")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "results/studies/compare.json")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    options.work.mkdir(parents=True, exist_ok=True)
    images = {name: options.work / f"{name}.npz" for name in options.sets}
    for name, path in images.items():
        if not path.exists():
            kept(path, name, options)
    for method in options.only:
        missing = [name for name in options.sets if not scores_of(options.work, name, method).exists()]
        if missing:
            measure(method, missing, Detector.load("faces"), options)
    tree = {name: tabled(name, options.work) for name in options.sets}
    fitted = {"images": options.images, "store": options.normals.name}
    write_text(options.out, json.dumps({"fitted_on": fitted, "sets": tree}, indent=1) + "\n")
    for name, rows in tree.items():
        print(f"\n{name}: {rows['n_normal']} normal, {rows['n_anomalous']} anomalous")
        for kind, methods in rows["kinds"].items():
            for method, row in sorted(methods.items(), key=lambda item: -item[1]["auroc"][0]):
                told = {key: "{:.3f} [{:.3f}, {:.3f}]".format(*values) for key, values in row.items()}
                print(f"  {kind:14s} {method:28s} {told}")


# --- the images ---


def kept(path: Path, name: str, options: argparse.Namespace) -> None:
    """Writes pixels, the face's box, label, unit and kind of every image of a set."""
    rows = list({"dfdc_test": dfdc, "ciplab_val": ciplab, "local_edits": edits}[name](options))
    table: dict[str, Any] = {f"pixels_{i}": pixels for i, (pixels, *_) in enumerate(rows)}
    table["box"] = np.array([[*box.as_list(), box.angle] for _, box, *_ in rows])
    table["altered"] = np.array([bad for _, _, bad, _, _ in rows])
    table["unit"], table["kind"] = np.array([r[3] for r in rows]), np.array([r[4] for r in rows])
    np.savez(path.with_suffix(".partial.npz"), **table)
    path.with_suffix(".partial.npz").replace(path)


Row = tuple[np.ndarray, Box, bool, str, str]


def box_of(pixels: np.ndarray) -> Box:
    found = find_faces(pixels, Framing(level=True))
    return found[0].box if found else whole_picture(pixels)


def dfdc(options: argparse.Namespace) -> Iterator[Row]:
    folder = SHARED / "faces_dfdc/test"
    with open(folder / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for i in np.random.default_rng(0).permutation(len(rows))[: options.pairs]:
        for kind in ("real", "fake"):
            pixels = read_picture(folder / kind / rows[i][kind]).pixels
            yield pixels, box_of(pixels), kind == "fake", rows[i]["real"], "all"


def ciplab(options: argparse.Namespace) -> Iterator[Row]:
    for kind in ("real", "fake"):
        for path in find_images(SHARED / "faces_ciplab/val" / kind):
            pixels = read_picture(path).pixels
            yield pixels, box_of(pixels), kind == "fake", path.name, path.name.split("_")[0] if kind == "fake" else ""


def edits(options: argparse.Namespace) -> Iterator[Row]:
    sources = []
    for path in find_images(SHARED / "faces_dfdc/val/real"):
        pixels = read_picture(path).pixels
        found = find_faces(pixels, Framing(level=True)) if len(sources) < options.edited else []
        if found:
            sources.append((path.name, pixels, found[0]))
    for i, (name, pixels, face) in enumerate(sources):
        yield jpeg_round_trip(pixels, 90), face.box, False, name, ""
        for number, kind in enumerate(EDITS):
            generator = np.random.default_rng((i, number))
            _, donor, donor_face = sources[(i + 1 + int(generator.integers(len(sources) - 1))) % len(sources)]
            if kind == "copy_move":
                edited = copy_move(pixels, face, generator)
            else:
                feature = str(generator.choice(FEATURES))
                edited = feature_swap(pixels, face, donor, donor_face, feature, match_colours=kind == "swap_matched")
            yield jpeg_round_trip(edited.pixels, 90), face.box, True, name, kind


def images_of(path: Path) -> Iterator[tuple[np.ndarray, Box]]:
    with np.load(path, allow_pickle=False) as table:
        for i, (x0, y0, x1, y1, angle) in enumerate(table["box"]):
            yield table[f"pixels_{i}"], Box(int(x0), int(y0), int(x1), int(y1), float(angle))


# --- one method ---


def measure(method: str, sets: list[str], detector: Detector, options: argparse.Namespace) -> None:
    began = time.process_time()
    if method == "ours":
        scorers = {name: ours(detector, options.work / f"{name}.npz") for name in sets}
    elif method == "trivial":
        scorers = {name: trivial(options.work / f"{name}.npz") for name in sets}
    else:
        made = baseline(method, torch_of(detector.scorer).model)
        if options.steps and hasattr(made, "steps"):
            made.steps = options.steps
        made.fit([crop for crop, _ in normal_crops(detector, options.normals, options.images)])
        fitting = time.process_time() - began
        print(f"{method}: fitted in {fitting:.0f} CPU s", flush=True)
        scorers = {}
        for name in sets:
            crops = [compared_crop(pixels, box) for pixels, box in images_of(options.work / f"{name}.npz")]
            parts = [made.compare(crops[i : i + BATCH]).scores for i in range(0, len(crops), BATCH)]
            scorers[name] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    for name, scores in scorers.items():
        np.savez(scores_of(options.work, name, method), **scores)
    print(f"{method}: {time.process_time() - began:.0f} CPU s", flush=True)


def scores_of(work: Path, name: str, method: str) -> Path:
    """Where a method's scores of a set are kept; a method may be the folder of a model."""
    return work / f"{name}_{Path(method).name}.npz"


def ours(detector: Detector, path: Path) -> dict[str, np.ndarray]:
    pictures = (pixels for pixels, _ in images_of(path))
    findings = detector.detect_many(
        pictures, max_false_alarm=0.1, heatmap=False, every_score=True, whole_without_face=True
    )
    rows = []
    for finding in findings:
        if not finding.scores:
            raise InputError("failed", "an image of the set cannot be judged")
        rows.append([finding.score, *(finding.scores[name] for name in OURS)])
    return dict(zip((DEFAULT, *OURS), np.array(rows, float).T, strict=True))


def trivial(path: Path) -> dict[str, np.ndarray]:
    crops: list[ComparedCrop] = [compared_crop(pixels, box) for pixels, box in images_of(path)]
    return {
        "blur": np.array([-laplacian_variance(crop.square) for crop in crops]),
        "jpeg_size": np.array([-float(jpeg_bytes(crop.square)) for crop in crops]),
        "brightness": np.array([float(crop.square.mean()) for crop in crops]),
    }


# --- the table ---


def tabled(name: str, work: Path) -> dict[str, Any]:
    """Every method's AUROC, AP and share found at 5% false alarms by kind of the set, and its difference to ours."""
    with np.load(work / f"{name}.npz", allow_pickle=False) as table:
        altered, unit, kind = table["altered"], table["unit"], table["kind"]
    scores: dict[str, np.ndarray] = {}
    for path in sorted(work.glob(f"{name}_*.npz")):
        with np.load(path, allow_pickle=False) as found:
            scores |= {key: found[key] for key in found.files}
    paired = bool(set(unit[altered]) & set(unit[~altered]))
    kinds: dict[str, Any] = {}
    for which in ("all", *sorted(set(kind[altered]) - {"all"})):
        some = ~altered | (altered if which == "all" else altered & (kind == which))
        weights = metrics.resample_weights(unit[some], None if paired else altered[some].astype(int))
        rows = {key: metrics.image_counts(values[some], altered[some], weights) for key, values in scores.items()}
        default = rows.get(DEFAULT)
        kinds[which] = {
            key: {
                "auroc": metrics.interval(metrics.auroc(counts)),
                "ap": metrics.interval(metrics.average_precision(counts)),
                "tpr_at_fpr_0.05": metrics.interval(metrics.tpr_at(counts, 0.05)),
            }
            | (
                {}
                if default is None
                else {"ours_minus": metrics.interval(metrics.auroc(default) - metrics.auroc(counts))}
            )
            for key, counts in rows.items()
        }
    return {"n_normal": int((~altered).sum()), "n_anomalous": int(altered.sum()), "kinds": kinds}


if __name__ == "__main__":
    main()
