"""`pixelsleuth phantoms`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pixelsleuth.commands.terminal import bar, say


class Anatomy(str, Enum):
    brain = "brain"
    abdomen = "abdomen"


def phantoms(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the scans; must be empty.")],
    count: Annotated[
        int,
        typer.Option(
            help="Scans to train on; half as many for calibration, a third for testing, and as many again with a "
            "lesion.",
            min=10,
        ),
    ] = 48,
    seed: Annotated[int, typer.Option(help="The same seed gives the same scans.")] = 0,
    anatomy: Annotated[Anatomy, typer.Option(help="What they look like.")] = Anatomy.brain,
) -> None:
    """Make scans to try the program on: brain-like shapes, healthy ones and ones with a lesion and its mask."""
    from pixelsleuth.synthesis.phantoms import write_phantoms

    with bar() as shown:
        task = shown.add_task("drawing", total=None)
        made = write_phantoms(
            out, count, seed, anatomy.value,
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )  # fmt: skip
    say(
        f"{made.total} scans in {out}: {made.train} train, {made.calib} calibrate; val and test hold {made.val} and "
        f"{made.test} healthy ones, and as many with a lesion"
    )
    say(f"next: pixelsleuth prepare volumes {out} {out}.h5 --size 96")
