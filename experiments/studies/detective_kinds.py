"""Detectives taught on some kinds of forgery and tried on all: rows taught, columns tried.

    python experiments/studies/detective_kinds.py runs/faces runs/faces.h5 --recipe broad --pairs 8000 --epochs 5

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

from pixelsleuth.datasets.store import Store
from pixelsleuth.evaluation.localisation import centre_prior
from pixelsleuth.models.checkpoint import Model, load_model
from pixelsleuth.models.configuration import DetectiveConfig
from pixelsleuth.models.detective import Detective
from pixelsleuth.records import Box, Face
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import find_images, jpeg_round_trip, read_picture
from pixelsleuth.synthesis.anomalies import (
    FACE_KINDS,
    FEATURES,
    KINDS,
    Edited,
    copy_move,
    feature_ellipse,
    feature_swap,
    local_change,
    partner_mask,
    poisson_blended,
)
from pixelsleuth.training.forging import Forged, equally_sharp, forge
from pixelsleuth.training.loop import fit_detective
from pixelsleuth.training.pair_dataset import PairDataset, pair_dataset_of
from pixelsleuth.training.presets import Stage

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))
FILTERS = ("blur", "sharpen", "noise", "warp", "compression")
BLENDS = ("donor_blend", "donor_face", "reconstruction_blend", "restoration_blend")
#: Edits of single features, aligned by landmarks; no row is taught them.
LANDMARK_KINDS = ("swap_unmatched", "swap_matched", "swap_poisson", "feature_copied", "feature_retouched")
#: What a row is taught on.
RECIPES = {
    "blends": ("self_blend", *BLENDS),
    "broad": ("self_blend", *BLENDS, "blur", "noise", "compression"),
    "own": ("copy_move", "removal", *FILTERS),
    "twelve": ("self_blend", "copy_move", "removal", *FILTERS, *BLENDS),
    # All but what the four columns below are never taught, as in `broad`.
    "wide": tuple(kind for kind in KINDS if kind not in ("copy_move", "removal", "sharpen", "warp")),
    # Whole faces alone.
    "faces": ("self_blend", "donor_face", *FACE_KINDS, "reconstruction_blend", "restoration_blend"),
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
    parser.add_argument("--no-detail", action="store_true")
    parser.add_argument("--scale", type=int, default=2, help="times the VQ-VAE's size that the detective sees")
    parser.add_argument("--landmarks", type=int, default=120, help="validation pictures edited by landmarks, each way")
    parser.add_argument("--dfdc", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/kinds"))
    options = parser.parse_args()
    model = load_model(options.model)
    config = DetectiveConfig(
        residual=not options.no_residual, surprise=not options.no_surprise, detail=not options.no_detail,
        scale=options.scale,
    )  # fmt: skip
    with Store(options.store) as store:
        columns = {}
        for kind in KINDS:
            columns[kind] = cached(
                options.out / "tried" / kind, partial(tried, model, store, kind, options.tried, config.scale)
            )
        for kind in LANDMARK_KINDS:
            edit = partial(edited_by_landmarks, store.size, kind, options.landmarks, config.scale)
            columns[kind] = cached(options.out / "tried" / kind, lambda edit=edit: pair_dataset_of(model, edit()))
        if options.dfdc:
            columns["dfdc"] = cached(
                options.out / "tried/dfdc", lambda: pair_dataset_of(model, dfdc_pairs(store.size, config.scale))
            )
        for recipe in options.recipe or sorted(RECIPES):
            make = partial(taught, model, store, RECIPES[recipe], options.pairs, config.scale)
            dataset = cached(options.out / f"taught/{recipe}_{options.pairs}", make)
            without = {"surprise": config.surprise, "residual": config.residual, "detail": config.detail}
            name = recipe + "".join(f"_no_{part}" for part, has in without.items() if not has)
            stage = Stage(epochs=options.epochs, batch=24, learning_rate=2e-3)
            torch.manual_seed(0)
            network = Detective(config).to(memory_format=torch.channels_last)
            figures = fit_detective(
                network, dataset, stage, options.out / f"{name}_{options.pairs}_{options.epochs:g}", 0
            )
            print(f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters, {len(dataset):,} pairs, "
                  f"{figures['images_per_second']:.0f} images/s, {figures['seconds']:.0f} s", flush=True)  # fmt: skip
            rows = {kind: measured(network.eval(), dataset) for kind, dataset in columns.items()}
            seen = set(RECIPES[recipe])
            for kind, row in rows.items():
                print(
                    f"  {kind:22s}{'taught' if kind in seen else 'new':8s}"
                    + " ".join(f"{k} {v:.3f}" for k, v in row.items())
                )
            new = [row for kind, row in rows.items() if kind in KINDS and kind not in seen]
            landmarks = [rows[kind] for kind in LANDMARK_KINDS]
            groups = {"new": new, "landmarks": landmarks, "taught": [r for k, r in rows.items() if k in seen]}
            for label, some in groups.items():
                if some:
                    aurocs = [row["auroc"] for row in some]
                    print(f"  {label}: mean AUROC {np.mean(aurocs):.3f}, worst {min(aurocs):.3f}", flush=True)
            (options.out / f"{name}_{options.pairs}_{options.epochs:g}.json").write_text(json.dumps(rows, indent=1))


def cached(folder: Path, make: Callable[[], PairDataset]) -> PairDataset:
    if not (folder / "mask.npy").exists():
        began = time.perf_counter()
        make().save(folder)
        print(f"{folder}: {time.perf_counter() - began:.0f} s", flush=True)
    return PairDataset.load(folder)


def taught(model: Model, store: Store, kinds: tuple[str, ...], pairs: int, scale: int) -> PairDataset:
    rows = store.rows("train")
    rows = rows[np.linspace(0, len(rows) - 1, min(pairs, len(rows))).astype(int)]
    return pair_dataset_of(model, forge(model, store, rows, kinds, seed=1, scale=scale))


def tried(model: Model, store: Store, kind: str, count: int, scale: int) -> PairDataset:
    rows = store.rows("val")
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    return pair_dataset_of(model, forge(model, store, rows, (kind,), seed=2, scale=scale))


def edited_by_landmarks(size: int, kind: str, count: int, scale: int) -> Forged:
    """Validation faces edited as `local_edits.py` edits test faces, both pictures of a pair as JPEG 90."""
    sources = []
    for path in find_images(SHARED / "data/faces_dfdc/val/real"):
        pixels = read_picture(path).pixels
        found = faces.find_faces(pixels)
        if found and len(sources) < count:
            sources.append((pixels, found[0]))
    pairs, masks = [], []
    for i, (pixels, _) in enumerate(sources):
        edited = by_landmarks(kind, i, sources)
        pairs.append([jpeg_round_trip(p, 90) for p in (pixels, edited.pixels)])
        masks.append(edited.mask)
    boxes = [face.box for _, face in sources]
    return cut_pairs(pairs, masks, boxes, kind, size, scale)


def by_landmarks(kind: str, number: int, sources: list[tuple[np.ndarray, Face]]) -> Edited:
    """One of `LANDMARK_KINDS` on source `number`, its donor any other source."""
    pixels, face = sources[number]
    generator = np.random.default_rng((number, LANDMARK_KINDS.index(kind)))
    donor, donor_face = sources[(number + 1 + int(generator.integers(len(sources) - 1))) % len(sources)]
    if kind == "feature_copied":
        return copy_move(pixels, face, generator)
    feature = str(generator.choice(FEATURES))
    if kind == "feature_retouched":
        centre, axes, _ = feature_ellipse(face, feature)
        sigma = 0.02 * face.box.width
        return local_change(pixels, centre, max(axes), lambda p: cv2.bilateralFilter(p, -1, 40, sigma))
    edited = feature_swap(pixels, face, donor, donor_face, feature, match_colours=kind != "swap_unmatched")
    return poisson_blended(pixels, edited.pixels, edited.mask) if kind == "swap_poisson" else edited


def cut_pairs(
    pairs: list[list[np.ndarray]], masks: list[np.ndarray], boxes: list[Box], kind: str, size: int, scale: int
) -> Forged:
    """Whole pictures and masks cut to the squares at `boxes`."""
    sizes = faces.Sizes(size, scale * size)
    cut = [[faces.cut_views(p, box, sizes)[:2] for p in pair] for pair, box in zip(pairs, boxes, strict=True)]
    close = np.stack([[near for _, near in pair] for pair in cut]) if scale > 1 else None
    return Forged(
        np.stack([[square for square, _ in pair] for pair in cut]),
        np.stack([cut_mask(m, box, size) for m, box in zip(masks, boxes, strict=True)]),
        np.array([kind] * len(pairs)),
        np.zeros((len(pairs), 0), np.float32),
        close,
    )


def dfdc_pairs(size: int, scale: int, equal_sharpness: bool = False) -> Forged:
    """Validation pairs, as they are or the sharper picture of each blurred to the softer one's Laplacian variance; a
    pair without a face is left out."""
    folder = SHARED / "data/faces_dfdc/val"
    with open(folder / "pairs.csv", newline="") as file:
        names = list(csv.DictReader(file))
    pairs, masks, boxes = [], [], []
    for row in names:
        real, fake = (read_picture(folder / k / row[k]).pixels for k in ("real", "fake"))
        found = faces.find_faces(real)
        mask = partner_mask(fake, real, size)
        if not found:
            continue
        if equal_sharpness:
            real, fake = equally_sharp(real, fake)
        pairs.append([real, fake])
        none = np.zeros(real.shape[:2], np.uint8)
        masks.append(none if mask is None else cv2.resize(mask.astype(np.uint8), real.shape[1::-1]))
        boxes.append(found[0].box)
    return cut_pairs(pairs, masks, boxes, "dfdc", size, scale)


def cut_mask(mask: np.ndarray, box: Box, size: int) -> np.ndarray:
    return faces.cut(np.repeat(mask[..., None].astype(np.uint8) * 255, 3, 2), box, size)[..., 0] > 127


@torch.no_grad()
def measured(network: Detective, dataset: PairDataset) -> dict[str, float]:
    reals, fakes, maps, partners = [], [], [], []
    for start in range(0, len(dataset), 32):
        picked = np.arange(start, min(start + 32, len(dataset)))
        given, mask = dataset.batch(picked, np.zeros(len(picked), bool))
        places, whole = network(*given)
        reals.append(whole[: len(mask)].numpy())
        fakes.append(whole[len(mask) :].numpy())
        maps.append(places[len(mask) :].numpy())
        partners.append(places[: len(mask)].numpy())
    real, fake = np.concatenate(reals), np.concatenate(fakes)
    truth = np.asarray(dataset.mask) > 0.5
    some = truth.any((1, 2))
    here, there = np.concatenate(maps)[some], np.concatenate(partners)[some]
    flat = truth[some].ravel()
    centre = np.broadcast_to(centre_prior(truth.shape[1]), here.shape)
    blur = [
        -float(cv2.Laplacian(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
        for p in dataset.pixels.reshape(-1, *dataset.pixels.shape[2:])
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
