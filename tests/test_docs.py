"""What is written about the project agrees with it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from pixelsleuth.scoring.origins import fewest
from tests.test_scoring import made_calibration

ROOT = Path(__file__).parents[1]


def test_the_command_line_reference_is_the_help_text() -> None:
    sys.path.insert(0, str(ROOT))
    from experiments.tools.cli_reference import reference

    # Words, not lines: how help is wrapped is Typer's affair and changes with its version.
    written, now = ((text.split("## ")) for text in ((ROOT / "docs/cli.md").read_text(encoding="utf-8"), reference()))
    assert len(written) == len(now) > 5
    for old, new in zip(written, now, strict=True):
        assert old.splitlines()[0] == new.splitlines()[0]
        assert set(re.findall(r"--[\w-]+", old)) == set(re.findall(r"--[\w-]+", new)), (
            "run experiments/tools/cli_reference.py"
        )


def test_the_table_of_how_many_pictures_is_computed() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs/own-pictures.md").read_text(encoding="utf-8"), re.M)
    assert len(rows) == 5
    for count, cells in rows:
        calibration = made_calibration(np.arange(float(count)), np.ones((2, 32, 32)))
        for rate, cell in zip((0.1, 0.05, 0.01, 0.001), cells.split("|"), strict=True):
            low, high = calibration.realised(rate)
            needs = f"needs {fewest(rate)}"
            assert cell.strip() == (f"{low:.1%} to {high:.1%}" if int(count) >= fewest(rate) else needs), (count, rate)


def test_the_readme_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"\(((?:docs|experiments|src)/[^)#]+)\)", text) + re.findall(
        r"`(experiments/[\w./]+)", text
    ):
        assert (ROOT / name).exists(), name
    assert "make demo" in text
    assert "make test" in text
