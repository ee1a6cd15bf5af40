"""A white-box attack on the default score of a face model: projected gradient descent (Madry et al. 2018) on the pixels
of the image, within eps grey levels.

The attacker knows everything: the face's square, every network, every weight of the score. The forward pass is the
program's own, rounding and scaling included; the gradient goes round what has none: through scaling by a bilinear copy
of it (BPDA, Athalye et al. 2018), through the codes by the softmax of distances to the codebook in place of the
nearest entry (straight-through), and past the adjustment for complexity and the levelling by look, which are taken for
constants.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.models.detective import DeepDetective
from pixelsleuth.models.pixelsnail import PixelSNAIL
from pixelsleuth.records import Box
from pixelsleuth.scoring.measurements import centre_of, centre_smoothness
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.scoring.settings import BOTH_TRACKS, CENTRE_SMOOTHNESS, DETECTIVE, DETECTIVE_NEAR, TWO_WAY
from pixelsleuth.sources.faces import Framing, cut_views, main_face

#: What the default score of face models takes from the codes.
_CODES = (f"{TWO_WAY}_local_max", f"{TWO_WAY}_mean_nll", CENTRE_SMOOTHNESS)


class _Rows(nn.Module):
    """An embedding that takes shares (B, h, w, K) in place of numbers."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.weight = table.weight

    def forward(self, shares: Tensor) -> Tensor:
        return shares @ self.weight


class Attack:
    """An attack on one detector."""

    def __init__(self, detector: Detector) -> None:
        model, settings = torch_of(detector.scorer).model, detector.scorer.settings
        prior = copy.deepcopy(model.priors.get("pixelsnail"))
        parts = {f"{name}_adjusted" for name in _CODES}
        if not isinstance(model.detective, DeepDetective) or not isinstance(prior, PixelSNAIL) or prior.embed is None:
            raise PixelsleuthError("expected a model with a PixelSNAIL and a deep detective, such as faces", "model")
        if (settings.default, set(settings.combined)) != (BOTH_TRACKS, parts):
            raise PixelsleuthError(f"expected the score {BOTH_TRACKS}, got {settings.default}", "model")
        self.model, self.sizes, self.detective = model, detector.scorer.sizes, model.detective
        self.framing = Framing.of(model.config.preprocessing)
        self.spread = {name: one.spread for name, one in settings.adjusted.items()}
        self.views_spread, self.weights = settings.views_spread, settings.track_weights
        rows: tuple[Any, Any] = _Rows(prior.embed), _Rows(prior.beside)
        prior.embed, prior.beside = rows
        self.prior = prior

    def attacked(self, pixels: np.ndarray, up: bool, eps: tuple[int, ...], steps: int) -> list[np.ndarray]:
        """The picture after `steps` steps at each eps in turn, each beginning with what the smaller one found; of the
        steps of an eps the one whose score was best for the attacker.

        Args:
            pixels: (H, W, 3) uint8 with a face, else InputError.
            up: whether the score shall rise (a false alarm) or fall (a forgery that hides).
        """
        box = main_face(pixels, self.framing).box
        clean = torch.from_numpy(pixels.astype(np.float32))
        change, sign = torch.zeros_like(clean), 1.0 if up else -1.0
        found: list[np.ndarray] = []
        for most in eps:
            best, best_change = -math.inf, change
            for number in range(steps + 1):
                at = (clean + change).clamp(0, 255).requires_grad_(True)
                score = self.score(at, box)
                gained = sign * float(score.detach())
                if gained > best and (number or not found):
                    best, best_change = gained, change
                if number == steps:
                    break
                (slope,) = torch.autograd.grad(score, at)
                step = max(1.0, most / 4) * sign * slope.sign()
                change = ((change + step).clamp(-most, most) + clean).clamp(0, 255) - clean
            change = best_change
            found.append((clean + change).clamp(0, 255).round().byte().numpy())
        return found

    def score(self, picture: Tensor, box: Box) -> Tensor:
        """The default score of a picture (H, W, 3) float32 of grey levels, up to a constant; differentiable."""
        rounded = picture.detach().round().byte().numpy()
        views = cut_views(rounded, box, self.sizes)
        square = self._seen(picture, box, views.square)
        close = square if views.close is None else self._seen(picture, box, views.close)
        _, far = self.detective(square, close=close)
        detective = far[0] / self.spread[DETECTIVE]
        if views.near is not None:
            _, windows = self.detective.windows(self._seen(picture, box, views.near))
            detective = (detective + windows.max() / self.spread[DETECTIVE_NEAR]) / self.views_spread
        codes, weight = self.weights
        return (codes * self._codes(square) + weight * detective) / (codes**2 + weight**2) ** 0.5

    def _codes(self, square: Tensor) -> Tensor:
        """The part of the score that rests on the codes."""
        there, values = self._surprise(square)
        back, _ = self._surprise(square.flip(3))
        nll, entropy = ((a + b.flip(2)) / 2 for a, b in zip(there, back, strict=True))
        local = F.avg_pool2d((nll - entropy)[:, None], 3, stride=1).amax()
        decoded = self.model.vqvae.decoded(values).clamp(0, 1)
        smoothness = centre_smoothness(decoded.mean(1), centre_of((nll.shape[1], nll.shape[2])))[0].float()
        parts = zip(_CODES, (local, nll.mean(), smoothness), strict=True)
        return torch.stack([value / self.spread[name] for name, value in parts]).sum() / len(_CODES) ** 0.5

    def _surprise(self, square: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """NLL and entropy (1, h, w) in nats of the codes of a square, and their entries (1, D, h, w)."""
        z = self.model.vqvae.encoder(square * 2 - 1).permute(0, 2, 3, 1)
        book = self.model.vqvae.quantiser.codebook
        far = torch.cdist(z.flatten(0, 2), book).square().view(*z.shape[:3], -1)
        nearest = far.argmin(3)
        # As soft as the nearest entries are far apart.
        warmth = (far.topk(2, dim=3, largest=False).values.diff(dim=3).mean() + 1e-6).detach()
        soft = (-far / warmth).softmax(3)
        shares = F.one_hot(nearest, far.shape[3]).float() + soft - soft.detach()
        told = self.prior(shares).float().log_softmax(1).permute(0, 2, 3, 1)
        surprise = -(shares * told).sum(3), -(told.exp() * told).sum(3)
        return surprise, (shares @ book).permute(0, 3, 1, 2)

    def _seen(self, picture: Tensor, box: Box, view: np.ndarray) -> Tensor:
        """(1, 3, S, S) float32 in [0, 1]: the program's view of the square, with the gradient of a bilinear one."""
        size = view.shape[0]
        fine = max(1, round(box.width / size))
        count = size * fine
        # Pixel centres of the view on the square, turned with it, then on the picture as grid_sample counts it.
        at = (torch.arange(count) + 0.5) * box.width / count - box.width / 2
        y, x = torch.meshgrid(at, at, indexing="ij")
        cos, sin = math.cos(math.radians(box.angle)), math.sin(math.radians(box.angle))
        px = cos * x - sin * y + (box.x0 + box.x1) / 2
        py = sin * x + cos * y + (box.y0 + box.y1) / 2
        height, width = picture.shape[:2]
        grid = torch.stack([px * 2 / width - 1, py * 2 / height - 1], 2)[None]
        drawn = F.grid_sample(
            picture.permute(2, 0, 1)[None] / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )
        drawn = F.avg_pool2d(drawn, fine)
        exact = torch.from_numpy(view.astype(np.float32) / 255).permute(2, 0, 1)[None]
        return drawn + (exact - drawn).detach()
