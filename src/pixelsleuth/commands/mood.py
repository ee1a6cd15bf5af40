"""`pixelsleuth mood`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pixelsleuth.commands.terminal import say
from pixelsleuth.errors import PixelsleuthError


class Mode(str, Enum):
    sample = "sample"
    pixel = "pixel"


def mood(
    folder: Annotated[Path, typer.Option("-i", "--input", help="Folder of NIfTI volumes.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for what is written, one file a volume.")],
    model: Annotated[str, typer.Option("--model", help="A folder or a Hugging Face Hub id.")],
    mode: Annotated[Mode, typer.Option(help="One number a volume, or one map.")] = Mode.pixel,
) -> None:
    """Judge volumes as MOOD's containers are called: NAME.txt with a number in [0, 1], or NAME with a map in [0, 1]."""
    from pixelsleuth.sources.scans.volumes import NIFTI_SUFFIXES

    # What is written is NIfTI, under the name of what was read.
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in found if path.name.lower().endswith(NIFTI_SUFFIXES)]
    if not paths:
        raise PixelsleuthError(f"-i {folder}: expected a folder of .nii or .nii.gz volumes, found none")
    from pixelsleuth.detector import Detector
    from pixelsleuth.mood import check_apart, write_pixels, write_sample

    if mode is Mode.pixel:
        check_apart(paths, out)
    detector = Detector.load(model)
    detector.check_takes("volumes")
    write = write_sample if mode is Mode.sample else write_pixels
    refused = [reason for path in paths if (reason := write(detector, path, out))]
    for reason in refused:
        say(reason)
    if len(refused) == len(paths):
        raise PixelsleuthError(f"none of the {len(paths)} volumes could be judged")
