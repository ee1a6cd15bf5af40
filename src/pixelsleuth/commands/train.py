"""`pixelsleuth train` and `pixelsleuth calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixelsleuth.commands.terminal import bar, console, say
from pixelsleuth.errors import needs_extra


def train(
    store: Annotated[Path, typer.Argument(metavar="STORE.h5")],
    folder: Annotated[Path, typer.Argument(metavar="MODEL_DIR")],
    preset: Annotated[
        str,
        typer.Option(
            help="fast, scans, scans-bright, paper-ffhq, paper-ffpp, paper-mood-brain, paper-mood-abdomen."
            " Of volumes scans unless given."
        ),
    ] = "fast",
    config: Annotated[Path | None, typer.Option(help="YAML with settings over the preset's.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, dotted.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Train VQ-VAE and priors on normal images, then calibrate."""
    from pixelsleuth.reporting.card import write_card
    from pixelsleuth.sources.store import Store
    from pixelsleuth.training.fitting import calibration_units
    from pixelsleuth.training.presets import resolve

    with needs_extra("train", "train"):
        from pixelsleuth.training.run import train as run

    with Store(store) as opened:
        if opened.holds_volumes and preset == "fast":
            preset = "scans"
        settings = resolve(preset, config, overrides)
        # Better told now than after an hour of training.
        calibration_units(opened)
    run(store, folder, settings, resume=resume, progress=progress, say=say)
    _calibrated(folder, store, "float32")
    write_card(folder)
    say(f"the model is in {folder}")


def _calibrated(folder: Path, store: Path, dtype: str) -> None:
    from pixelsleuth.training.fitting import calibrate as run

    with bar() as shown:
        task = shown.add_task("calibrating", total=None)
        made = run(
            folder, store, dtype=dtype, progress=lambda done, total: shown.update(task, completed=done, total=total)
        )
    unit = made.about.get("unit", "image")
    console.print(f"calibrated {made.score} on {made.count:,} normal {unit}s", highlight=False)


def calibrate(
    folder: Annotated[Path, typer.Argument(metavar="MODEL_DIR")],
    store: Annotated[Path, typer.Argument(metavar="STORE.h5")],
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 where the processor has it.")] = "float32",
) -> None:
    """Rank the store's calibration images: thresholds and p-values from normal images alone."""
    from pixelsleuth.reporting.card import write_card

    _calibrated(folder, store, dtype)
    write_card(folder)
