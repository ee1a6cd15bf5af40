"""`pixelsleuth info`."""

from __future__ import annotations

from typing import Annotated

import typer


def info(model: Annotated[str, typer.Argument(metavar="MODEL")] = "faces") -> None:
    """Print a model's card: data, settings, calibration, licence of the weights, SHA-256."""
    from pixelsleuth.models.configuration import find_model
    from pixelsleuth.reporting.card import card_of

    folder, _ = find_model(model)
    print(card_of(folder))
