"""The codes of stored images, computed once for all priors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelsleuth.datasets.store import Store
from pixelsleuth.models.quantiser import perplexity
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.training.data import augmented, scalars_of, to_float
from pixelsleuth.training.presets import Stage

#: Random views of each scan that a prior learns from beside the scan and its mirror image.
SCAN_VIEWS = 6


@torch.no_grad()
def cache_codes(
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
        scalars = context_of(store, batch, vqvae.config.context).to(device)
        for view in range(views):
            seen = image if view == 0 else image.flip(3) if view == 1 else augmented(image, stage.augment)
            codes[view, start : start + 64] = vqvae.encode(seen, scalars).cpu().numpy()
    vqvae.cpu()
    complexity, usage = perplexity(torch.from_numpy(codes[0].astype(np.int64)), vqvae.config.codes)
    say(f"codes: {len(rows):,} x {views} grids cached, perplexity {complexity:.0f}, {usage:.0%} of the codebook used")
    partial = path.with_suffix(".partial.npy")
    np.save(partial, codes)
    partial.replace(path)


def context_of(store: Store, rows: np.ndarray, count: int) -> Tensor:
    """(n, count) float32, the context of the rows."""
    return torch.from_numpy(scalars_of(store, rows, count))
