"""The command line: registers the commands, which live in `commands`, and turns errors into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer
from rich.markup import escape
from typer.core import TyperGroup

from pixelsleuth import __version__
from pixelsleuth.commands import (
    benchmark,
    demo,
    detect,
    evaluate,
    export,
    figures,
    info,
    mood,
    phantoms,
    prepare,
    push,
    robustness,
    serve,
    train,
)
from pixelsleuth.commands.terminal import console, example_of, say
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import disk_is_full
from pixelsleuth.memory import keep_freed_memory


class _Stoppable(TyperGroup):
    """The commands; one that is stopped says so. Typer itself ends a stopped command without a word, and lets nobody
    else know."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("stopped; what was written is kept")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Stoppable,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learns what normal images look like, and shows where a new image differs from them, and how rare that is "
    "among normal ones.",
)
app.add_typer(prepare.app, name="prepare")
app.add_typer(figures.app, name="figures")
for command, example in (
    (demo.demo, "demo"),
    (detect.detect, "detect photo.jpg --out out --report"),
    (train.train, "train photos.h5 my_model"),
    (train.calibrate, "calibrate faces --normal my_photos/ --out my_faces"),
    (evaluate.evaluate, "evaluate --normal untouched/ --anomalous altered/ --out measured"),
    (robustness.robustness, "robustness --normal untouched/ --anomalous altered/ --corruption jpeg"),
    (mood.mood, "mood -i scans/ -o answers/ --mode pixel --model my_scans"),
    (serve.serve, "serve --port 8000"),
    (export.export, "export faces faces.onnx --check photos/"),
    (benchmark.benchmark, "benchmark --no-direct --json speed.json"),
    (info.info, "info faces"),
    (phantoms.phantoms, "phantoms phantom_scans/"),
    (push.push, "push my_model someone/my_model"),
):
    app.command(epilog=example_of(example))(command)


def main() -> None:
    """Run the command line; an expected error is one line and exit code 2."""
    # Asked to end, a run ends as by Ctrl-C: what is done is kept, and the report written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    keep_freed_memory()
    try:
        app()
    except PixelsleuthError as error:
        console.print(f"[red]error:[/red] {_one_line(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of standard output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if not disk_is_full(error):
            raise
        told = "no room is left to write; what was finished is kept whole, free some space and run the command again"
        why = _one_line(PixelsleuthError(str(error)))[:200]
        console.print(f"[red]error:[/red] {told} ({why})", highlight=False, soft_wrap=True)
        sys.exit(2)


def _one_line(error: PixelsleuthError) -> str:
    told = f"--{error.setting.replace('_', '-')}: {error.text}" if error.setting else str(error)
    return escape(" ".join(told.split()))


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
