"""One-class scores on features of a pretrained network: PaDiM (Defard et al. 2021) and PatchCore (Roth et al. 2022).

Both keep the features of places of normal crops; neither trains a network. Features are those of EfficientNet-lite0 at
strides 8 and 16, joined on the coarser grid, with ImageNet's weights or with those of a model's deep detective.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsleuth.baselines.baseline import SIDE, Compared, ComparedCrop, squares_of
from pixelsleuth.models.backbone import EfficientNetLite, imagenet_weights

BATCH = 16
#: PaDiM: features kept of all, drawn at random, and the constant added to each variance.
PADIM_FEATURES = 100
JITTER = 0.01
#: PatchCore: crops whose places are candidates, candidates, and those that are kept.
BANK_CROPS = 1000
CANDIDATES = 20_000
BANK = 2_000


def imagenet_trunk() -> EfficientNetLite:
    """EfficientNet-lite0 as ImageNet taught it. Raises PixelsleuthError where the package of weights is missing."""
    trunk = EfficientNetLite()
    trunk.load_state_dict(imagenet_weights())
    return trunk


class Features:
    """Features of places by a frozen trunk."""

    def __init__(self, trunk: EfficientNetLite) -> None:
        self.trunk = trunk.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def of(self, crops: Sequence[ComparedCrop]) -> Tensor:
        """n crops -> (n, SIDE / 16, SIDE / 16, 152) float32."""
        found = []
        for start in range(0, len(crops), BATCH):
            pixels = torch.from_numpy(squares_of(crops[start : start + BATCH], SIDE))
            near, middle, _ = self.trunk(pixels.permute(0, 3, 1, 2).float() / 255)
            # PatchCore's neighbourhood of 3: a place is described with what surrounds it.
            near = F.avg_pool2d(F.avg_pool2d(near, 3, 1, 1), 2)
            found.append(torch.cat([near, F.avg_pool2d(middle, 3, 1, 1)], 1).permute(0, 2, 3, 1))
        return torch.cat(found).contiguous()


def _compared(name: str, distance: np.ndarray) -> Compared:
    """The largest distance of a place as the score, the distances, smoothed a little, as the map."""
    maps = np.stack([cv2.GaussianBlur(one, (0, 0), 0.7) for one in distance.astype(np.float32)])
    return Compared({name: maps.reshape(len(maps), -1).max(1).astype(np.float64)}, {name: maps})


class PaDiM:
    """A Gaussian a place of the grid; a place's score is its Mahalanobis distance."""

    def __init__(self, name: str, features: Features) -> None:
        self.name, self.features = name, features
        self.chosen = torch.zeros(0, dtype=torch.int64)
        self.mean = self.precision = torch.zeros(0)

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        every = self.features.of(crops)
        self.chosen = torch.randperm(every.shape[-1], generator=torch.Generator().manual_seed(0))[:PADIM_FEATURES]
        kept = every[..., self.chosen].flatten(1, 2).transpose(0, 1)  # (places, n, PADIM_FEATURES)
        self.mean = kept.mean(1, keepdim=True)
        away = kept - self.mean
        covariance = away.transpose(1, 2) @ away / max(1, len(crops) - 1) + JITTER * torch.eye(len(self.chosen))
        self.precision = torch.linalg.inv(covariance.double()).float()

    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        every = self.features.of(crops)
        away = every[..., self.chosen].flatten(1, 2).transpose(0, 1) - self.mean
        squared = ((away @ self.precision) * away).sum(2).clamp_min(0)
        return _compared(self.name, squared.sqrt().T.reshape(every.shape[:3]).numpy())


class PatchCore:
    """The distance of each place's feature to the nearest of a bank of normal ones, wherever those stood; the bank is a
    greedy coreset. Roth et al.'s re-weighting by the neighbours of the nearest is left out."""

    def __init__(self, name: str, features: Features) -> None:
        self.name, self.features = name, features
        self.bank = torch.zeros(0)

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        generator = torch.Generator().manual_seed(0)
        some = [crops[i] for i in np.linspace(0, len(crops) - 1, min(BANK_CROPS, len(crops))).astype(int)]
        flat = self.features.of(some).flatten(0, 2)
        candidates = flat[torch.randperm(len(flat), generator=generator)[:CANDIDATES]]
        self.bank = candidates[coreset(candidates, min(BANK, len(candidates)))]

    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        every = self.features.of(crops)
        nearest = torch.stack([torch.cdist(one.flatten(0, 1), self.bank).amin(1) for one in every])
        return _compared(self.name, nearest.reshape(every.shape[:3]).numpy())


def coreset(points: Tensor, count: int) -> Tensor:
    """(n, d) -> (count,) numbers of points, each the one farthest from those before it (Roth et al. 2022, algorithm 1,
    without its random projection)."""
    chosen = torch.zeros(count, dtype=torch.int64)
    squares = (points**2).sum(1)
    nearest = torch.full((len(points),), torch.inf)
    for i in range(1, count):
        last = points[chosen[i - 1]]
        nearest = torch.minimum(nearest, squares - 2 * (points @ last) + (last**2).sum())
        chosen[i] = int(nearest.argmax())
    return chosen
