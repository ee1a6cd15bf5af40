"""A training run from store to model folder: VQ-VAE, codes, priors. Every part resumes where it stopped."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import claimed, write_text
from pixelsleuth.models.backbone import imagenet_weights
from pixelsleuth.models.checkpoint import build_prior, load_model, load_network, save_network
from pixelsleuth.models.configuration import (
    DETECTIVE_FILE,
    PREPROCESSING,
    VAE_FILE,
    ModelConfig,
    find_model,
    load_config,
    prior_file,
    save_config,
)
from pixelsleuth.models.detective import DeepDetective, Detective, build_detective
from pixelsleuth.models.prior import Context
from pixelsleuth.models.quantiser import perplexity
from pixelsleuth.models.vae import VAE
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.scoring.atlas import Atlas, save_atlas
from pixelsleuth.scoring.settings import ScoreSettings
from pixelsleuth.sources.anomalies import KINDS
from pixelsleuth.sources.face_edits import SHARES
from pixelsleuth.sources.lesions import KINDS as LESIONS
from pixelsleuth.sources.shards import Places
from pixelsleuth.sources.store import Store
from pixelsleuth.training.data import Sampler, augmented, scalars_of, to_float
from pixelsleuth.training.fitting import fit_scores, fit_slices, save_scores
from pixelsleuth.training.forging import forge
from pixelsleuth.training.loop import fit, fit_deep_detective, fit_detective, steps_of
from pixelsleuth.training.pair_dataset import PairDataset, pair_dataset_of
from pixelsleuth.training.presets import Settings, Stage, as_tree
from pixelsleuth.training.stages import (
    PriorStage,
    VAEStage,
    VQVAEStage,
    reconstruction_metrics,
)
from pixelsleuth.training.volume_forging import forge_slices

#: Random views of each scan that a prior learns from beside the scan and its mirror image.
SCAN_VIEWS = 6


def train(
    places: Places,
    folder: Path,
    settings: Settings,
    *,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Trains on the normal pictures of split `train` and writes a model folder, not yet calibrated.

    Args:
        places: of the store (see sources.store.Store).
        resume: go on where a run of the same settings stopped; without it a folder in use is an error.

    Raises:
        PixelsleuthError: settings that do not fit the store, or a folder that holds another run.
    """
    with Store(places) as store, ExitStack() as held:
        _check(store, settings)
        held.enter_context(claimed(folder))
        work = folder / "training"
        _claim(folder, work, settings, store, resume)
        rows = store.rows("train")
        figures: dict[str, Any] = {"train_images": len(rows)}

        torch.manual_seed(settings.seed)
        vqvae = VQVAE(settings.vqvae).to(memory_format=torch.channels_last)
        stage = settings.vqvae_stage
        chosen = rows[: stage.most_images] if stage.most_images else rows
        sampler = Sampler(store.table["group"][chosen].tolist(), stage, settings.seed, store.sources(chosen))
        steps = steps_of(sampler, stage)
        module = VQVAEStage(vqvae, settings.loss, stage, steps, settings.seed)
        vqvae_path = folder / "vqvae.safetensors"
        if vqvae_path.exists():
            load_network(vqvae, vqvae_path)
        else:
            kept = _begun(vqvae, settings.init, vqvae_path.name) and not stage.epochs
            say(f"VQ-VAE: {_count(vqvae):,} parameters, {len(chosen):,} pictures, {steps:,} steps of {stage.batch}")
            scalars = settings.vqvae.context

            def source(picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                return store.pixels(chosen[picked]), scalars_of(store, chosen[picked], scalars)

            speed = {} if kept else fit(module, source, sampler, steps, work / "vqvae", progress)
            figures["vqvae"] = speed | _validated(vqvae, store, work / "vqvae")
            write_text(work / "vqvae.json", json.dumps(figures["vqvae"]))
            save_network(vqvae, vqvae_path)
        figures["vqvae"] = json.loads((work / "vqvae.json").read_text(encoding="utf-8"))
        say("VQ-VAE: " + ", ".join(f"{k} {v:.4g}" for k, v in figures["vqvae"].items()))

        if settings.vae_stage.epochs:
            figures["vae"] = _fit_vae(folder, store, rows, settings, work, progress)
            say("VAE: " + ", ".join(f"{k} {v:.4g}" for k, v in figures["vae"].items()))
        learned = rows[: settings.prior_stage.most_images or None]
        codes = _cached_codes(vqvae, store, learned, settings.prior_stage, work / "codes.npy", say)
        held_out = _held_out(store)
        for number, config in enumerate(settings.priors):
            path = folder / prior_file(number, config.kind)
            torch.manual_seed(settings.seed + 1 + number)
            prior = build_prior(config).to(memory_format=torch.channels_last)
            if not path.exists():
                begun = _begun(prior, settings.init, path.name)
                figures[config.kind] = {}
                if settings.prior_stage.epochs or not begun:
                    figures[config.kind] = _fit_prior(
                        prior, codes, store, learned, settings, number, work, progress, say
                    )
                figures[config.kind]["held_out_nll"] = _prior_nll(prior, vqvae, store, held_out)
                write_text(work / f"{config.kind}.json", json.dumps(figures[config.kind]))
                save_network(prior, path)
            figures[config.kind] = json.loads((work / f"{config.kind}.json").read_text(encoding="utf-8"))
            say(f"{config.kind}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures[config.kind].items()))

        preprocessing = {k: store.settings[k] for k in PREPROCESSING if k in store.settings}
        data = {
            "store_sha256": store.sha256(),
            "sources": sorted(set(store.table["source"].tolist())),
            "splits": store.by_split(),
        }
        data["sources"] = [Path(source).parent.name + "/" + Path(source).name for source in data["sources"]]
        if settings.detective.kind == "deep" and settings.detective_stage.epochs:
            data["detective"] = dict(sorted(Counter(store.sources(rows)).items()))
        training = {
            "settings": as_tree(settings),
            "figures": figures,
            "data": data,
            "torch": torch.__version__,
        }
        unfitted = ScoreSettings().as_tree()
        vae = settings.vae if settings.vae_stage.epochs else None
        whole = ModelConfig(preprocessing, settings.vqvae, settings.priors, unfitted, training, vae=vae)
        save_config(folder, whole)
        taught = bool(settings.detective_stage.epochs)
        atlas = None
        if store.holds_volumes:
            fitted, atlas = fit_slices(load_model(folder), store, learned, settings.sign, taught)
            save_atlas(folder, atlas)
        if taught:
            figures["detective"] = _teach(folder, store, settings, atlas, work, progress, say)
            save_config(folder, dataclasses.replace(whole, detective=settings.detective))
        if not store.holds_volumes:
            fitted = fit_scores(load_model(folder), store, learned, lambda done, total: None)
        save_scores(folder, fitted)


def _begun(network: nn.Module, init: str, file: str) -> bool:
    """Gives a network the weights of the model that the run begins with; whether it begins with one."""
    if init:
        load_network(network, find_model(init)[0] / file)
    return bool(init)


def _fit_vae(
    folder: Path, store: Store, rows: np.ndarray, settings: Settings, work: Path, progress: bool
) -> dict[str, float]:
    """Trains the plain VAE that `evaluate` compares with."""
    torch.manual_seed(settings.seed)
    vae = VAE(settings.vae)
    if not (folder / VAE_FILE).exists():
        stage = settings.vae_stage
        sampler = Sampler(store.table["group"][rows].tolist(), stage, settings.seed)
        steps = steps_of(sampler, stage)

        def source(picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return store.pixels(rows[picked]), scalars_of(store, rows[picked], 0)

        made = fit(VAEStage(vae, stage, steps, settings.seed), source, sampler, steps, work / "vae", progress)
        write_text(work / "vae.json", json.dumps(made))
        save_network(vae, folder / VAE_FILE)
    found: dict[str, float] = json.loads((work / "vae.json").read_text(encoding="utf-8"))
    return found


def _teach(
    folder: Path, store: Store, settings: Settings, atlas: Atlas | None, work: Path, progress: bool,
    say: Callable[[str], None],
) -> dict[str, float]:  # fmt: skip
    """Forges pairs with the networks that are trained, once, and teaches the detective; gives its figures."""
    torch.manual_seed(settings.seed)
    detective = build_detective(settings.detective).to(memory_format=torch.channels_last)
    if isinstance(detective, DeepDetective) and not (folder / DETECTIVE_FILE).exists():
        figures = _taught_deep(detective, store, settings, work, progress, say)
        write_text(work / "detective.json", json.dumps(figures))
        save_network(detective, folder / DETECTIVE_FILE)
    elif isinstance(detective, Detective) and not (folder / DETECTIVE_FILE).exists():
        if not (work / "dataset/mask.npy").exists():
            model = load_model(folder)
            rows = store.rows("train")
            say(f"forging {settings.pairs:,} pairs of {', '.join(settings.forgeries)}")
            if store.holds_volumes:
                seen = atlas if settings.detective.atlas else None
                forged = forge_slices(
                    store, rows, settings.pairs, settings.forgeries, settings.seed + 1, settings.sign, seen
                )
            else:
                rows = rows[np.linspace(0, len(rows) - 1, min(settings.pairs, len(rows))).astype(int)]
                forged = forge(model, store, rows, settings.forgeries, settings.seed + 1, settings.detective.scale)
            pair_dataset_of(model, forged).save(work / "dataset")
        dataset = PairDataset.load(work / "dataset")
        say(f"detective: {_count(detective):,} parameters, {len(dataset):,} pairs")
        stage = settings.detective_stage
        figures = fit_detective(detective, dataset, stage, work / "detective", settings.seed, progress)
        write_text(work / "detective.json", json.dumps(figures))
        save_network(detective, folder / DETECTIVE_FILE)
    found: dict[str, float] = json.loads((work / "detective.json").read_text(encoding="utf-8"))
    say("detective: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()))
    return found


def _taught_deep(
    detective: DeepDetective, store: Store, settings: Settings, work: Path, progress: bool, say: Callable[[str], None]
) -> dict[str, float]:
    """Teaches a deep detective on the training faces whose landmarks are known; gives its figures."""
    rows = store.rows("train")
    rows = rows[[store.landmarks(int(row)) is not None for row in rows]]
    if len(rows) < 2:
        raise PixelsleuthError(
            f"{store.path}: a deep detective needs faces whose landmarks are known, the store has {len(rows)}; prepare "
            "it again, or take the preset fast"
        )
    begun = find_model(settings.init)[0] if settings.init else None
    config = load_config(begun).detective if begun else None
    if begun is not None and config is not None and config.kind == "deep":
        load_network(detective, begun / DETECTIVE_FILE)
    elif settings.detective.pretrained:
        detective.trunk.load_state_dict(imagenet_weights())
    stage = settings.detective_stage
    say(f"detective: {_count(detective):,} parameters, {stage.epochs * len(rows):,.0f} pairs of {len(rows):,} faces")
    shares = {kind: SHARES[kind] for kind in settings.forgeries}
    return fit_deep_detective(detective, store, rows, stage, shares, work / "detective", settings.seed, progress)


def _check(store: Store, settings: Settings) -> None:
    if store.size != settings.vqvae.size:
        raise PixelsleuthError(
            f"the store holds {store.size} px pictures, the preset wants {settings.vqvae.size}; "
            f"prepare it at {settings.vqvae.size} px"
        )
    channels = 1 if store.holds_volumes else 3
    if settings.vqvae.channels != channels:
        kind, preset = ("volumes", "scans") if channels == 1 else ("images", "fast")
        raise PixelsleuthError(
            f"a store of {kind} has {channels} channel(s), the preset wants {settings.vqvae.channels}; "
            f"take the preset {preset}"
        )
    wants = [settings.vqvae.context, *(prior.context for prior in settings.priors)]
    most = 1 if store.holds_volumes else 0
    if max(wants) > most:
        raise PixelsleuthError(
            f"context: a store of this kind has {most} scalars (slice position), {max(wants)} are asked for"
        )
    deep = settings.detective.kind == "deep"
    if deep and settings.detective_stage.epochs and (store.holds_volumes or store.settings["crop"] != "face"):
        raise PixelsleuthError("detective.kind: a deep detective judges faces; expected 'light' for this store")
    kinds = tuple(SHARES) if deep else LESIONS if store.holds_volumes else KINDS
    unknown = sorted(set(settings.forgeries) - set(kinds))
    if unknown and settings.detective_stage.epochs:
        raise PixelsleuthError(f"forgeries: expected some of {', '.join(kinds)}; got {unknown[0]!r}")
    if settings.detective_stage.epochs and settings.detective.atlas and not store.holds_volumes:
        raise PixelsleuthError("detective.atlas: only slices of volumes have an atlas; expected false")
    if settings.detective_stage.epochs and settings.detective.channels != settings.vqvae.channels:
        raise PixelsleuthError(
            f"detective.channels: expected {settings.vqvae.channels} as the VQ-VAE's, got {settings.detective.channels}"
        )
    grid = VQVAE(settings.vqvae).grid()
    for prior in settings.priors:
        if prior.grid != grid or prior.codes != settings.vqvae.codes:
            raise PixelsleuthError(
                f"the {prior.kind} prior is set for a grid {prior.grid} of {prior.codes} codes, the VQ-VAE gives "
                f"{grid} of {settings.vqvae.codes}; set priors.N.grid and priors.N.codes"
            )


def _claim(folder: Path, work: Path, settings: Settings, store: Store, resume: bool) -> None:
    """Makes the folder this run's own, or raises."""
    note = work / "settings.json"
    text = json.dumps({"settings": as_tree(settings), "store": store.path.name, "pictures": len(store)}, indent=2)
    if note.exists():
        if not resume:
            raise PixelsleuthError(f"{folder} holds a training run; resume it, or name another folder")
        old, new = json.loads(note.read_text(encoding="utf-8")), json.loads(text)
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


def _without_detective(note: dict[str, Any]) -> dict[str, Any]:
    about = {"detective", "detective_stage", "forgeries", "pairs", "sign"}
    return {**note, "settings": {k: v for k, v in note["settings"].items() if k not in about}}


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _held_out(store: Store, most: int = 500) -> np.ndarray:
    """Rows of normal pictures for figures about the training: validation, else calibration, else training."""
    for split in ("val", "calib", "train"):
        rows = store.rows(split)
        if len(rows):
            return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return rows


def _validated(vqvae: VQVAE, store: Store, work: Path) -> dict[str, float]:
    """Reconstruction metrics on held-out pictures, and a picture of reconstructions in the log."""
    rows = _held_out(store)
    images = torch.from_numpy(store.pixels(rows))
    context = _context(store, rows, vqvae.config.context)
    metrics = reconstruction_metrics(vqvae, images, context=context)
    logger = TensorBoardLogger(work, name="", version="log")
    for name, value in metrics.items():
        logger.experiment.add_scalar(f"held_out/{name}", value)
    image = to_float(images[:8])
    with torch.no_grad():
        about = None if context is None else context[:8]
        made = vqvae.decode(vqvae.encode(image, about), about)
    sheet = torch.cat([torch.cat(list(image), 2), torch.cat(list(made), 2)], 1)
    logger.experiment.add_image("held_out/above_input_below_reconstruction", sheet)
    logger.experiment.close()
    return metrics


@torch.no_grad()
def _cached_codes(
    vqvae: VQVAE, store: Store, rows: np.ndarray, stage: Stage, path: Path, say: Callable[[str], None]
) -> np.ndarray:
    """(V, N, h, w) int16 codes of the training pictures; where they are augmented, of their mirror images too, and of
    scans, which are few, of `SCAN_VIEWS` random views."""
    if path.exists():
        return np.load(path, allow_pickle=False)
    # A GPU encodes them in seconds.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vqvae.eval().to(device)
    views = {"none": 1, "scans": 2 + SCAN_VIEWS}.get(stage.augment, 2)
    torch.manual_seed(0)
    codes = np.zeros((views, len(rows), *vqvae.grid()), np.int16)
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        image = to_float(torch.from_numpy(store.pixels(batch)).to(device))
        context = _context(store, batch, vqvae.config.context)
        context = None if context is None else context.to(device)
        for view in range(views):
            seen = image if view == 0 else image.flip(3) if view == 1 else augmented(image, stage.augment)
            codes[view, start : start + 64] = vqvae.encode(seen, context).cpu().numpy()
    vqvae.cpu()
    complexity, usage = perplexity(torch.from_numpy(codes[0].astype(np.int64)), vqvae.config.codes)
    say(f"codes: {len(rows):,} x {views} grids cached, perplexity {complexity:.0f}, {usage:.0%} of the codebook used")
    partial = path.with_suffix(".partial.npy")
    np.save(partial, codes)
    partial.replace(path)
    return codes


def _fit_prior(
    prior: nn.Module, codes: np.ndarray, store: Store, rows: np.ndarray, settings: Settings, number: int,
    work: Path, progress: bool, say: Callable[[str], None],
) -> dict[str, float]:  # fmt: skip
    stage, kind = settings.prior_stage, settings.priors[number].kind
    sampler = Sampler(store.table["group"][rows].tolist(), stage, settings.seed + 1 + number, store.sources(rows))
    steps = steps_of(sampler, stage)
    module = PriorStage(prior, stage, steps, settings.seed + 1 + number)
    say(f"{kind}: {_count(prior):,} parameters, {len(rows):,} grids, {steps:,} steps of {stage.batch}")

    def source(picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The view of a picture is drawn by its place in the batch: no random state to carry.
        view = (picked + np.arange(len(picked))) % len(codes)
        return codes[view, picked], scalars_of(store, rows[picked], settings.priors[number].context)

    return fit(module, source, sampler, steps, work / kind, progress)


def _context(store: Store, rows: np.ndarray, count: int) -> Tensor | None:
    return torch.from_numpy(scalars_of(store, rows, count)) if count else None


@torch.no_grad()
def _prior_nll(prior: Any, vqvae: VQVAE, store: Store, rows: np.ndarray) -> float:
    """Mean NLL a code in nats on held-out pictures."""
    prior.eval()
    total = 0.0
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        codes = vqvae.encode(
            to_float(torch.from_numpy(store.pixels(batch))), _context(store, batch, vqvae.config.context)
        )
        scalars = _context(store, batch, prior.config.context)
        total += float(prior.log_prob(codes, None if scalars is None else Context(scalars)).nll.mean((1, 2)).sum())
    return total / len(rows)
