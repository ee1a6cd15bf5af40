"""`pixelsleuth train` and `pixelsleuth calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixelsleuth.commands.terminal import bar, console, say
from pixelsleuth.errors import PixelsleuthError, needs_extra

#: Pictures to train on, below which a word is said.
FEW = 1000


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
    """Train VQ-VAE and priors on normal images, then calibrate: minutes to hours, and --resume goes on after a stop."""
    if not store.is_file():
        raise PixelsleuthError(f"{store} does not exist; make it with `pixelsleuth prepare`")
    from pixelsleuth.reporting.card import write_card
    from pixelsleuth.sources.store import Store
    from pixelsleuth.training.fitting import check_calibration_rows
    from pixelsleuth.training.presets import resolve
    from pixelsleuth.training.scan_fitting import check_calibration_volumes

    with needs_extra("train", "train"):
        from pixelsleuth.training.run import train as run

    with Store(store) as opened:
        volumes = opened.holds_volumes
        if volumes and preset == "fast":
            preset = "scans"
        settings = resolve(preset, config, overrides)
        # Better told now than after an hour of training.
        (check_calibration_volumes if volumes else check_calibration_rows)(opened)
        pictures = len(opened.rows("train"))
    if pictures < FEW and not volumes:
        say(
            f"{pictures:,} pictures are few to learn from: the model will call many normal ones unusual; thousands "
            "are better"
        )
    try:
        run(store, folder, settings, resume=resume, progress=progress, say=say)
        _calibrated(folder, store, "float32", volumes)
    except (KeyboardInterrupt, SystemExit):
        say("stopped; the same command with --resume goes on from the last checkpoint, with the same losses")
        raise
    write_card(folder)
    say(f"the model is in {folder}")


def _calibrated(folder: Path, store: Path, dtype: str, volumes: bool) -> None:
    from pixelsleuth.training.fitting import calibrate as of_pictures
    from pixelsleuth.training.scan_fitting import calibrate_slices as of_volumes

    with bar() as shown:
        task = shown.add_task("calibrating", total=None)
        progress = lambda done, total: shown.update(task, completed=done, total=total)  # noqa: E731
        if volumes:
            made = of_volumes(folder, store, progress)
        else:
            made = of_pictures(folder, store, dtype=dtype, progress=progress)
    unit = made.about.get("unit", "image")
    console.print(f"calibrated {made.score} on {made.count:,} normal {unit}s", highlight=False)


def calibrate(
    folder: Annotated[Path, typer.Argument(metavar="MODEL_DIR")],
    store: Annotated[Path, typer.Argument(metavar="STORE.h5")],
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 where the processor has it.")] = "float32",
) -> None:
    """Rank the store's calibration images: thresholds and p-values from normal images alone."""
    from pixelsleuth.reporting.card import write_card
    from pixelsleuth.sources.store import Store

    with Store(store) as opened:
        volumes = opened.holds_volumes
    _calibrated(folder, store, dtype, volumes)
    write_card(folder)
