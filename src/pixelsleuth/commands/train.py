"""`pixelsleuth train` and `pixelsleuth calibrate`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixelsleuth.commands.terminal import MAX_NAMES, bar, console, printable, say
from pixelsleuth.errors import PixelsleuthError, needs_extra

if TYPE_CHECKING:
    from pixelsleuth.scoring.calibration import Calibration


class Precision(str, Enum):
    """Lightning's names."""

    full = "32-true"
    bf16 = "bf16-mixed"
    fp16 = "16-mixed"


def train(
    store: Annotated[
        Path, typer.Argument(metavar="STORE.h5", help="Of `prepare`; or a folder of scans, which is prepared first.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="MODEL_DIR")],
    preset: Annotated[
        str,
        typer.Option(
            help="fast, scans, scans-bright, scans-small, paper-ffhq, paper-ffpp, paper-mood-brain, paper-mood-abdomen."
            " For volumes scans unless given."
        ),
    ] = "fast",
    config: Annotated[Path | None, typer.Option(help="YAML with settings over the preset's.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, dotted.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run stopped, on as many devices as there are now.")
    ] = False,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
    devices: Annotated[
        int,
        typer.Option(help="GPUs of this machine, or processes on its CPU, that share each batch.", min=1),
    ] = 1,
    nodes: Annotated[int, typer.Option(help="Machines; the command is started on each (docs/scale.md).", min=1)] = 1,
    precision: Annotated[
        Precision | None,
        typer.Option(help="Precision of all stages, in place of the preset's; bf16 only where it is supported."),
    ] = None,
) -> None:
    """Train VQ-VAE and priors on normal images, then calibrate: minutes to hours, and --resume goes on after a stop."""
    from pixelsleuth.datasets.shards import holds_store
    from pixelsleuth.datasets.store import Store
    from pixelsleuth.reporting.card import write_card
    from pixelsleuth.training.presets import resolve
    from pixelsleuth.training.regimes import SCANS, regime_of

    with needs_extra("train", "train"):
        from pixelsleuth.training.processes import Processes
        from pixelsleuth.training.run import train as run

    if precision is not None:
        stages = ("vqvae_stage", "prior_stage", "detective_stage", "vae_stage")
        overrides = [*(overrides or []), *(f"{stage}.precision={precision.value}" for stage in stages)]
    if store.is_dir() and not holds_store(store):
        preset = SCANS.preset if preset == "fast" else preset
        store = _prepared(store, folder, resolve(preset, config, overrides).vqvae.size)
    with Store(store) as opened:
        regime = regime_of(opened)
        settings = resolve(regime.preset if preset == "fast" else preset, config, overrides)
        # Better told now than after an hour of training.
        regime.units(opened)
        count = len(opened.rows("train"))
    processes = Processes.launched(devices, nodes)
    tell = say if processes.first else (lambda text: None)
    if count < regime.advised:
        tell(
            f"{count:,} pictures are few to learn from: the model will call many normal ones unusual; thousands "
            "are better"
        )
    try:
        run(store, folder, settings, resume=resume, progress=progress, say=tell, processes=processes)
        processes.part()
        if not processes.first:
            return
        _calibrated(folder, store, "float32")
    except (KeyboardInterrupt, SystemExit):
        tell("stopped; the same command with --resume goes on from the last checkpoint, with the same losses")
        raise
    write_card(folder)
    say(f"the model is in {folder}")


def _prepared(scans: Path, folder: Path, size: int) -> Path:
    """The store of a folder of scans, beside the model's folder; one that is there already is gone on with."""
    from pixelsleuth.datasets.volume_preparation import find_volumes, prepare_volumes
    from pixelsleuth.sources.scans.slices import SliceFraming

    if next(find_volumes(scans), None) is None:
        raise PixelsleuthError(
            f"{scans} is a folder without scans; images and videos are prepared first: `pixelsleuth prepare images "
            f"{scans} STORE.h5`"
        )
    store = folder.with_name(f"{folder.name}.h5")
    with bar() as shown:
        task = shown.add_task("reading", total=None)
        made = prepare_volumes(
            [scans], store, framing=SliceFraming(size=size),
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )  # fmt: skip
    say(f"{made.volumes:,} scans, {made.stored:,} slices in {store}")
    for path, code, sentence in made.skipped[:MAX_NAMES]:
        say(f"left out {printable(path)} ({code}): {sentence}")
    return store


def _calibrated(folder: Path, store: Path, dtype: str) -> None:
    from pixelsleuth.training.calibrating import calibrate as run

    with bar() as shown:
        task = shown.add_task("calibrating", total=None)
        made = run(
            folder, store, dtype=dtype, progress=lambda done, total: shown.update(task, completed=done, total=total)
        )
    unit = made.about.get("unit", "image")
    console.print(f"calibrated {made.score} on {made.count:,} normal {unit}s", highlight=False)


def calibrate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder; with --normal also a bundled name or a Hub id.")
    ],
    store: Annotated[
        Path | None,
        typer.Argument(metavar="STORE.h5", help="What `prepare` wrote; its calibration images are ranked anew."),
    ] = None,
    normal: Annotated[
        Path | None,
        typer.Option(
            "--normal",
            metavar="DIR",
            help="In place of a store: a folder of untouched images of your own, 100 to 300 of them; 99 promise a "
            "false-alarm rate of 1%, 19 of 5%, 9 of 10%.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="NEW_MODEL", help="With --normal: the model folder to write.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 where the processor has it.")] = "float32",
) -> None:
    """Calibrate on normal images that no network learned from: new p-values, no training.

    With a store the model itself is calibrated on the store's calibration images; with --normal a copy of the model,
    on your own untouched images.
    """
    from pixelsleuth.reporting.card import write_card

    if (store is None) == (normal is None):
        raise PixelsleuthError("give a store of `pixelsleuth prepare`, or --normal DIR with untouched images, not both")
    if normal is not None:
        if out is None:
            raise PixelsleuthError("--normal needs --out: the folder of the new model; the one given stays as it is")
        if not normal.is_dir():
            raise PixelsleuthError(f"expected a folder of untouched images, got {normal}", "normal")
        _calibrated_at_home(model, normal, out, dtype)
        return
    if out is not None:
        raise PixelsleuthError("--out goes with --normal; on a store the model itself is calibrated")
    assert store is not None
    if not Path(model).is_dir():
        raise PixelsleuthError(
            f"expected the folder of a model of your own, got {model}; a bundled model is calibrated as a copy of it, "
            "with --normal DIR --out NEW_MODEL_DIR", "model",
        )  # fmt: skip
    _calibrated(Path(model), store, dtype)
    write_card(Path(model))


def _calibrated_at_home(model: str, normal: Path, out: Path, dtype: str) -> None:
    from pixelsleuth.files import whole_folder
    from pixelsleuth.models.configuration import copy_networks, find_model
    from pixelsleuth.reporting.card import write_card
    from pixelsleuth.training.own import calibrate_on_folder

    source, name = find_model(model)
    before = _calibration_of(source)
    with whole_folder(out) as partial:
        copy_networks(source, partial)
        with bar() as shown:
            task = shown.add_task("calibrating", total=None)
            made, reading = calibrate_on_folder(
                partial, normal, known=_known(source, before), dtype=dtype,
                levelling=None if before is None else before.levelling,
                progress=lambda done, total: shown.update(task, completed=done, total=total),
            )  # fmt: skip
        write_card(partial, out.resolve().name)
    for path, code, sentence in reading.left_out[:MAX_NAMES]:
        say(f"left out {printable(path)} ({code}): {sentence}")
    if len(reading.left_out) > MAX_NAMES:
        say(f"left out {len(reading.left_out):,} in all: {reading.reasons()}")
    say(f"calibrated {made.score} of {name} on {made.count:,} images of {printable(str(normal))}")
    for rate in (0.1, 0.05, 0.01, 0.001):
        say(_at_rate(made, rate))
    say(f"the model is in {out}: pixelsleuth detect IMAGE --model {out}")


def _calibration_of(source: Path) -> Calibration | None:
    """A model's calibration; None where it cannot be read: it is about to be replaced, whatever is wrong with it."""
    from pixelsleuth.errors import ModelError
    from pixelsleuth.models.configuration import digest_of, load_config
    from pixelsleuth.scoring.calibration import load_calibration

    try:
        return load_calibration(source / "calibration.json", digest_of(source, load_config(source)))
    except ModelError:
        return None


def _known(source: Path, before: Calibration | None) -> set[str]:
    """Perceptual hashes of a model's calibration pictures, where they are another's, and of the demo's."""
    from pixelsleuth.demo import hashes
    from pixelsleuth.models.configuration import load_config
    from pixelsleuth.training.own import OWN

    known = hashes() if load_config(source).preprocessing["crop"] == "face" else set()
    # One's own pictures may be ranked again, with more of them.
    return known if before is None or before.about.get(OWN) else known | set(before.pictures)


def _at_rate(made: Calibration, rate: float) -> str:
    """One line on what is promised at a rate, or how many images are missing for it."""
    from pixelsleuth.scoring.origins import fewest

    if made.count < fewest(rate):
        return f"--max-false-alarm {rate:g}: needs {fewest(rate):,} images, {fewest(rate) - made.count:,} more"
    low, high = made.realised(rate)
    return (
        f"--max-false-alarm {rate:g}: of untouched images like these {low:.1%} to {high:.1%} will be called anomalous "
        "(95% confidence)"
    )
