"""Sweeps over what a model is trained with: small networks, one YAML a study, one command.

    python experiments/studies/sweep.py experiments/studies/codebook.yaml --normals NORMALS.h5 --work runs/sweeps

NORMALS.h5 is a store of untouched faces of several sources (`pixelsleuth prepare images`). Each run of a study is
`pixelsleuth train` with the settings of `base.yaml`, then the study's, then its own; it scores validation pictures that
no run is trained on: swaps by a generator (DFDC, validation pairs), a feature swapped in and copy-move within the face
(made of the real ones of those pairs), and pictures that the run's own prior draws. A run that is finished is not run
again; `--only RUN` does one. Results go to results/studies/STUDY.json with what each run cost.

The networks are small and see few pictures: differences between runs count, levels do not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import torch
import yaml

from pixelsleuth.datasets.shards import TEXT_COLUMNS
from pixelsleuth.datasets.store import Store
from pixelsleuth.evaluation import metrics
from pixelsleuth.files import write_text
from pixelsleuth.models.checkpoint import Model, load_model
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.scoring import draws
from pixelsleuth.scoring.measurements import raw_scores
from pixelsleuth.scoring.networks import TorchNetworks
from pixelsleuth.scoring.scorer import Crops
from pixelsleuth.scoring.settings import ScoreSettings, settings_from_tree
from pixelsleuth.sources.faces import cut, find_faces
from pixelsleuth.sources.images import jpeg_round_trip, read_picture
from pixelsleuth.synthesis.anomalies import FEATURES, copy_move, feature_swap
from pixelsleuth.training.presets import resolve
from pixelsleuth.training.run import train

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))
HERE = Path(__file__).parent
#: Side at which validation pictures are kept, and pairs of them.
SIDE, PAIRS = 256, 150
#: Pictures drawn from a run's own prior.
DRAWN = 60
#: Kinds that are made of an untouched picture, saved as it is.
EDITS = ("feature_swapped", "copy_move")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--normals", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/sweeps"))
    parser.add_argument("--only", default="", help="one run by name")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "results/studies")
    options = parser.parse_args()
    study = yaml.safe_load(options.study.read_text(encoding="utf-8"))
    base = yaml.safe_load((HERE / "base.yaml").read_text(encoding="utf-8"))
    val = validation(options.work / "val.npz")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    name = options.study.stem
    for run, own in study["runs"].items():
        settings = merged(merged(base, study.get("base", {})), own or {})
        if run == "base" and name != "base":
            # One run, the same for all studies.
            continue
        path = options.work / name / f"{run}.npz"
        if not path.exists() and options.only in ("", run):
            done(settings, options.normals, path, val)
    tree = collected(name, study, options.work)
    write_text(options.out / f"{name}.json", json.dumps(tree, indent=1) + "\n")
    print(table_of(tree))


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    both["set"] = {**below.get("set", {}), **above.get("set", {})}
    return both


# --- validation pictures ---


def validation(path: Path) -> dict[str, np.ndarray]:
    """Squares by kind, (n, SIDE, SIDE, 3) uint8 each, picture i of every kind made of the same photograph: `real` and
    `swapped` as DFDC has them; `resaved` and those of `EDITS` as JPEG of quality 90; `mask_...`: where they were
    edited."""
    if path.exists():
        return dict(np.load(path, allow_pickle=False))
    folder = SHARED / "data/faces_dfdc/val"
    with open(folder / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    photographs = []
    for row in rows:
        real, fake = (read_picture(folder / kind / row[kind]).pixels for kind in ("real", "fake"))
        found = find_faces(real)
        if found and len(photographs) < PAIRS:
            photographs.append((real, fake, found[0]))
    found_kinds: dict[str, list[np.ndarray]] = {}

    def keep(kind: str, pixels: np.ndarray, box: Any) -> None:
        found_kinds.setdefault(kind, []).append(cut(pixels, box, SIDE))

    for i, (real, fake, face) in enumerate(photographs):
        generator = np.random.default_rng(i)
        donor, _, donor_face = photographs[(i + 1 + int(generator.integers(len(photographs) - 1))) % len(photographs)]
        keep("real", real, face.box)
        keep("swapped", fake, face.box)
        keep("resaved", jpeg_round_trip(real, 90), face.box)
        feature = str(generator.choice(FEATURES))
        for kind, edited in (
            ("feature_swapped", feature_swap(real, face, donor, donor_face, feature, match_colours=True)),
            ("copy_move", copy_move(real, face, generator)),
        ):
            keep(kind, jpeg_round_trip(edited.pixels, 90), face.box)
            keep(f"mask_{kind}", np.repeat((edited.mask > 0)[..., None].astype(np.uint8) * 255, 3, 2), face.box)
    val = {kind: np.stack(squares) for kind, squares in found_kinds.items()}
    for kind in EDITS:
        val[f"mask_{kind}"] = val[f"mask_{kind}"][..., 0] > 127
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **val)
    return val


def scaled(squares: np.ndarray, size: int, turns: int = 0) -> np.ndarray:
    """At another size, turned by a number of quarter turns."""
    small = np.stack([cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA) for square in squares])
    return np.ascontiguousarray(np.rot90(small, turns, axes=(1, 2)))


# --- one run ---


def done(settings: dict[str, Any], normals: Path, path: Path, val: dict[str, np.ndarray]) -> None:
    """Trains, scores, and keeps scores by kind with what it cost."""
    began, cpu = time.perf_counter(), time.process_time()
    folder = path.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chosen = selection(settings, normals, folder / "store.h5")
    epochs = settings["seen"] / chosen
    values = {"vqvae_stage.epochs": epochs, "prior_stage.epochs": epochs, **settings["set"]}
    resolved = resolve("fast", None, [f"{key}={json.dumps(value)}" for key, value in values.items()])
    # Whatever the study changes of the codes, the priors follow.
    grid, codes = VQVAE(resolved.vqvae).grid(), resolved.vqvae.codes
    resolved = replace(resolved, priors=tuple(replace(p, grid=grid, codes=codes) for p in resolved.priors))
    train(folder / "store.h5", folder / "model", resolved, progress=False)
    trained = time.process_time() - cpu
    model = load_model(folder / "model")
    fitted = settings_from_tree(model.config.scoring)
    size, turns = model.config.vqvae.size, settings.get("turns", 0)
    kept: dict[str, np.ndarray] = {}
    kinds = {kind: scaled(val[kind], size, turns) for kind in ("real", "swapped", "resaved", *EDITS)}
    kinds["drawn"] = drawn(model)
    for kind, squares in kinds.items():
        for name, scores in scored(model, fitted, squares).items():
            kept[f"{kind}/{name}"] = scores
    figures = model.config.training["figures"]
    about = {
        "images": chosen, "cpu_seconds": round(trained, 1), "seconds": round(time.perf_counter() - began, 1),
        "parameters": sum(p.numel() for n in model.networks for p in n.parameters()),
        "psnr": figures["vqvae"]["psnr"], "codes_used": figures["vqvae"]["usage"],
        "perplexity": figures["vqvae"]["perplexity"],
    }  # fmt: skip
    np.savez(path.with_suffix(".partial.npz"), about=json.dumps(about), **kept)
    path.with_suffix(".partial.npz").replace(path)
    print(f"{path.stem}: {about}", flush=True)


def selection(settings: dict[str, Any], normals: Path, path: Path) -> int:
    """Writes a store of some of the normal pictures at the run's size; gives their number.

    `images`: how many, 0 all; `sources`: of how many sources, taken alike from each, 0: as they come.
    """
    size, most, count = settings["set"].get("vqvae.size", 64), settings["images"], settings["sources"]
    with Store(normals) as store:
        rows = store.rows("train")
        names = np.array(store.sources(rows))
        order = np.random.default_rng(0).permutation(len(rows))
        if count:
            kinds, sizes = np.unique(names, return_counts=True)
            # The largest first, so that few sources have pictures enough.
            kinds = kinds[np.argsort(-sizes, kind="stable")][:count]
            each = most // count
            order = np.concatenate([[i for i in order if names[i] == kind][:each] for kind in kinds])
        picked = rows[order[: most or None].astype(int)]
        squares = scaled(store.pixels(picked), size) if size <= store.size else store.pixels(picked, size)
        squares = np.ascontiguousarray(np.rot90(squares, settings.get("turns", 0), axes=(1, 2)))
        with h5py.File(path, "w") as file:
            file.attrs["settings"] = json.dumps({**store.settings, "size": size})
            file.attrs["duplicates"] = 0
            file["skipped"], file["pixels"] = json.dumps([]), squares
            encoded = [store.encoded(int(row)) for row in picked]
            file["offset"] = np.cumsum([0, *map(len, encoded)])
            file["encoded"] = np.frombuffer(b"".join(encoded), np.uint8)
            for name, column in store.table.items():
                kept = column[picked].astype(h5py.string_dtype()) if name in TEXT_COLUMNS else column[picked]
                file.create_dataset(f"table/{name}", data=kept)
    return len(picked)


@torch.no_grad()
def scored(model: Model, fitted: ScoreSettings, squares: np.ndarray) -> dict[str, np.ndarray]:
    networks = TorchNetworks(model, fitted)
    parts = []
    for start in range(0, len(squares), 50):
        parts.append(raw_scores(networks.measure(Crops(squares[start : start + 50])), fitted))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def drawn(model: Model) -> np.ndarray:
    """(DRAWN, size, size, 3) uint8, pictures of codes that the default prior draws from nothing."""
    prior = next(iter(model.priors.values()))
    uniforms = torch.from_numpy(draws.uniforms([f"{i:064x}" for i in range(DRAWN)], 1, prior.config.grid))[:, 0]
    pictures = model.vqvae.decode(prior.sample(uniforms))
    return pictures.permute(0, 2, 3, 1).mul(255).round().byte().numpy()


# --- results ---


def collected(name: str, study: dict[str, Any], work: Path) -> dict[str, Any]:
    """AUROC of each run, score and kind of forgery, and its difference to the study's first run, on the same
    resamples."""
    runs: dict[str, Any] = {}
    first: dict[str, np.ndarray] = {}
    for run in study["runs"]:
        path = work / ("base" if run == "base" else name) / f"{run}.npz"
        if not path.exists():
            continue
        kept = np.load(path, allow_pickle=False)
        about = json.loads(str(kept["about"]))
        rows: dict[str, dict[str, Any]] = {}
        for kind, against in (("swapped", "real"), *((kind, "resaved") for kind in EDITS), ("drawn", "real")):
            rows[kind] = {}
            for score in study["scores"]:
                if f"{kind}/{score}" not in kept:
                    continue
                values = rows_of(kept[f"{against}/{score}"], kept[f"{kind}/{score}"], paired=kind != "drawn")
                key = f"{kind}/{score}"
                rows[kind][score] = {"auroc": metrics.interval(values)}
                if key in first:
                    rows[kind][score]["difference"] = metrics.interval(values - first[key])
                first.setdefault(key, values)
        runs[run] = {**about, "auroc": rows}
    missing = [run for run in study["runs"] if run not in runs]
    command = f"python experiments/studies/sweep.py experiments/studies/{name}.yaml"
    return {"question": study["question"], "command": command, "runs": runs, "not_run": missing}


def rows_of(normal: np.ndarray, altered: np.ndarray, paired: bool) -> np.ndarray:
    """(R,) AUROC on the data and on every resample, of pairs or of each class by itself."""
    labels = np.arange(len(normal) + len(altered)) >= len(normal)
    units = [str(i % len(normal)) for i in range(len(labels))] if paired else [str(i) for i in range(len(labels))]
    weights = metrics.resample_weights(units, None if paired else labels.astype(int))
    return metrics.auroc(metrics.image_counts(np.concatenate([normal, altered]), labels, weights))


def table_of(tree: dict[str, Any]) -> str:
    lines = []
    for run, about in tree["runs"].items():
        for kind, row in about["auroc"].items():
            for score, found in row.items():
                value, low, high = found["auroc"]
                lines.append(f"{run:16s} {kind:16s} {score:32s} {value:.3f} [{low:.3f}, {high:.3f}] "
                             f"{found.get('difference', '')} {about['cpu_seconds']:.0f} CPU s")  # fmt: skip
    return "\n".join([*lines, f"not run: {', '.join(tree['not_run']) or 'none'}"])


if __name__ == "__main__":
    main()
