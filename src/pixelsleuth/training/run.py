"""A training run from store to model folder: VQ-VAE, codes, priors, detective. Every part resumes where it stopped, and
may be shared by several processes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
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
from pixelsleuth.scoring.atlas import Atlas, load_atlas, save_atlas
from pixelsleuth.scoring.settings import ScoreSettings
from pixelsleuth.sources.anomalies import KINDS
from pixelsleuth.sources.duplicates import TRAINED_ON, Hashes, of_file, perceptual_hash, save_hashes
from pixelsleuth.sources.face_edits import SHARES
from pixelsleuth.sources.images import decode
from pixelsleuth.sources.lesions import KINDS as LESIONS
from pixelsleuth.sources.shards import Places
from pixelsleuth.sources.store import Store
from pixelsleuth.training.data import Sampler, Viewed, augmented, scalars_of, to_float
from pixelsleuth.training.fitting import fit_scores, fit_slices, save_scores
from pixelsleuth.training.forging import forge
from pixelsleuth.training.loop import ALONE, fit, fit_deep_detective, fit_detective, steps_of
from pixelsleuth.training.pair_dataset import PairDataset, pair_dataset_of
from pixelsleuth.training.presets import Settings, Stage, as_tree
from pixelsleuth.training.ranks import Ranks
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
    ranks: Ranks = ALONE,
) -> None:
    """Trains on the normal pictures of split `train` and writes a model folder, not yet calibrated.

    Args:
        places: of the store (see sources.store.Store).
        resume: go on where a run of the same settings stopped, with as many processes as there are now; without it a
            folder in use is an error.
        ranks: the processes that train together. All of them call this, and see the store and the folder; the first
            writes.

    Raises:
        PixelsleuthError: settings that do not fit the store, or a folder that holds another run.
    """
    with Store(places) as store, ExitStack() as held:
        _check(store, settings)
        run = _Run(store, folder, settings, progress, say if ranks.first else _unsaid, ranks)

        def claim() -> None:
            # The first process holds the folder for all of them.
            held.enter_context(claimed(folder))
            _claim(folder, run.work, settings, store, resume)

        ranks.once(claim)
        vqvae = run.vqvae()
        if settings.vae_stage.epochs:
            run.vae()
        run.priors(vqvae)
        atlas = run.described()
        if settings.detective_stage.epochs:
            run.detective(atlas)
        ranks.once(run.fitted)


def _unsaid(text: str) -> None:
    """What is said by all processes but the first."""


@dataclass
class _Run:
    """A run as its parts share it: each trains in all processes, then the first one measures and writes.

    Attributes:
        figures: what is told of each part, for the model card; of the first process.
    """

    store: Store
    folder: Path
    settings: Settings
    progress: bool
    say: Callable[[str], None]
    ranks: Ranks
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "training"

    @cached_property
    def sha256(self) -> str:
        """Of the store."""
        return self.store.sha256()

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows that are trained on."""
        return self.store.rows("train")

    @property
    def learned(self) -> np.ndarray:
        """Rows that priors are trained on."""
        return self.rows[: self.settings.prior_stage.most_images or None]

    def vqvae(self) -> VQVAE:
        """The VQ-VAE, trained here or before."""
        settings, stage, rows = self.settings, self.settings.vqvae_stage, self.rows
        self.figures["train_images"] = len(rows)
        torch.manual_seed(settings.seed)
        vqvae = VQVAE(settings.vqvae).to(memory_format=torch.channels_last)
        path = self.folder / "vqvae.safetensors"
        if self._made(path):
            load_network(vqvae, path)
        else:
            chosen = rows[: stage.most_images] if stage.most_images else rows
            sampler = Sampler(
                self.store.table["group"][chosen].tolist(), stage, settings.seed, self.store.sources(chosen)
            )
            steps = steps_of(sampler, stage)
            module = VQVAEStage(vqvae, settings.loss, stage, steps, settings.seed)
            kept = _begun(vqvae, settings.init, path.name) and not stage.epochs
            self.say(
                f"VQ-VAE: {_count(vqvae):,} parameters, {len(chosen):,} pictures, {steps:,} steps of {stage.batch}"
            )
            speed = {} if kept else self.fit(module, self._pixels(chosen, settings.vqvae.context), sampler, steps)

            def measured() -> None:
                self._note("vqvae", speed | _validated(vqvae, self.store, self.work / "vqvae"))
                save_network(vqvae, path)

            self.ranks.once(measured)
        self._tell("vqvae", "VQ-VAE")
        return vqvae

    def vae(self) -> None:
        """The plain VAE that `evaluate` compares with."""
        settings, stage, path = self.settings, self.settings.vae_stage, self.folder / VAE_FILE
        torch.manual_seed(settings.seed)
        vae = VAE(settings.vae)
        if not self._made(path):
            sampler = Sampler(self.store.table["group"][self.rows].tolist(), stage, settings.seed)
            steps = steps_of(sampler, stage)
            module = VAEStage(vae, stage, steps, settings.seed)
            speed = self.fit(module, self._pixels(self.rows, 0), sampler, steps)

            def measured() -> None:
                self._note("vae", speed)
                save_network(vae, path)

            self.ranks.once(measured)
        self._tell("vae", "VAE")

    def priors(self, vqvae: VQVAE) -> None:
        """The priors, on codes that are computed once."""
        settings, learned, cached = self.settings, self.learned, self.work / "codes.npy"
        self.ranks.once(lambda: _cache_codes(vqvae, self.store, learned, settings.prior_stage, cached, self.say))
        held_out = _held_out(self.store)
        for number, config in enumerate(settings.priors):
            path = self.folder / prior_file(number, config.kind)
            torch.manual_seed(settings.seed + 1 + number)
            prior = build_prior(config).to(memory_format=torch.channels_last)
            if not self._made(path):
                begun = _begun(prior, settings.init, path.name)
                taught = settings.prior_stage.epochs or not begun
                speed = self._fit_prior(prior, np.load(cached, allow_pickle=False), number) if taught else {}

                def measured(
                    prior: Any = prior, kind: str = config.kind, path: Path = path, speed: dict[str, float] = speed
                ) -> None:
                    self._note(kind, speed | {"held_out_nll": _prior_nll(prior, vqvae, self.store, held_out)})
                    save_network(prior, path)

                self.ranks.once(measured)
            self._tell(config.kind, config.kind)

    def _fit_prior(self, prior: nn.Module, codes: np.ndarray, number: int) -> dict[str, float]:
        settings, stage, rows = self.settings, self.settings.prior_stage, self.learned
        seed, config = settings.seed + 1 + number, settings.priors[number]
        sampler = Sampler(self.store.table["group"][rows].tolist(), stage, seed, self.store.sources(rows))
        steps = steps_of(sampler, stage)
        self.say(f"{config.kind}: {_count(prior):,} parameters, {len(rows):,} grids, {steps:,} steps of {stage.batch}")

        def source(picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            row, view = picked.T
            return codes[view, row], scalars_of(self.store, rows[row], config.context)

        module = PriorStage(prior, stage, steps, seed)
        return self.fit(module, source, Viewed(sampler, len(codes)), steps, config.kind)

    def described(self) -> Atlas | None:
        """Writes the configuration of what is trained so far; of volumes also fits the atlas, which a detective may
        see, and its scores."""
        self.ranks.once(lambda: save_config(self.folder, self._config()))
        if not self.store.holds_volumes:
            return None

        def fit_atlas() -> None:
            taught = bool(self.settings.detective_stage.epochs)
            fitted, atlas = fit_slices(load_model(self.folder), self.store, self.learned, self.settings.sign, taught)
            save_atlas(self.folder, atlas)
            save_scores(self.folder, fitted)

        self.ranks.once(fit_atlas)
        return load_atlas(self.folder)

    def _config(self) -> ModelConfig:
        store, settings = self.store, self.settings
        preprocessing = {k: store.settings[k] for k in PREPROCESSING if k in store.settings}
        sources = [Path(source) for source in sorted(set(store.table["source"].tolist()))]
        data = {
            "store_sha256": self.sha256,
            "sources": [path.parent.name + "/" + path.name for path in sources],
            "splits": store.by_split(),
        }
        if settings.detective.kind == "deep" and settings.detective_stage.epochs:
            data["detective"] = dict(sorted(Counter(store.sources(self.rows)).items()))
        training = {
            "settings": as_tree(settings),
            "figures": self.figures,
            "data": data,
            "torch": torch.__version__,
        }
        vae = settings.vae if settings.vae_stage.epochs else None
        unfitted = ScoreSettings().as_tree()
        return ModelConfig(preprocessing, settings.vqvae, settings.priors, unfitted, training, vae=vae)

    def detective(self, atlas: Atlas | None) -> None:
        """Forges pairs with the networks that are trained, once, and teaches the detective."""
        settings, path = self.settings, self.folder / DETECTIVE_FILE
        torch.manual_seed(settings.seed)
        detective = build_detective(settings.detective).to(memory_format=torch.channels_last)
        if not self._made(path):
            if isinstance(detective, DeepDetective):
                speed = self._taught_deep(detective)
            else:
                speed = self._taught_light(detective, atlas)

            def measured() -> None:
                self._note("detective", speed)
                save_network(detective, path)

            self.ranks.once(measured)
        self._tell("detective", "detective")

    def _taught_light(self, detective: Detective, atlas: Atlas | None) -> dict[str, float]:
        settings, place = self.settings, self.work / "dataset"
        if not self._made(place / "mask.npy"):
            self.ranks.once(lambda: self._forged(atlas).save(place))
        dataset = PairDataset.load(place)
        self.say(f"detective: {_count(detective):,} parameters, {len(dataset):,} pairs")
        return fit_detective(
            detective, dataset, settings.detective_stage, self.work / "detective", settings.seed, self.progress,
            self.ranks,
        )  # fmt: skip

    def _forged(self, atlas: Atlas | None) -> PairDataset:
        """Pairs, and what the networks see in them."""
        store, settings, rows, model = self.store, self.settings, self.rows, load_model(self.folder)
        self.say(f"forging {settings.pairs:,} pairs of {', '.join(settings.forgeries)}")
        if store.holds_volumes:
            seen = atlas if settings.detective.atlas else None
            forged = forge_slices(
                store, rows, settings.pairs, settings.forgeries, settings.seed + 1, settings.sign, seen
            )
        else:
            rows = rows[np.linspace(0, len(rows) - 1, min(settings.pairs, len(rows))).astype(int)]
            forged = forge(model, store, rows, settings.forgeries, settings.seed + 1, settings.detective.scale)
        return pair_dataset_of(model, forged)

    def _taught_deep(self, detective: DeepDetective) -> dict[str, float]:
        """Teaches a deep detective on the training faces whose landmarks are known; gives its figures."""
        store, settings, rows = self.store, self.settings, self.rows
        rows = rows[[store.landmarks(int(row)) is not None for row in rows]]
        if len(rows) < 2:
            raise PixelsleuthError(
                f"{store.path}: a deep detective needs faces whose landmarks are known, the store has {len(rows)}; "
                "prepare it again, or take the preset fast"
            )
        begun = find_model(settings.init)[0] if settings.init else None
        config = load_config(begun).detective if begun else None
        if begun is not None and config is not None and config.kind == "deep":
            load_network(detective, begun / DETECTIVE_FILE)
        elif settings.detective.pretrained:
            detective.trunk.load_state_dict(imagenet_weights())
        stage = settings.detective_stage
        self.say(
            f"detective: {_count(detective):,} parameters, {stage.epochs * len(rows):,.0f} pairs of {len(rows):,} faces"
        )
        shares = {kind: SHARES[kind] for kind in settings.forgeries}
        return fit_deep_detective(
            detective, store, rows, stage, shares, self.work / "detective", settings.seed, self.progress, self.ranks
        )

    def fitted(self) -> None:
        """Writes the whole configuration, with what is fitted after the networks."""
        whole = self._config()
        if self.store.holds_volumes:
            # Fitted before the detective was taught.
            whole = replace(whole, scoring=load_config(self.folder).scoring)
        if self.settings.detective_stage.epochs:
            whole = replace(whole, detective=self.settings.detective)
        save_config(self.folder, whole)
        if not self.store.holds_volumes:
            save_scores(
                self.folder,
                fit_scores(load_model(self.folder), self.store, self.learned, lambda done, total: None),
            )
            save_hashes(self.folder / TRAINED_ON, _hashes(self.store, self.rows))

    def fit(self, module: Any, source: Any, sampler: Any, steps: int, name: str = "") -> dict[str, float]:
        """Trains in all processes, from the last checkpoint in the folder of this part."""
        name = name or type(module).__name__.removesuffix("Stage").lower()
        return fit(module, source, sampler, steps, self.work / name, self.progress, ranks=self.ranks)

    def _pixels(self, rows: np.ndarray, scalars: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Gives pictures, and as many scalars of their context, by their place among `rows`."""
        return lambda picked: (
            self.store.pixels(rows[picked]), scalars_of(self.store, rows[picked], scalars)
        )  # fmt: skip

    def _made(self, path: Path) -> bool:
        """Whether an earlier run made this file."""
        return self.ranks.agreed(path.exists())

    def _note(self, name: str, figures: dict[str, float]) -> None:
        """Writes down the figures of a part, for a run that goes on."""
        write_text(self.work / f"{name}.json", json.dumps(figures))

    def _tell(self, name: str, title: str) -> None:
        """Reads the figures of a part, made here or before, and says them."""
        found = json.loads((self.work / f"{name}.json").read_text(encoding="utf-8"))
        self.figures[name] = found
        self.say(f"{title}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()))


def _hashes(store: Store, rows: np.ndarray) -> Hashes:
    """Of the images of `rows`, so that none of them is taken for calibration later."""
    looks = [perceptual_hash(decode(store.encoded(int(row))).pixels) for row in rows]
    files = [of_file(sha256) for sha256 in store.table.at("sha256", rows).tolist()]
    return Hashes(np.array(files, np.uint64), np.array(looks, np.uint64))


def _begun(network: nn.Module, init: str, file: str) -> bool:
    """Gives a network the weights of the model that the run begins with; whether it begins with one."""
    if init:
        load_network(network, find_model(init)[0] / file)
    return bool(init)


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
def _cache_codes(
    vqvae: VQVAE, store: Store, rows: np.ndarray, stage: Stage, path: Path, say: Callable[[str], None]
) -> None:
    """Writes (V, N, h, w) int16 codes of the training pictures; where they are augmented, of their mirror images too,
    and of scans, which are few, of `SCAN_VIEWS` random views. Nothing is done where they are written."""
    if path.exists():
        return
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
