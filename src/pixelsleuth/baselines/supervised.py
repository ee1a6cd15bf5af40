"""Supervised references: trained on altered images too, unlike everything this package's verdicts rest on.

After Chai et al. 2020 a fully convolutional classifier of patches with a small receptive field, whose heatmap is the
probability a patch; after Dang et al. 2020 a classifier whose features are multiplied with an attention map that learns
the mask. Both are small: what counts is what seeing one kind of manipulation brings for it, and costs on others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.baselines.baseline import Compared, ComparedCrop, squares_of
from pixelsleuth.baselines.teaching import image_of, seeded, teach
from pixelsleuth.sources.images import jpeg_round_trip
from pixelsleuth.synthesis.anomalies import face_shape, laid_over

SIZE = 256
BATCH = 16
#: Of the pairs that `fit` makes itself.
QUALITY = 90


def _layer(inside: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, out, kernel, stride, kernel // 2, bias=False), nn.GroupNorm(8, out), nn.SiLU()
    )


class PatchClassifier(nn.Module):
    """Each place of a grid at stride 4 is classified from the 23 pixels around it (Chai et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_layer(3, 32, 3, 2), _layer(32, 64, 3, 2), _layer(64, 64, 3), _layer(64, 64, 3))
        self.place = nn.Conv2d(64, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [0, 1] -> (B,) logits of images, the mean of their patches', and (B, H / 4, W / 4)."""
        places = self.place(self.body(image * 2 - 1))[:, 0].float()
        return places.mean((1, 2)), places

    def loss(self, image: Tensor, mask: Tensor, altered: Tensor) -> Tensor:
        """Every patch has the label of its image (Chai et al. 2020, section 3.1)."""
        _, places = self(image)
        return F.binary_cross_entropy_with_logits(places, altered[:, None, None].expand_as(places))


class AttentionClassifier(nn.Module):
    """Features times an attention map that learns the mask, then classified (Dang et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Sequential(_layer(3, 32, 3, 2), _layer(32, 64, 3, 2), _layer(64, 96, 3, 2), _layer(96, 96, 3))
        self.attention = nn.Conv2d(96, 1, 3, padding=1)
        self.after = nn.Sequential(_layer(96, 128, 3, 2), _layer(128, 128, 3))
        self.whole = nn.Linear(128, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [0, 1] -> (B,) logits of images, and (B, H / 8, W / 8) logits of the attention map."""
        x = self.before(image * 2 - 1)
        places = self.attention(x)
        pooled = self.after(x * places.sigmoid()).mean((2, 3))
        return self.whole(pooled)[:, 0].float(), places[:, 0].float()

    def loss(self, image: Tensor, mask: Tensor, altered: Tensor) -> Tensor:
        """Classification, and the attention map against the mask (Dang et al. 2020, section 3.2, supervised)."""
        whole, places = self(image)
        truth = F.adaptive_avg_pool2d(mask[:, None], places.shape[1:])[:, 0]
        of_places = F.binary_cross_entropy_with_logits(places, truth)
        return F.binary_cross_entropy_with_logits(whole, altered) + of_places


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "supervised_patches": PatchClassifier,
    "supervised_attention": AttentionClassifier,
}


class Supervised:
    """One of `NETWORKS`. `fit` makes faces of other normal crops laid over each crop, so that it sees whole-face swaps
    and nothing else; `teach_on` takes any pairs."""

    def __init__(self, name: str, steps: int = 600) -> None:
        self.name, self.steps = name, steps
        self.network = seeded(NETWORKS[name])

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        squares = squares_of(crops, SIZE)
        pairs = np.zeros((len(squares), 2, SIZE, SIZE, 3), np.uint8)
        masks = np.zeros((len(squares), SIZE, SIZE), bool)
        for i, square in enumerate(squares):
            generator = np.random.default_rng((0, i))
            donor = squares[(i + 1 + int(generator.integers(max(1, len(squares) - 1)))) % len(squares)]
            edited = laid_over(square, donor, face_shape(square.shape[:2], generator), 1.0)
            pairs[i] = [jpeg_round_trip(pixels, QUALITY) for pixels in (square, edited.pixels)]
            masks[i] = edited.mask > 0
        self.teach_on(pairs, masks)

    def teach_on(self, pairs: np.ndarray, masks: np.ndarray) -> None:
        """Learn from (n, 2, S, S, 3) uint8, an untouched picture and what was made of it, and (n, S, S) bool masks."""

        def loss(picked: np.ndarray) -> Tensor:
            both = np.concatenate([pairs[picked, 0], pairs[picked, 1]])
            where = np.concatenate([np.zeros_like(masks[picked]), masks[picked]])
            mirrored = np.tile(picked % 2 == int(picked[0]) % 2, 2)
            both[mirrored], where[mirrored] = both[mirrored][:, :, ::-1], where[mirrored][:, :, ::-1]
            altered = torch.cat([torch.zeros(len(picked)), torch.ones(len(picked))])
            value: Tensor = self.network.loss(image_of(both), torch.from_numpy(where).float(), altered)
            return value

        teach(self.network, loss, len(pairs), self.steps, BATCH, 2e-3)

    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        whole, places = self.classified(squares_of(crops, SIZE))
        return Compared({self.name: whole}, {self.name: places})

    @torch.no_grad()
    def classified(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, S, S, 3) uint8 -> (n,) float64 logits and (n, h, w) float32 logits of places."""
        found = [self.network(image_of(squares[i : i + BATCH])) for i in range(0, len(squares), BATCH)]
        whole, places = (torch.cat(part) for part in zip(*found, strict=True))
        return whole.double().numpy(), places.numpy()
