"""Print protocols and their results to the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pixelsleuth.evaluation.protocols import Protocol
from pixelsleuth.reporting.curves import shown


def show_protocols(protocols: Sequence[Protocol], console: Console) -> None:
    """Print each protocol's name, version, model and title."""
    table = Table(title="protocols of `pixelsleuth evaluate --protocol NAME`")
    for column in ("name", "version", "model", "what is measured"):
        table.add_column(column, no_wrap=column != "what is measured")
    for one in protocols:
        after = f" ({one.after})" if one.after else ""
        table.add_row(one.name, str(one.version), one.model or "your own", one.title + after)
    console.print(table)


def show_protocol(protocol: Protocol, about: Mapping[str, Any], console: Console) -> None:
    """Print the figures that a protocol is about, and what they were taken with."""
    table = Table(title=f"{protocol.name}, version {protocol.version}: {protocol.title}")
    table.add_column("figure", no_wrap=True)
    table.add_column("value [95% interval]", no_wrap=True)
    for name, value in about["figures"].items():
        table.add_row(name, shown(value) if isinstance(value, list) else str(value))
    console.print(table)
    for what in ("model", "calibration", "data"):
        console.print(f"{what} SHA-256 {about[f'{what}_sha256']}", highlight=False, soft_wrap=True)
    console.print(f"protocol SHA-256 {about['sha256']}", highlight=False, soft_wrap=True)
    if about["published_data"] is False:
        console.print("these are not the data that the published figures were taken on", highlight=False)
