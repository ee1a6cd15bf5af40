"""Train a model folder from a store: VQ-VAE, codes, priors, detective. Every part resumes where it stopped, and several
processes can share it."""

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
from torch import nn

from pixelsleuth.datasets.shards import Places
from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import claimed, write_text
from pixelsleuth.models.backbone import imagenet_weights
from pixelsleuth.models.checkpoint import build_prior, load_model, load_network, parameter_count, save_network
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
from pixelsleuth.models.vae import VAE
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.scoring.settings import ScoreSettings
from pixelsleuth.synthesis.face_edits import SHARES
from pixelsleuth.training.claims import check_settings, claim_folder, damaged
from pixelsleuth.training.codes import cache_codes
from pixelsleuth.training.data import Sampler, Viewed, scalars_of
from pixelsleuth.training.held_out import held_out_rows, prior_nll, reconstruction_of
from pixelsleuth.training.loop import ALONE, fit, fit_deep_detective, fit_detective, steps_of
from pixelsleuth.training.pair_dataset import PairDataset, pair_dataset_of
from pixelsleuth.training.presets import Settings, as_tree
from pixelsleuth.training.processes import Processes
from pixelsleuth.training.regimes import Regime, regime_of
from pixelsleuth.training.stages import (
    PriorStage,
    VAEStage,
    VQVAEStage,
)


def train(
    places: Places,
    folder: Path,
    settings: Settings,
    *,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
    processes: Processes = ALONE,
) -> None:
    """Train on the normal pictures of split `train` and write a model folder, not yet calibrated.

    Args:
        places: of the store (see datasets.store.Store).
        resume: go on where a run of the same settings stopped, with as many processes as there are now; without it a
            folder in use is an error.
        processes: the processes that train together. All of them call this, and see the store and the folder; the first
            writes.

    Raises:
        PixelsleuthError: settings that do not fit the store, or a folder that holds another run.
    """
    with Store(places) as store, ExitStack() as held:
        check_settings(store, settings)
        run = _Run(store, folder, settings, progress, say if processes.first else _unsaid, processes)

        def claim() -> None:
            # The first process holds the folder for all of them.
            held.enter_context(claimed(folder))
            claim_folder(folder, run.work, settings, store, run.sha256, resume)

        processes.once(claim)
        vqvae = run.vqvae()
        if settings.vae_stage.epochs:
            run.vae()
        run.priors(vqvae)
        processes.once(run.described)
        if settings.detective_stage.epochs:
            run.detective()
        processes.once(run.finished)


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
    processes: Processes
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "training"

    @cached_property
    def regime(self) -> Regime:
        """Of what the store holds."""
        return regime_of(self.store)

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
                f"VQ-VAE: {parameter_count(vqvae):,} parameters, {len(chosen):,} pictures, "
                f"{steps:,} steps of {stage.batch}"
            )
            speed = {} if kept else self.fit(module, self._pixels(chosen, settings.vqvae.context), sampler, steps)

            def measured() -> None:
                self._note("vqvae", speed | reconstruction_of(vqvae, self.store, self.work / "vqvae"))
                save_network(vqvae, path)

            self.processes.once(measured)
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

            self.processes.once(measured)
        self._tell("vae", "VAE")

    def priors(self, vqvae: VQVAE) -> None:
        """The priors, on codes that are computed once."""
        settings, learned, cached = self.settings, self.learned, self.work / "codes.npy"
        self.processes.once(lambda: cache_codes(vqvae, self.store, learned, settings.prior_stage, cached, self.say))
        held_out = held_out_rows(self.store)
        for number, config in enumerate(settings.priors):
            path = self.folder / prior_file(number, config.kind)
            torch.manual_seed(settings.seed + 1 + number)
            prior = build_prior(config).to(memory_format=torch.channels_last)
            if not self._made(path):
                begun = _begun(prior, settings.init, path.name)
                taught = settings.prior_stage.epochs or not begun
                speed = self._fit_prior(prior, _codes(cached), number) if taught else {}

                def measured(
                    prior: Any = prior, kind: str = config.kind, path: Path = path, speed: dict[str, float] = speed
                ) -> None:
                    self._note(kind, speed | {"held_out_nll": prior_nll(prior, vqvae, self.store, held_out)})
                    save_network(prior, path)

                self.processes.once(measured)
            self._tell(config.kind, config.kind)

    def _fit_prior(self, prior: nn.Module, codes: np.ndarray, number: int) -> dict[str, float]:
        settings, stage, rows = self.settings, self.settings.prior_stage, self.learned
        seed, config = settings.seed + 1 + number, settings.priors[number]
        sampler = Sampler(self.store.table["group"][rows].tolist(), stage, seed, self.store.sources(rows))
        steps = steps_of(sampler, stage)
        self.say(
            f"{config.kind}: {parameter_count(prior):,} parameters, {len(rows):,} grids, "
            f"{steps:,} steps of {stage.batch}"
        )

        def source(picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            row, view = picked.T
            return codes[view, row], scalars_of(self.store, rows[row], config.context)

        module = PriorStage(prior, stage, steps, seed)
        return self.fit(module, source, Viewed(sampler, len(codes)), steps, config.kind)

    def described(self) -> None:
        """Write the configuration of what is trained so far, with what is fitted before a detective is taught."""
        save_config(self.folder, self._config())
        self.regime.before_detective(self.folder, self.store, self.learned, self.settings)

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

    def detective(self) -> None:
        """Forge pairs with the networks that are trained, once, and train the detective."""
        settings, path = self.settings, self.folder / DETECTIVE_FILE
        torch.manual_seed(settings.seed)
        detective = build_detective(settings.detective).to(memory_format=torch.channels_last)
        if not self._made(path):
            if isinstance(detective, DeepDetective):
                speed = self._taught_deep(detective)
            else:
                speed = self._taught_light(detective)

            def measured() -> None:
                self._note("detective", speed)
                save_network(detective, path)

            self.processes.once(measured)
        self._tell("detective", "detective")

    def _taught_light(self, detective: Detective) -> dict[str, float]:
        settings, place = self.settings, self.work / "dataset"
        if not self._made(place / "mask.npy"):
            self.processes.once(lambda: self._forged().save(place))
        dataset = PairDataset.load(place)
        self.say(f"detective: {parameter_count(detective):,} parameters, {len(dataset):,} pairs")
        return fit_detective(
            detective, dataset, settings.detective_stage, self.work / "detective", settings.seed, self.progress,
            self.processes,
        )  # fmt: skip

    def _forged(self) -> PairDataset:
        """Pairs, and what the networks see in them."""
        settings, model = self.settings, load_model(self.folder)
        self.say(f"forging {settings.pairs:,} pairs of {', '.join(settings.forgeries)}")
        return pair_dataset_of(model, self.regime.forge(self.folder, model, self.store, self.rows, settings))

    def _taught_deep(self, detective: DeepDetective) -> dict[str, float]:
        """Train a deep detective on the training faces whose landmarks are known; gives its figures."""
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
            f"detective: {parameter_count(detective):,} parameters, "
            f"{stage.epochs * len(rows):,.0f} pairs of {len(rows):,} faces"
        )
        shares = {kind: SHARES[kind] for kind in settings.forgeries}
        return fit_deep_detective(
            detective, store, rows, stage, shares, self.work / "detective", settings.seed, self.progress, self.processes
        )

    def finished(self) -> None:
        """Write the whole configuration, with what is fitted after the detective was taught."""
        # What was fitted before it stays.
        whole = replace(self._config(), scoring=load_config(self.folder).scoring)
        if self.settings.detective_stage.epochs:
            whole = replace(whole, detective=self.settings.detective)
        save_config(self.folder, whole)
        self.regime.after_detective(self.folder, self.store, self.learned, self.settings)

    def fit(self, module: Any, source: Any, sampler: Any, steps: int, name: str = "") -> dict[str, float]:
        """Train in all processes, from the last checkpoint in the folder of this part."""
        name = name or type(module).__name__.removesuffix("Stage").lower()
        return fit(module, source, sampler, steps, self.work / name, self.progress, processes=self.processes)

    def _pixels(self, rows: np.ndarray, scalars: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Give pictures, and as many scalars of their context, by their place among `rows`."""
        return lambda picked: (
            self.store.pixels(rows[picked]), scalars_of(self.store, rows[picked], scalars)
        )  # fmt: skip

    def _made(self, path: Path) -> bool:
        """Whether an earlier run made this file."""
        return self.processes.agreed(path.exists())

    def _note(self, name: str, figures: dict[str, float]) -> None:
        """Write down the figures of a part, for a run that goes on."""
        write_text(self.work / f"{name}.json", json.dumps(figures))

    def _tell(self, name: str, title: str) -> None:
        """Read the figures of a part, made here or before, and print them."""
        found = json.loads((self.work / f"{name}.json").read_text(encoding="utf-8"))
        self.figures[name] = found
        self.say(f"{title}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()))


def _codes(path: Path) -> np.ndarray:
    """What `cache_codes` wrote. Raises PixelsleuthError where it is damaged."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise damaged(path, error) from error


def _begun(network: nn.Module, init: str, file: str) -> bool:
    """Give a network the weights of the model that the run begins with; whether it begins with one."""
    if init:
        load_network(network, find_model(init)[0] / file)
    return bool(init)
