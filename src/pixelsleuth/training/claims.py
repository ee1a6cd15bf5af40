"""Check what a training run may begin with: settings that fit the store, and a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import write_text
from pixelsleuth.models.checkpoint import build_prior
from pixelsleuth.models.configuration import DETECTIVE_FILE, RUN_NOTE, find_model
from pixelsleuth.models.detective import build_detective
from pixelsleuth.models.vae import VAE
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.synthesis.face_edits import SHARES
from pixelsleuth.training.calibrating import check_unlearned
from pixelsleuth.training.presets import Settings, as_tree
from pixelsleuth.training.regimes import regime_of


def check_settings(store: Store, settings: Settings) -> None:
    """Raises PixelsleuthError where the settings do not fit the store, or each other."""
    if store.size != settings.vqvae.size:
        raise PixelsleuthError(
            f"the store holds {store.size} px pictures, the preset wants {settings.vqvae.size}; "
            f"prepare it at {settings.vqvae.size} px"
        )
    regime = regime_of(store)
    if settings.vqvae.channels != regime.channels:
        raise PixelsleuthError(
            f"a store of {regime.inputs} has {regime.channels} channel(s), the preset wants {settings.vqvae.channels}; "
            f"take the preset {regime.preset}"
        )
    wants = [settings.vqvae.context, *(prior.context for prior in settings.priors)]
    if max(wants) > regime.scalars:
        raise PixelsleuthError(
            f"context: a store of this kind has {regime.scalars} scalars (slice position), {max(wants)} are asked for"
        )
    deep = settings.detective.kind == "deep"
    if deep and settings.detective_stage.epochs and store.settings["crop"] != "face":
        raise PixelsleuthError("detective.kind: a deep detective judges faces; expected 'light' for this store")
    kinds = tuple(SHARES) if deep else regime.forgeries
    unknown = sorted(set(settings.forgeries) - set(kinds))
    if unknown and settings.detective_stage.epochs:
        raise PixelsleuthError(f"forgeries: expected some of {', '.join(kinds)}; got {unknown[0]!r}")
    if settings.detective_stage.epochs and settings.detective.atlas and not regime.atlas:
        raise PixelsleuthError("detective.atlas: only slices of volumes have an atlas; expected false")
    if settings.detective_stage.epochs and settings.detective.channels != settings.vqvae.channels:
        raise PixelsleuthError(
            f"detective.channels: expected {settings.vqvae.channels} as the VQ-VAE's, got {settings.detective.channels}"
        )
    vae, vqvae = settings.vae, settings.vqvae
    if settings.vae_stage.epochs and (vae.size, vae.channels) != (vqvae.size, vqvae.channels):
        raise PixelsleuthError(
            f"vae.size, vae.channels: expected {vqvae.size} and {vqvae.channels} as the VQ-VAE's, got {vae.size} and "
            f"{vae.channels}; set them, or train without a plain VAE (vae_stage.epochs=0)"
        )
    if settings.detective_stage.epochs and settings.pairs < 2:
        raise PixelsleuthError(f"pairs: expected 2 or more, one to forge and a donor; got {settings.pairs}")
    for name in ("vqvae_stage", "prior_stage"):
        stage = getattr(settings, name)
        if stage.groups and stage.batch % stage.groups:
            raise PixelsleuthError(f"{name}.batch: expected a multiple of {stage.groups} groups, got {stage.batch}")
    if settings.init:
        check_unlearned(find_model(settings.init)[0], store, store.rows("calib"))
    _check_priors(settings, _checked_grid(settings))


def _check_priors(settings: Settings, grid: tuple[int, int]) -> None:
    kinds = [prior.kind for prior in settings.priors]
    if len(set(kinds)) < len(kinds):
        raise PixelsleuthError(f"priors: expected each kind once, got {', '.join(kinds)}")
    for prior in settings.priors:
        if prior.grid != grid or prior.codes != settings.vqvae.codes:
            raise PixelsleuthError(
                f"the {prior.kind} prior is set for a grid {prior.grid} of {prior.codes} codes, the VQ-VAE gives "
                f"{grid} of {settings.vqvae.codes}; set priors.N.grid and priors.N.codes"
            )


def _checked_grid(settings: Settings) -> tuple[int, int]:
    """Of the codes. Raises PixelsleuthError where a network cannot be built: better told before the first is taught."""
    parts: list[tuple[str, Callable[[Any], Any], Any]] = [
        (f"priors.{number}", build_prior, prior) for number, prior in enumerate(settings.priors)
    ]
    if settings.detective_stage.epochs:
        parts.append(("detective", build_detective, settings.detective))
    if settings.vae_stage.epochs:
        parts.append(("vae", VAE, settings.vae))
    name = "vqvae"
    try:
        grid = VQVAE(settings.vqvae).grid()
        for part, build, config in parts:
            name = part
            with torch.device("meta"):
                build(config)
    except (RuntimeError, ValueError) as error:
        raise PixelsleuthError(f"{name}: no network can be built of these settings ({error})") from error
    return grid


def claim_folder(folder: Path, work: Path, settings: Settings, store: Store, sha256: str, resume: bool) -> None:
    """Makes the folder this run's own, `sha256` being the store's. Raises PixelsleuthError where it is another's."""
    note = folder / RUN_NOTE
    about = {"store": store.path.name, "pictures": len(store), "store_sha256": sha256}
    text = json.dumps({"settings": as_tree(settings), **about}, indent=2)
    if note.exists():
        if not resume:
            raise PixelsleuthError(f"{folder} holds a training run; resume it, or name another folder")
        try:
            old, new = json.loads(note.read_text(encoding="utf-8")), json.loads(text)
        except ValueError as error:
            raise PixelsleuthError(f"{note} is damaged ({error}); name another folder") from error
        # Runs that were begun before it was noted.
        old.setdefault("store_sha256", sha256)
        if old == new:
            return
        taught = (folder / DETECTIVE_FILE).exists() or (work / "dataset").exists()
        if taught or _without_detective(old) != _without_detective(new):
            raise PixelsleuthError(f"{folder} holds a run with other settings or data; name another folder")
        # A model that is trained may be given a detective later.
        write_text(note, text)
    # A run that was killed at its very beginning leaves empty folders.
    elif any(path.is_file() for path in folder.rglob("*")):
        raise PixelsleuthError(f"{folder} is not empty and holds no training run; name another folder")
    else:
        write_text(note, text)


def damaged(path: Path, error: Exception) -> PixelsleuthError:
    """The error of a file that a run wrote to go on from and that cannot be read; it is not needed."""
    why = (str(error) or type(error).__name__).split(". ")[0].splitlines()[0]
    return PixelsleuthError(f"{path} is damaged ({why}); delete it and resume: what it held is made anew")


def _without_detective(note: dict[str, Any]) -> dict[str, Any]:
    about = {"detective", "detective_stage", "forgeries", "pairs", "sign"}
    return {**note, "settings": {k: v for k, v in note["settings"].items() if k not in about}}
