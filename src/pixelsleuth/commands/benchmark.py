"""`pixelsleuth benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pixelsleuth.commands.terminal import check_file, console, say
from pixelsleuth.errors import needs_extra


def benchmark(
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures.")] = None,
    images: Annotated[int, typer.Option(help="Pictures of the long run of detection.", min=64)] = 1000,
    direct: Annotated[
        bool, typer.Option("--direct/--no-direct", help="Run the direct restoration too, which takes minutes.")
    ] = True,
) -> None:
    """Measure speed on this machine: training step, codes, likelihood, restoration, whole detection."""
    if json_file is not None:
        check_file(json_file, "json")
    import torch

    with needs_extra("train", "benchmark"):
        from pixelsleuth.benchmark.workloads import Benchmark, ratios

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = Benchmark(device, images, direct, say)
    made.run()
    if json_file is not None:
        made.save(json_file)
    table = Table(title="pixelsleuth benchmark")
    for column in ("what", "images/s", "CPU s an image", "peak MB", "of matmul rate"):
        table.add_column(column, justify="left" if column == "what" else "right", no_wrap=True)
    for name, found in made.found.items():
        share = found.settings.get("share_of_matmul_rate")
        table.add_row(
            name, f"{found.images_per_second:,.4g}", f"{found.cpu_seconds_per_image:.4g}", f"{found.peak_mb:,.0f}",
            "" if share is None else f"{share:.0%}",
        )  # fmt: skip
    for name, times in ratios(made.found):
        table.add_row(name, f"{times:,.4g} times", "", "", "")
    # A narrow terminal, or none, would cut names off.
    Console(width=max(console.width, 140)).print(table)
