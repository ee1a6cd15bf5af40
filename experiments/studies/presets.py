"""Both VQ presets side by side in one run, on the same pictures: images/s, PSNR, perplexity, curves.

    python experiments/studies/presets.py faces.h5 --images 1280 --epochs 2 --out runs/presets

`--images 0` takes all training pictures. The paper's preset is slow on a CPU by design; the subset is said so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pixelsleuth.reporting.figures import save_figure
from pixelsleuth.training.presets import PRESETS
from pixelsleuth.training.run import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/presets"))
    options = parser.parse_args()
    table = {}
    for preset in ("fast", "paper-ffhq"):
        settings = PRESETS[preset]
        stage = {"epochs": options.epochs, "most_images": options.images}
        settings = replace(
            settings,
            vqvae_stage=replace(settings.vqvae_stage, **stage),
            prior_stage=replace(settings.prior_stage, **stage),
        )
        folder = options.out / preset
        train(options.store, folder, settings, resume=folder.exists(), progress=False)
        for name in ("vqvae", *(prior.kind for prior in settings.priors)):
            table[f"{preset}/{name}"] = json.loads((folder / f"training/{name}.json").read_text(encoding="utf-8"))
            events = EventAccumulator(str(folder / f"training/{name}/log"))
            events.Reload()
            curves = {}
            for tag in ("loss", "nll", "perplexity", "train/l1"):
                if tag in events.Tags()["scalars"]:
                    points = events.Scalars(tag)
                    curves[tag] = ([p.step for p in points], [p.value for p in points])
            save_figure(training_curves(curves, f"{preset}, {name}"), options.out / f"{preset}_{name}.png")
    for name, figures in table.items():
        print(f"{name:24s} " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
    (options.out / "presets.json").write_text(json.dumps(table, indent=1))


def training_curves(curves: Mapping[str, tuple[list[int], list[float]]], title: str) -> Figure:
    """One panel a curve: name -> (steps, values)."""
    figure = Figure(figsize=(3.2 * max(1, len(curves)), 2.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(1, len(curves))))
    for axes, (name, (steps, values)) in zip(panels, curves.items(), strict=True):
        axes.plot(steps, values, linewidth=1)
        axes.set(title=name, xlabel="step")
    figure.suptitle(title)
    return figure


if __name__ == "__main__":
    main()
