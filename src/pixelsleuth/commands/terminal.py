"""What the commands share: the terminal, progress bars, and options with the same meaning."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixelsleuth import files
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.progress import Step
from pixelsleuth.records import MAX_FALSE_ALARM

#: Names of skipped files that are printed.
MAX_NAMES = 12
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
RateOption = Annotated[
    float | None,
    typer.Option(
        "--max-false-alarm",
        help=f"Share of normal images that may be called anomalous: {MAX_FALSE_ALARM:g} by default, or for scans the "
        "lowest that the model can promise if that is more.",
        show_default=False,
    ),
]


def example_of(words: str) -> str:
    """The example shown below a command's help."""
    return f"Example: pixelsleuth {words}"


def hold(context: typer.Context, folder: Path | None) -> None:
    """Keep other processes out of the folder that a command writes into, until the command has ended."""
    if folder is not None:
        context.with_resource(files.claimed(folder))


def check_there(**paths: Path | None) -> None:
    """Raise PixelsleuthError, before anything is loaded, where an option names a file or folder that is not there."""
    for setting, path in paths.items():
        if path is not None and not os.path.exists(path):
            raise PixelsleuthError(f"expected a file or folder, there is none at {path}", setting)


def check_file(path: Path, setting: str) -> None:
    """Raise PixelsleuthError, before there is anything to lose, where a file named by an option cannot be written."""
    try:
        files.check_file(path)
    except PixelsleuthError as error:
        raise PixelsleuthError(str(error), setting) from error


def say(text: str) -> None:
    """A line on standard error, as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def say_shared(normal: Path | None, anomalous: Path) -> None:
    """Warn where of two folders one is, or lies in, the other; one CSV may label inputs of either kind."""
    if normal is None or not (normal.is_dir() and anomalous.is_dir()):
        return
    roots = [os.path.realpath(root) for root in (normal, anomalous)]
    if os.path.commonpath(roots) in roots:
        say(f"--normal {normal}, --anomalous {anomalous}: one is, or lies in, the other; inputs in both count as both")


def printable(name: str) -> str:
    """A file's name as a terminal may show it."""
    return "".join(c if c.isprintable() else "?" for c in name)


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


@dataclass
class InputBar:
    """A bar of inputs that moves within videos and volumes too, so that the time left is one of them as well.

    Attributes:
        done: inputs that are behind.
    """

    bar: Progress
    total: int | None
    done: int = 0
    _steps: dict[str, Step] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._task = self.bar.add_task("judging", total=self.total, completed=self.done)

    def step(self, step: Step) -> None:
        with self._lock:
            self._steps[step.path] = step
            self._show()

    def ended(self, path: str) -> None:
        with self._lock:
            self._steps.pop(path, None)
            self.done += 1
            self._show()

    def _show(self) -> None:
        """What the first of those begun is at; those read ahead count in the bar alone."""
        step, told = next(iter(self._steps.values()), None), "judging"
        if step is not None:
            what = "slice" if step.kind == "volume" else "frame"
            told = f"{step.stage} {printable(Path(step.path).name)}: {what} {step.done:,} of {step.total:,}"
        shares = sum(step.share for step in self._steps.values())
        self.bar.update(self._task, description=escape(told), completed=self.done + shares)
