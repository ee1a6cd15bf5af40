"""What commands share: the terminal, progress bars, and options of the same meaning."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixelsleuth.files import claimed

#: Names of what is left out of a folder that are told.
MOST_NAMED = 12
# Records go to standard output; everything meant for people's eyes goes to standard error.
console = Console(stderr=True)


class Pick(str, Enum):
    """Which frames of a person in a video are judged or kept."""

    even = "even"
    quality = "quality"


ModelOption = Annotated[
    str, typer.Option("--model", help="A folder, a bundled name (faces), or a Hugging Face Hub id.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder for what is written.")]


def hold(context: typer.Context, folder: Path | None) -> None:
    """Keeps other processes out of the folder that a command writes into, until the command has ended."""
    if folder is not None:
        context.with_resource(claimed(folder))


def say(text: str) -> None:
    """A line on standard error, as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def printable(name: str) -> str:
    """A file's name as a terminal may show it."""
    return "".join(c if c.isprintable() else "?" for c in name)


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
