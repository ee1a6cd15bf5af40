"""The training loop of every network, from its last checkpoint to its last step."""

from __future__ import annotations

import math
import os
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import whole_file
from pixelsleuth.models.detective import DEEP_STRIDE, DeepDetective, Detective
from pixelsleuth.models.precision import has_bf16
from pixelsleuth.training.claims import damaged
from pixelsleuth.training.data import Sampler, StepBatches
from pixelsleuth.training.pair_dataset import PairDataset
from pixelsleuth.training.pairs import Numbered, PairSettings, PairSource
from pixelsleuth.training.presets import Stage
from pixelsleuth.training.processes import TIMEOUT, Processes, quiet
from pixelsleuth.training.progress import StepBar
from pixelsleuth.training.stages import DeepDetectiveStage, DetectiveStage, log_every

#: Most steps between checkpoints, those of the first one, and about how many seconds they may take: what a kill costs.
CHECKPOINT_EVERY, FIRST_CHECKPOINT, CHECKPOINT_SECONDS = 200, 20, 60.0
#: One process, which trains by itself.
ALONE = Processes()


def steps_of(sampler: Sampler | Numbered, stage: Stage) -> int:
    """Optimiser steps of a stage: its epochs, at least one step."""
    return max(1, math.ceil(stage.epochs * sampler.steps_per_epoch))


def fit(
    module: Any, source: Any, sampler: Any, steps: int, work: Path, progress: bool, workers: int = 0,
    processes: Processes = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Run Lightning to `steps`, from the last checkpoint if there is one; return the speed of all processes together.

    Args:
        sampler: a `Sampler`, or what has its `rows` and `batch`.
        workers: processes that make batches ahead; 0: they are made in between.
        processes: the processes that share each batch. A checkpoint may be gone on with by another number of them.

    Raises:
        PixelsleuthError: batches smaller than the number of processes, or a damaged checkpoint.
    """
    if sampler.batch < processes.world:
        raise PixelsleuthError(
            f"a batch of {sampler.batch} cannot be shared by {processes.world} processes; take fewer"
        )
    work.mkdir(parents=True, exist_ok=True)
    # One Lightning epoch is one checkpoint's worth of steps, so that it never stops within one.
    last = work / "last.ckpt"
    quiet()
    progress = progress and processes.first
    shared = torch.cuda.is_available() and processes.world > 1
    module.sampler = sampler
    trainer = L.Trainer(
        accelerator="auto",
        devices=processes.devices,
        num_nodes=processes.nodes,
        # What is kept beside the weights is kept equal by what computes it (models.share).
        strategy="auto" if processes.world == 1 else DDPStrategy(broadcast_buffers=False, timeout=TIMEOUT),
        # Torch has it on GPUs alone: on CPUs each process norms its own part.
        sync_batchnorm=shared,
        # Each process takes its part of a batch by itself.
        use_distributed_sampler=False,
        max_steps=steps,
        max_epochs=-1,
        precision=_precision(module.stage),
        logger=TensorBoardLogger(work, name="", version="log"),
        callbacks=[_Keep(last), *([StepBar(_name_of(module), steps)] if progress else [])],
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        log_every_n_steps=log_every(steps),
        num_sanity_val_steps=0,
        limit_val_batches=0,
        reload_dataloaders_every_n_epochs=1,
    )
    loader = _Chunks(StepBatches(source, sampler, 0, steps, processes.rank, processes.world), trainer, workers)
    began, started_at = time.perf_counter(), 0
    with warnings.catch_warnings(), one_thread_of_cv2():
        warnings.simplefilter("ignore")
        if last.exists():
            started_at = int(_kept(last)["global_step"])
        if started_at < steps:
            trainer.fit(module, datamodule=loader, ckpt_path=last if last.exists() else None, weights_only=True)
        else:
            module.load_state_dict(_kept(last)["state_dict"])
    processes.compared(module.model)
    module.cpu()
    seconds = time.perf_counter() - began
    done = max(1, steps - started_at)
    return {"images_per_second": done * sampler.batch / seconds, "seconds": seconds}


@contextmanager
def one_thread_of_cv2() -> Iterator[None]:
    """OpenCV without threads of its own while processes are forked: a fork has none of them, and would wait for ever
    for one to end."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _kept(path: Path) -> dict[str, Any]:
    """What a checkpoint holds. Raises PixelsleuthError where it is damaged."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it ends before its end")
        return dict(torch.load(path, weights_only=True, map_location="cpu"))
    except (RuntimeError, ValueError) as error:
        raise damaged(path, error) from error


def _name_of(module: L.LightningModule) -> str:
    """What is trained, for people."""
    name = type(module).__name__.removesuffix("Stage")
    return {"VQVAE": "VQ-VAE", "DeepDetective": "detective"}.get(name, name.lower() if name.istitle() else name)


def fit_detective(
    network: Detective, dataset: PairDataset, stage: Stage, work: Path, seed: int, progress: bool = False,
    processes: Processes = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Train a detective, from its last checkpoint in `work` if there is one; give the speed, in images."""
    sampler = Sampler([""] * len(dataset), stage, seed)
    steps = steps_of(sampler, stage)
    module = DetectiveStage(network, dataset, stage, steps, seed)
    speed = fit(module, lambda rows: rows, sampler, steps, work, progress, processes=processes)
    # A pair is two images.
    return speed | {"images_per_second": 2 * speed["images_per_second"]}


def fit_deep_detective(
    network: DeepDetective, store: Store, rows: np.ndarray, stage: Stage, shares: Mapping[str, float], work: Path,
    seed: int, progress: bool = False, processes: Processes = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Train a deep detective on pairs forged as they are needed, an epoch being as many pairs as there are `rows`,
    from its last checkpoint in `work` if there is one; the network gets the averaged weights.

    Returns:
        The speed in images, two a pair, and the seconds.
    """
    settings = PairSettings(network.config.size, DEEP_STRIDE, shares, seed)
    source = PairSource(store.files, rows, settings)
    sampler = Numbered(Sampler([""] * len(rows), stage, seed, store.sources(rows)))
    steps = steps_of(sampler, stage)
    module = DeepDetectiveStage(network, stage, steps, seed)
    # Beside a GPU every core forges; without one the network needs the others.
    workers = max(1, ((os.cpu_count() or 1) - 1) // processes.devices) if torch.cuda.is_available() else 1
    speed = fit(module, source, sampler, steps, work, progress, workers, processes)
    network.load_state_dict(module.averaged.module.state_dict())
    return speed | {"images_per_second": 2 * speed["images_per_second"]}


def _precision(stage: Stage) -> Any:
    """bf16 only where the hardware has it; elsewhere it would be emulated and slow."""
    return "32-true" if "bf16" in stage.precision and not has_bf16() else stage.precision


class _Keep(Callback):
    """Keeps the last checkpoint, written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            # Takes part; only the first process writes.
            trainer.save_checkpoint(self.path)
            return
        with whole_file(self.path) as partial:
            trainer.save_checkpoint(partial)


class _Chunks(L.LightningDataModule):
    """Hands Lightning the steps from where the trainer stands to the next checkpoint, of all there are."""

    def __init__(self, steps: StepBatches, trainer: L.Trainer, workers: int) -> None:
        super().__init__()
        self.steps, self.owner, self.workers = steps, trainer, workers
        # Several processes must stop at the same step, however fast each is.
        self.by_time = steps.world == 1
        self.every, self.began = min(FIRST_CHECKPOINT, CHECKPOINT_EVERY) if self.by_time else CHECKPOINT_EVERY, 0.0

    def train_dataloader(self) -> Any:
        ahead = {"prefetch_factor": 4} if self.workers else {}
        now = time.perf_counter()
        if self.began and self.by_time:
            enough = round(self.every * CHECKPOINT_SECONDS / max(now - self.began, 1e-3))
            self.every = min(max(enough, 1), CHECKPOINT_EVERY)
        self.began = now
        chunk = self.steps.after(self.owner.global_step, self.every)
        return DataLoader(chunk, batch_size=None, num_workers=self.workers, **ahead)
