"""Draws which room imports from which, in the order that `tests/test_design.py` holds: every arrow must point down.

    python experiments/tools/draw_structure.py structure.png

A row is a room, as wide as it has lines; an arc is an import, drawn at the right where it goes down, as it must, and
in red at the left where it goes up.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/pixelsleuth"


def order() -> list[str]:
    """The rooms, the lowest first, as the test of the design has them."""
    tree = ast.parse((ROOT / "tests/test_design.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "ORDER":
            return list(ast.literal_eval(node.value))
    raise SystemExit("tests/test_design.py holds no ORDER")


def measured() -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    """Lines and files of each room, and imports from room to room."""
    lines: Counter[str] = Counter()
    files: Counter[str] = Counter()
    arrows: Counter[tuple[str, str]] = Counter()
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        room = relative.parts[0].removesuffix(".py")
        text = path.read_text(encoding="utf-8")
        lines[room] += len(text.splitlines())
        files[room] += 1
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pixelsleuth."):
                other = node.module.split(".")[1]
                if other != room:
                    arrows[room, other] += 1
    return lines, files, arrows


def drawn() -> Figure:
    rooms = [room for room in order() if room != "__main__"]
    lines, files, arrows = measured()
    figure = Figure(figsize=(9, 0.42 * len(rooms) + 0.8), layout="constrained")
    axes = figure.subplots()
    widest = max(lines[room] for room in rooms)
    for y, room in enumerate(rooms):
        axes.barh(y, 3 * lines[room] / widest, left=-1.5 * lines[room] / widest, height=0.6, color="#cfd8dc")
        axes.text(0, y, f"{room}  {lines[room]:,}" + (f" in {files[room]}" if files[room] > 1 else ""), ha="center",
                  va="center", fontsize=8)  # fmt: skip
    up = 0
    for (room, other), count in sorted(arrows.items()):
        if room not in rooms or other not in rooms:
            continue
        start, end = rooms.index(room), rooms.index(other)
        falls = end < start
        up += not falls
        side, colour = (1, "#1565c0") if falls else (-1, "#d32f2f")
        reach = side * (1.7 + 0.11 * abs(start - end))
        angle = np.linspace(-np.pi / 2, np.pi / 2, 40)
        middle, half = (start + end) / 2, (start - end) / 2
        axes.plot(side * 1.6 + (reach - side * 1.6) * np.cos(angle), middle + half * np.sin(angle), color=colour,
                  linewidth=0.4 + 0.35 * np.log2(count), alpha=0.6)  # fmt: skip
        axes.plot(side * 1.6, end, marker="<" if side > 0 else ">", color=colour, markersize=3)
    axes.set_title(f"{sum(arrows.values())} imports between {len(rooms)} rooms; {up} go up", fontsize=9)
    axes.set_axis_off()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path, default=Path("structure.png"), help="a PNG, written anew")
    drawn().savefig(parser.parse_args().picture, dpi=130)


if __name__ == "__main__":
    main()
