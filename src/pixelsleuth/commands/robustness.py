"""`pixelsleuth robustness`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pixelsleuth.commands.terminal import ModelOption, bar, check_there, hold, say_shared


def robustness(
    context: typer.Context,
    normal: Annotated[Path, typer.Option(help="Folder of normal images, or a CSV with columns file,label.")],
    anomalous: Annotated[Path, typer.Option(help="The same, anomalous.")],
    model: ModelOption = "faces",
    pairs: Annotated[Path | None, typer.Option(help="CSV with columns fake,real.")] = None,
    corruption: Annotated[
        list[str] | None,
        typer.Option("--corruption", help="jpeg, webp, h264, resize, blur or noise; all unless given."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for robustness.json and robustness.png.")] = None,
) -> None:
    """Measure scores against severity of JPEG, WebP, H.264, resize, blur and noise."""
    check_there(normal=normal, anomalous=anomalous, pairs=pairs)
    say_shared(normal, anomalous)
    hold(context, out)
    from pixelsleuth.detector import Detector
    from pixelsleuth.evaluation.robustness import measure_robustness
    from pixelsleuth.files import write_text
    from pixelsleuth.reporting.curves import severity_figure
    from pixelsleuth.reporting.figures import save_figure
    from pixelsleuth.reporting.tables import show_robustness

    detector = Detector.load(model)
    with bar() as shown:
        task = shown.add_task("scoring", total=None)
        found = measure_robustness(
            detector, normal, anomalous, pairs=pairs, kinds=corruption or (),
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )  # fmt: skip
    if out is not None:
        found["command"] = "pixelsleuth " + shlex.join(sys.argv[1:])
        write_text(out / "robustness.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
        save_figure(severity_figure(found), out / "robustness.png")
    show_robustness(found, Console())
