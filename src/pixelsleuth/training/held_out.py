"""Measure the training on held-out images, for the model card and the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from pixelsleuth.datasets.store import Store
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.training.codes import context_of
from pixelsleuth.training.data import to_float
from pixelsleuth.training.stages import reconstruction_metrics


def held_out_rows(store: Store, most: int = 500) -> np.ndarray:
    """Rows of normal pictures for figures about the training: validation, else calibration, else training."""
    for split in ("val", "calib", "train"):
        rows = store.rows(split)
        if len(rows):
            return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return rows


def reconstruction_of(vqvae: VQVAE, store: Store, work: Path) -> dict[str, float]:
    """Reconstruction metrics on held-out pictures, and a picture of reconstructions in the log."""
    rows = held_out_rows(store)
    images = torch.from_numpy(store.pixels(rows))
    scalars = context_of(store, rows, vqvae.config.context)
    metrics = reconstruction_metrics(vqvae, images, scalars)
    logger = TensorBoardLogger(work, name="", version="log")
    for name, value in metrics.items():
        logger.experiment.add_scalar(f"held_out/{name}", value)
    image = to_float(images[:8])
    with torch.no_grad():
        made = vqvae.decode(vqvae.encode(image, scalars[:8]), scalars[:8])
    sheet = torch.cat([torch.cat(list(image), 2), torch.cat(list(made), 2)], 1)
    logger.experiment.add_image("held_out/above_input_below_reconstruction", sheet)
    logger.experiment.close()
    return metrics


@torch.no_grad()
def prior_nll(prior: Any, vqvae: VQVAE, store: Store, rows: np.ndarray) -> float:
    """Mean NLL a code in nats on held-out pictures."""
    prior.eval()
    total = 0.0
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        codes = vqvae.encode(
            to_float(torch.from_numpy(store.pixels(batch))), context_of(store, batch, vqvae.config.context)
        )
        scalars = context_of(store, batch, prior.config.context)
        total += float(prior.log_prob(codes, scalars).nll.mean((1, 2)).sum())
    return total / len(rows)
