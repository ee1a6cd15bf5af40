"""Writes docs/cli.md from the commands' own help; a test holds it to that.

python experiments/tools/cli_reference.py docs/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from pixelsleuth.cli import app


def commands(tree: Any = None, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command by its words, a group before its own, in the order of the help text."""
    tree = tree or typer.main.get_command(app)
    yield name
    for word, sub in getattr(tree, "commands", {}).items():
        yield from commands(sub, (*name, word))


def reference() -> str:
    lines = ["# Command line", "", "Made by `python experiments/tools/cli_reference.py docs/cli.md`.", ""]
    for command in commands():
        result = CliRunner().invoke(app, [*command, "--help"], prog_name="pixelsleuth", env={"COLUMNS": "100"})
        lines += [f"## pixelsleuth {' '.join(command)}".rstrip(), "", "```text", result.stdout.strip(), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
