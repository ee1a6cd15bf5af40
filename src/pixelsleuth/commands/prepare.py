"""`pixelsleuth prepare images|videos|volumes`."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pixelsleuth.commands.terminal import Pick, bar, console, example_of
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import MAX_FALSE_ALARM
from pixelsleuth.scoring.calibration import MIN_CALIBRATION

#: Calibration pictures that a model needs to be asked for the rate that `detect` takes.
FOR_DEFAULT_RATE = round(1 / MAX_FALSE_ALARM) - 1

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read a folder into one HDF5 store for training.")


class Crop(str, Enum):
    face = "face"
    none = "none"


class Edge(str, Enum):
    inside = "inside"
    reflect = "reflect"


class Standard(str, Enum):
    robust = "robust"
    zscore = "zscore"
    none = "none"


class Frame(str, Enum):
    head = "head"
    whole = "whole"
    stretch = "stretch"


SizeOption = Annotated[int, typer.Option(help="Side of the stored squares in pixels.", min=32, max=1024)]
EdgeOption = Annotated[
    Edge, typer.Option(help="A square that leaves the picture is moved inside, or filled up by reflection.")
]
AlignOption = Annotated[bool, typer.Option("--align", help="Turn and scale faces by their five landmarks.")]
LevelOption = Annotated[bool, typer.Option("--level/--no-level", help="Turn tilted faces until the eyes lie level.")]
WorkersOption = Annotated[int, typer.Option(help="Processes that read.", min=1)]
ShardsOption = Annotated[
    int,
    typer.Option(help="Write this many files in parallel into a folder, which reads as one store; 0: one file.", min=0),
]


@app.command("images", epilog=example_of("prepare images my_photos/ photos.h5"))
def prepare_images(
    paths: Annotated[list[Path], typer.Argument(metavar="SRC... STORE.h5", help="Folders of images, then the store.")],
    size: SizeOption = 128,
    crop: Annotated[Crop, typer.Option(help="face: the largest face; none: the largest centred square.")] = Crop.face,
    min_confidence: Annotated[
        float, typer.Option(help="Faces that the detector is less sure of than this are left out.", min=0, max=1)
    ] = 0.95,
    edge: EdgeOption = Edge.inside,
    align: AlignOption = False,
    level: LevelOption = True,
    group_by_folder: Annotated[bool, typer.Option(help="A picture's folder is its group (person, video).")] = False,
    not_near: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE.h5", help="Leave out near-duplicates of this store's pictures across the border of training."
        ),
    ] = None,
    workers: WorkersOption = 2,
    shards: ShardsOption = 0,
) -> None:
    """Read folders of images into one store. Resumes where it was stopped."""
    from pixelsleuth.datasets.preparation import prepare_images as run
    from pixelsleuth.sources.faces import Framing

    framing = Framing(min_confidence, edge.value, align, level)
    _prepared(paths, "images", partial(
        run, size=size, crop=crop.value, framing=framing, group_by_folder=group_by_folder, not_near=not_near,
        workers=workers, shards=shards,
    ))  # fmt: skip


@app.command("videos", epilog=example_of("prepare videos my_clips/ clips.h5"))
def prepare_videos(
    paths: Annotated[list[Path], typer.Argument(metavar="SRC... STORE.h5", help="Folders of videos, then the store.")],
    size: SizeOption = 128,
    min_confidence: Annotated[
        float, typer.Option(help="Faces that the detector is less sure of than this are left out.", min=0, max=1)
    ] = 0.995,
    edge: EdgeOption = Edge.inside,
    align: AlignOption = False,
    level: LevelOption = True,
    every: Annotated[int, typer.Option(help="Look at every n-th frame; 0: see --frames.", min=0)] = 4,
    every_fake: Annotated[int, typer.Option(help="The same for videos known to be fake.", min=1)] = 10,
    frames: Annotated[int, typer.Option(help="With --every 0: look at this many, evenly spaced.", min=1)] = 32,
    keep: Annotated[int, typer.Option(help="Most frames of one person in one video.", min=1)] = 32,
    pick: Annotated[
        Pick, typer.Option(help="Which are kept: even over time, or the best by sharpness, motion, size, confidence.")
    ] = Pick.even,
    labels: Annotated[
        Path | None, typer.Option(help="CSV with columns file,label[,split,group,method]; SRC/labels.csv if there.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for frames per video and sample faces.")] = None,
    workers: WorkersOption = 2,
    shards: ShardsOption = 0,
) -> None:
    """Read the faces of videos into one store. Knows FaceForensics++, DFDC, Celeb-DF. Resumes where it was stopped."""
    from pixelsleuth.datasets.preparation import prepare_videos as run
    from pixelsleuth.sources.faces import Framing
    from pixelsleuth.sources.tracks import Policy

    store = _prepared(paths, "videos", partial(
        run, size=size, framing=Framing(min_confidence, edge.value, align, level),
        policy=Policy(frames, every, keep, pick.value), every_fake=every_fake, labels=labels, workers=workers,
        shards=shards,
    ))  # fmt: skip
    if figures is not None:
        from pixelsleuth.datasets.store import Store
        from pixelsleuth.reporting.figures import save_figure, save_picture
        from pixelsleuth.reporting.timeline import frames_per_video, sheet

        with Store(store) as opened:
            save_figure(frames_per_video(opened), figures / "frames_per_video.png")
            if len(opened):
                save_picture(sheet(opened), figures / "faces.png")


@app.command("volumes", epilog=example_of("prepare volumes healthy_scans/ scans.h5"))
def prepare_volumes(
    paths: Annotated[list[Path], typer.Argument(metavar="SRC... STORE.h5", help="Folders, then the store.")],
    size: SizeOption = 160,
    standard: Annotated[Standard, typer.Option(help="How each volume is brought to one intensity scale.")] = (
        Standard.robust
    ),
    frame: Annotated[
        Frame,
        typer.Option(
            help="Which part of a slice becomes the square: the head, the whole slice, or the whole slice stretched."
        ),
    ] = Frame.head,
    trim: Annotated[int, typer.Option(help="First and last slices left out.", min=0)] = 0,
    keep_empty: Annotated[bool, typer.Option("--keep-empty", help="Keep slices without foreground.")] = False,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks; a folder named mask beside the volumes' unless given.")
    ] = None,
    workers: WorkersOption = 2,
    shards: ShardsOption = 0,
) -> None:
    """Read NIfTI volumes (and DICOM series) into one store of slices. Knows MOOD. Resumes where it was stopped."""
    from pixelsleuth.datasets.volume_preparation import prepare_volumes as run
    from pixelsleuth.sources.scans.slices import SliceFraming

    framing = SliceFraming(size, standard.value, frame.value, trim, keep_empty)
    _prepared(paths, "volumes", partial(run, framing=framing, masks=masks, workers=workers, shards=shards))


def _prepared(paths: list[Path], what: str, run: Callable[..., Any]) -> Path:
    """Run one way of reading on the sources, show its summary, and give the store's path."""
    if len(paths) < 2:
        raise PixelsleuthError(f"prepare {what}: expected at least one folder and the store's name, got one path")
    *sources, store = paths
    from pixelsleuth.datasets.shards import holds_store

    if store.is_dir() and not holds_store(store):
        raise PixelsleuthError(f"prepare {what}: the last path names the store to write; {store} is a folder")
    with bar() as shown:
        task = shown.add_task("reading", total=None)
        summary = run(sources, store, progress=lambda done, total: shown.update(task, completed=done, total=total))
    _show_summary(store, summary)
    return store


def _calibrating(places: Path) -> int:
    """How many of the stored pictures calibrate: normal ones, of each group one."""
    from pixelsleuth.datasets.store import Store
    from pixelsleuth.training.units import one_of_each_group

    with Store(places) as store:
        return len(one_of_each_group(store, store.rows("calib")))


def _show_summary(store: Path, summary: Any) -> None:
    table = Table(title=str(store))
    table.add_column("what")
    table.add_column("count", justify="right")
    for split, count in sorted(summary.by_split.items()):
        table.add_row(f"stored, split {split}", f"{count:,}")
    if summary.videos:
        table.add_row("videos with a face", f"{summary.videos:,}")
    if summary.volumes:
        table.add_row("volumes", f"{summary.volumes:,}")
    table.add_row("byte-identical duplicates dropped", f"{summary.duplicates:,}")
    table.add_row("near-duplicate pairs across splits (kept)", f"{summary.n_near:,}")
    for reason, count in summary.reasons().most_common():
        table.add_row(f"skipped: {reason}", f"{count:,}")
    console.print(table)
    calibrating = _calibrating(store)
    if not summary.volumes and calibrating < FOR_DEFAULT_RATE:
        one = ", one of each group" if summary.videos else ""
        console.print(
            f"`pixelsleuth train` needs {MIN_CALIBRATION} or more untouched pictures of split calib{one}, and "
            f"{FOR_DEFAULT_RATE} for a rate of {MAX_FALSE_ALARM:g}; there are {calibrating}. Put untouched ones into a "
            "folder named calib and run this again.",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip
    for path, code, sentence in summary.skipped[:10]:
        console.print(f"skipped {path}: {code}, {sentence}", highlight=False, soft_wrap=True, markup=False)
    if len(summary.skipped) > 10:
        console.print(f"... and {len(summary.skipped) - 10:,} more")
    for left, right in summary.near[:5]:
        console.print(f"near-duplicates across splits: {left} and {right}", highlight=False, markup=False)
