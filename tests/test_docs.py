"""What is written about the project agrees with it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_command_line_reference_is_the_help_text() -> None:
    sys.path.insert(0, str(ROOT))
    from experiments.cli_reference import reference

    # Words, not lines: how help is wrapped is Typer's affair and changes with its version.
    written, now = ((text.split("## ")) for text in ((ROOT / "docs/cli.md").read_text(encoding="utf-8"), reference()))
    assert len(written) == len(now) > 5
    for old, new in zip(written, now, strict=True):
        assert old.splitlines()[0] == new.splitlines()[0]
        assert set(re.findall(r"--[\w-]+", old)) == set(re.findall(r"--[\w-]+", new)), (
            "run experiments/cli_reference.py"
        )


def test_the_readme_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"\(((?:docs|experiments|src)/[^)#]+)\)", text) + re.findall(r"`(experiments/[\w.]+)", text):
        assert (ROOT / name).exists(), name
    assert "make demo" in text
    assert "make test" in text
