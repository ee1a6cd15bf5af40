"""Detectives taught on some kinds of forgery and tried on all: rows taught, columns tried.

    python experiments/detective_kinds.py runs/faces runs/faces.h5 --pairs 6000 --epochs 4 --out runs/kinds

Taught on training pictures, tried on validation pictures that no network was taught on, forged with the same fixed
strengths; `--recipe` names the rows. With `--dfdc` the validation pairs of DFDC confirm (a look that LOG.md records).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from pixelsleuth.evaluation.pixels import centre_prior
from pixelsleuth.models.detective import Detective, DetectiveConfig
from pixelsleuth.models.folder import Model, load_model
from pixelsleuth.sources import faces
from pixelsleuth.sources.anomalies import DONOR_KINDS, KINDS, MODEL_KINDS, partner_mask
from pixelsleuth.sources.images import read_picture
from pixelsleuth.sources.store import Store
from pixelsleuth.training.forging import Forged, forge
from pixelsleuth.training.lessons import Lessons, lessons_of
from pixelsleuth.training.presets import Stage
from pixelsleuth.training.run import fit_detective

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))
FILTERS = ("blur", "sharpen", "noise", "warp", "compression")
#: What a row is taught on.
RECIPES = {
    "blends": ("self_blend", *DONOR_KINDS, *MODEL_KINDS),
    "models": ("self_blend", *MODEL_KINDS),
    "broad": ("self_blend", *DONOR_KINDS, *MODEL_KINDS, "blur", "noise", "compression"),
    "own": ("copy_move", "removal", *FILTERS),
    "all": KINDS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--recipe", action="append", choices=sorted(RECIPES))
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--tried", type=int, default=200, help="validation pictures of each kind")
    parser.add_argument("--no-surprise", action="store_true")
    parser.add_argument("--no-residual", action="store_true")
    parser.add_argument("--dfdc", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/kinds"))
    options = parser.parse_args()
    model = load_model(options.model)
    config = DetectiveConfig(residual=not options.no_residual, surprise=not options.no_surprise)
    with Store(options.store) as store:
        columns = {}
        for kind in KINDS:
            columns[kind] = cached(options.out / "tried" / kind, partial(tried, model, store, kind, options.tried))
        if options.dfdc:
            columns["dfdc"] = cached(options.out / "tried/dfdc", partial(dfdc_pairs, model, store.size))
        for recipe in options.recipe or sorted(RECIPES):
            make = partial(taught, model, store, RECIPES[recipe], options.pairs)
            lessons = cached(options.out / f"taught/{recipe}_{options.pairs}", make)
            name = recipe + ("" if config.surprise else "_no_surprise") + ("" if config.residual else "_no_residual")
            stage = Stage(epochs=options.epochs, batch=24, learning_rate=2e-3)
            torch.manual_seed(0)
            network = Detective(config).to(memory_format=torch.channels_last)
            figures = fit_detective(
                network, lessons, stage, options.out / f"{name}_{options.pairs}_{options.epochs:g}", 0
            )
            print(f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters, {len(lessons):,} pairs, "
                  f"{figures['images_per_second']:.0f} images/s, {figures['seconds']:.0f} s", flush=True)  # fmt: skip
            rows = {kind: measured(network.eval(), lessons) for kind, lessons in columns.items()}
            seen = set(RECIPES[recipe])
            for kind, row in rows.items():
                print(
                    f"  {kind:22s}{'taught' if kind in seen else 'new':8s}"
                    + " ".join(f"{k} {v:.3f}" for k, v in row.items())
                )
            new = [row for kind, row in rows.items() if kind not in seen and kind != "dfdc"]
            for label, some in (("new", new), ("taught", [r for k, r in rows.items() if k in seen])):
                if some:
                    aurocs = [row["auroc"] for row in some]
                    print(f"  {label}: mean AUROC {np.mean(aurocs):.3f}, worst {min(aurocs):.3f}", flush=True)
            (options.out / f"{name}_{options.pairs}_{options.epochs:g}.json").write_text(json.dumps(rows, indent=1))


def cached(folder: Path, make: Callable[[], Lessons]) -> Lessons:
    if not (folder / "mask.npy").exists():
        began = time.perf_counter()
        make().save(folder)
        print(f"{folder}: {time.perf_counter() - began:.0f} s", flush=True)
    return Lessons.load(folder)


def taught(model: Model, store: Store, kinds: tuple[str, ...], pairs: int) -> Lessons:
    rows = store.rows("train")
    rows = rows[np.linspace(0, len(rows) - 1, min(pairs, len(rows))).astype(int)]
    return lessons_of(model, forge(model, store, rows, kinds, seed=1))


def tried(model: Model, store: Store, kind: str, count: int) -> Lessons:
    rows = store.rows("val")
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    return lessons_of(model, forge(model, store, rows, (kind,), seed=2))


def dfdc_pairs(model: Model, size: int) -> Lessons:
    """Validation pairs as they are; a face that is not found in both is left out."""
    folder = SHARED / "data/faces_dfdc/val"
    with open(folder / "pairs.csv", newline="") as file:
        names = list(csv.DictReader(file))
    pixels, masks = [], []
    for row in names:
        real, fake = (read_picture(folder / k / row[k]).pixels for k in ("real", "fake"))
        found = faces.find_faces(real)
        mask = partner_mask(fake, real, size)
        if not found:
            continue
        box = found[0].box
        pixels.append(np.stack([faces.cut(p, box, size) for p in (real, fake)]))
        masks.append(np.zeros((size, size), bool) if mask is None else cut_mask(mask, box, real.shape, size))
    return lessons_of(model, Forged(np.stack(pixels), np.stack(masks), np.array(["dfdc"] * len(masks))))


def cut_mask(mask: np.ndarray, box: object, shape: tuple[int, ...], size: int) -> np.ndarray:
    whole = cv2.resize(mask.astype(np.uint8) * 255, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return faces.cut(np.repeat(whole[..., None], 3, 2), box, size)[..., 0] > 127  # type: ignore[arg-type]


@torch.no_grad()
def measured(network: Detective, lessons: Lessons) -> dict[str, float]:
    reals, fakes, maps, partners = [], [], [], []
    for start in range(0, len(lessons), 32):
        picked = np.arange(start, min(start + 32, len(lessons)))
        image, made, surprise, mask = lessons.batch(picked, np.zeros(len(picked), bool))
        places, whole = network(image, made, surprise)
        reals.append(whole[: len(mask)].numpy())
        fakes.append(whole[len(mask) :].numpy())
        maps.append(places[len(mask) :].numpy())
        partners.append(places[: len(mask)].numpy())
    real, fake = np.concatenate(reals), np.concatenate(fakes)
    truth = np.asarray(lessons.mask) > 0.5
    some = truth.any((1, 2))
    here, there = np.concatenate(maps)[some], np.concatenate(partners)[some]
    flat = truth[some].ravel()
    centre = np.broadcast_to(centre_prior(truth.shape[1]), here.shape)
    blur = [
        -float(cv2.Laplacian(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
        for p in lessons.pixels.reshape(-1, *lessons.pixels.shape[2:])
    ]
    blur = np.array(blur).reshape(-1, 2)
    labels = np.r_[np.zeros(len(real)), np.ones(len(fake))]
    return {
        "auroc": float(roc_auc_score(labels, np.r_[real, fake])),
        "paired": float((fake > real).mean()),
        "blur": float(roc_auc_score(labels, np.r_[blur[:, 0], blur[:, 1]])),
        "pixel_auroc": float(roc_auc_score(flat, here.ravel())),
        "change": float(roc_auc_score(flat, (here - there).ravel())),
        "pixel_ap": float(average_precision_score(flat, here.ravel())),
        "centre_ap": float(average_precision_score(flat, centre.ravel())),
        "prevalence": float(flat.mean()),
    }


if __name__ == "__main__":
    main()
