"""`pixelsleuth export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pixelsleuth.commands.terminal import bar, say
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import MAX_FALSE_ALARM


class Graph(str, Enum):
    onnx = "onnx"


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a bundled name, or a Hub id.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    format: Annotated[Graph, typer.Option(help="Of the file.")] = Graph.onnx,
    check: Annotated[
        Path | None,
        typer.Option(help="Folder of inputs that the graph must judge as torch does; by default the demo's."),
    ] = None,
    count: Annotated[int, typer.Option(help="At most this many of them, evenly spread.", min=1)] = 500,
    max_false_alarm: Annotated[float, typer.Option(help="Rate at which verdicts are compared.")] = MAX_FALSE_ALARM,
) -> None:
    """Write a model as an ONNX graph, only if it judges as torch does; `detect --runtime onnx` runs it."""
    if out.suffix != ".onnx":
        raise PixelsleuthError(f"expected a file name that ends in .onnx, got {out}", "out")
    from pixelsleuth.export import export_model

    with bar() as shown:
        task = shown.add_task("checking", total=None)

        def progress(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        made = export_model(model, out, check, count, max_false_alarm, progress)
    for line in made.lines():
        say(line)
