"""The data set a light detective is trained on: pairs, and the networks' output for them, computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelsleuth.files import whole_file
from pixelsleuth.models.checkpoint import Model
from pixelsleuth.models.detective import MAP_STRIDE
from pixelsleuth.records import Surprise
from pixelsleuth.scoring.networks import Encoded, judging_surprise
from pixelsleuth.training.data import to_float
from pixelsleuth.training.forging import Forged

BATCH = 32


@dataclass(frozen=True)
class PairDataset:
    """N pairs, the picture first, the forgery made of it second.

    Attributes:
        pixels, made: (N, 2, size, size, 3) uint8, the pictures and their reconstructions.
        surprise: (N, 2, 2, h, w) float16, NLL and entropy of their codes in nats.
        mask: (N, size / 4, size / 4) float16 in [0, 1], the share of each place that was altered.
        close: (N, 2, scale * size, scale * size, 3) uint8, the pictures as the detective sees them; None at scale 1.
        usual: (N, 2, size, size, 1) float16, standard scores against the atlas; None where it does not see them.
    """

    pixels: np.ndarray
    made: np.ndarray
    surprise: np.ndarray
    mask: np.ndarray
    close: np.ndarray | None = None
    usual: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(
        self, picked: np.ndarray, flips: np.ndarray
    ) -> tuple[tuple[Tensor, Tensor, Surprise, Tensor | None, Tensor | None], Tensor]:
        """The inputs and targets of a detective for n pairs.

        Args:
            picked: (n,) numbers of pairs; flips: (n,) bool, which of them to mirror.

        Returns:
            What `Detective.forward` is given, of the n pictures, then of their forgeries; and the mask (n, size / 4,
            size / 4).
        """

        def turned(values: np.ndarray, axis: int) -> np.ndarray:
            taken = np.array(values[picked])
            taken[flips] = np.flip(taken[flips], axis)
            return taken

        def both(values: np.ndarray) -> Tensor:
            pairs = turned(values, 3)
            return torch.from_numpy(np.concatenate([pairs[:, 0], pairs[:, 1]]))

        def seen(values: np.ndarray) -> Tensor:
            return to_float(both(values))

        close = None if self.close is None else seen(self.close)
        felt = turned(self.surprise, 4).astype(np.float32)
        nll, entropy = (torch.from_numpy(np.concatenate([felt[:, 0, k], felt[:, 1, k]])) for k in range(2))
        usual = None if self.usual is None else both(self.usual).permute(0, 3, 1, 2).float()
        given = (seen(self.pixels), seen(self.made), Surprise(nll, entropy), close, usual)
        return given, torch.from_numpy(turned(self.mask, 2).astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write one file a field, the mask last: where it stands the dataset are whole."""
        for field in sorted(fields(self), key=lambda f: f.name == "mask"):
            if getattr(self, field.name) is None:
                continue
            with whole_file(folder / f"{field.name}.npy") as partial, open(partial, "wb") as file:
                np.save(file, getattr(self, field.name))

    @classmethod
    def load(cls, folder: Path) -> PairDataset:
        """Open them where they lie; nothing is read before it is asked for."""
        paths = {f.name: folder / f"{f.name}.npy" for f in fields(cls)}
        return cls(
            **{
                name: np.load(path, mmap_mode="r", allow_pickle=False)
                for name, path in paths.items()
                if name not in ("close", "usual") or path.exists()
            }
        )


@torch.no_grad()
def pair_dataset_of(
    model: Model, forged: Forged, progress: Callable[[int, int], None] = lambda done, total: None
) -> PairDataset:
    """Run the networks over forged pairs."""
    flat = forged.pixels.reshape(-1, *forged.pixels.shape[2:])
    scalars = np.repeat(forged.scalars, 2, axis=0)
    made = np.zeros_like(flat)
    felt = []
    for start in range(0, len(flat), BATCH):
        image = to_float(torch.from_numpy(flat[start : start + BATCH])).contiguous(memory_format=torch.channels_last)
        about = torch.from_numpy(scalars[start : start + BATCH])
        codes = model.vqvae.encode(image, about)
        seen = judging_surprise(model, Encoded(image, codes, about))
        felt.append(torch.stack([seen.nll, seen.entropy], 1).half().numpy())
        decoded = model.vqvae.decode(codes, about).permute(0, 2, 3, 1)
        made[start : start + BATCH] = decoded.mul(255).round().byte().numpy()
        progress(min(start + BATCH, len(flat)), len(flat))
    surprise = np.concatenate(felt)
    count, size = forged.mask.shape[:2]
    cells = forged.mask.reshape(count, size // MAP_STRIDE, MAP_STRIDE, size // MAP_STRIDE, MAP_STRIDE)
    return PairDataset(
        forged.pixels,
        made.reshape(forged.pixels.shape),
        surprise.reshape(count, 2, *surprise.shape[1:]),
        cells.mean((2, 4)).astype(np.float16),
        forged.close,
        forged.usual,
    )
