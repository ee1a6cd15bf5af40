"""The progress of a training stage: steps, time left and the loss, as a bar; where there is no terminal, as lines."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Seconds between lines where there is no terminal.
LINE_EVERY = 30.0


class StepBar(ProgressBar):
    """Counts optimiser steps over all of a stage, those before a resume included; Lightning's own count epochs, of
    which a stage here has one a checkpoint."""

    def __init__(self, name: str, steps: int) -> None:
        super().__init__()
        self.name, self.steps = name, steps
        self.told = time.monotonic()
        self.shown = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps,"),
            TimeElapsedColumn(), TextColumn("so far,"), TimeRemainingColumn(), TextColumn("left, {task.fields[loss]}"),
            console=Console(stderr=True),
        )  # fmt: skip

    def disable(self) -> None:
        self.shown.disable = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.task = self.shown.add_task(self.name, total=self.steps, completed=trainer.global_step, loss="")
        self.shown.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        told = f"loss {float(loss):.4g}" if isinstance(loss, torch.Tensor) else ""
        self.shown.update(self.task, completed=trainer.global_step, loss=told)
        if not self.shown.console.is_terminal and time.monotonic() - self.told >= LINE_EVERY:
            self.told = time.monotonic()
            self.shown.console.print(f"{self.name}: {trainer.global_step} of {self.steps} steps, {told}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.shown.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.shown.stop()
