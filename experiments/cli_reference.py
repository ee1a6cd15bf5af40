"""Writes docs/cli.md from the commands' own help; a test holds it to that.

python experiments/cli_reference.py docs/cli.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from typer.testing import CliRunner

from pixelsleuth.cli import app

COMMANDS = (
    (), ("demo",), ("detect",), ("prepare", "images"), ("train",), ("calibrate",), ("evaluate",), ("info",),
    ("robustness",), ("figures",), *(("figures", kind) for kind in (
        "roc", "precision-recall", "histogram", "robustness", "reconstructions", "samples", "examples", "frames",
        "phase", "mean-heatmap", "restoration", "slices",
    )),
)  # fmt: skip


def reference() -> str:
    lines = ["# Command line", "", "Made by `python experiments/cli_reference.py docs/cli.md`.", ""]
    for command in COMMANDS:
        result = CliRunner().invoke(app, [*command, "--help"], prog_name="pixelsleuth", env={"COLUMNS": "100"})
        lines += [f"## pixelsleuth {' '.join(command)}".rstrip(), "", "```text", result.stdout.strip(), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
