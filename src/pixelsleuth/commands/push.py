"""`pixelsleuth push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixelsleuth.commands.terminal import say


def push(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder; calibrated.")],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="The repository, made where there is none.")],
    licence: Annotated[
        str | None, typer.Option("--licence", help="Of the weights, where MODEL holds no LICENSE-WEIGHTS: apache-2.0.")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(metavar="metrics.json", help="Of `evaluate` with this model, for its card.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    branch: Annotated[str | None, typer.Option(help="Write to this branch.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose it in place of writing.")] = False,
) -> None:
    """Upload a model with its card to the Hugging Face Hub (`hf auth login` before)."""
    from pixelsleuth.hub import push_to_hub

    commit = push_to_hub(
        model, repo_id, metrics=metrics, licence=licence, private=private or None, branch=branch, create_pr=create_pr
    )
    say(f"pushed; whoever is to get these very files loads {repo_id}@{commit}")
