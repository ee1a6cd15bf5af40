"""Give a face model another deep detective: fit its scores, calibrate it and write its card anew.

    python experiments/tools/with_detective.py MODEL DETECTIVE.safetensors STORE.h5 OUT

MODEL is a folder or the name of a bundled model whose networks stay; the detective is one that
experiments/tools/teach_detectives.py wrote, with its figures.json beside it. STORE is the one that the model was
trained on. OUT is written whole.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelsleuth.datasets.store import Store
from pixelsleuth.models.checkpoint import DETECTIVE_FILE, load_model
from pixelsleuth.models.configuration import ModelConfig, find_model, load_config, save_config
from pixelsleuth.reporting.card import write_card
from pixelsleuth.training.calibrating import calibrate
from pixelsleuth.training.fitting import fit_scores, save_scores

KEPT = ("vqvae.safetensors", "prior.safetensors", "prior_pixelsnail.safetensors", "LICENSE-WEIGHTS", "trained_on.npy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("detective", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    folder, out = find_model(options.model)[0], options.out
    if out.exists():
        parser.error(f"{out}: there is something already; expected a new folder")
    making = out.with_name(f"{out.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for name in KEPT:
        if (folder / name).exists():
            shutil.copyfile(folder / name, making / name)
    shutil.copyfile(options.detective, making / DETECTIVE_FILE)
    save_config(making, _configured(load_config(folder), options.detective))
    with Store(options.store) as store:
        save_scores(making, fit_scores(load_model(making), store, store.rows("train"), lambda done, total: None))
    calibrate(making, options.store)
    making.rename(out)
    write_card(out)


def _configured(config: ModelConfig, path: Path) -> ModelConfig:
    """The model's configuration, with what the other detective's teaching counted."""
    told = json.loads(path.with_name("figures.json").read_text(encoding="utf-8"))
    pairs = told["pairs"][path.stem]
    figures = {"pairs": pairs, "seconds": told["seconds"], "images_per_second": round(2 * told["pairs_per_second"], 1)}
    training: dict[str, Any] = {**config.training, "figures": {**config.training["figures"], "detective": figures}}
    training["settings"] = {**training["settings"], "pairs": pairs}
    return replace(config, training=training)


if __name__ == "__main__":
    main()
