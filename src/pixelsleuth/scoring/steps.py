"""One square on its way through the networks, with everything in between kept: what the text's Figure 14 shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixelsleuth.models.folder import Model
from pixelsleuth.scoring.examine import Examiner, judging_surprise, place_map
from pixelsleuth.scoring.restoration import restoration_weights, uniforms_of
from pixelsleuth.scoring.scans import SliceExaminer

#: Softmax temperature of the weights, as in `restore`.
K = 3.0


@dataclass(frozen=True)
class Steps:
    """What the networks make of one square.

    Attributes:
        image: (H, W, C) uint8, the input; reconstruction: its codes decoded as they are; restoration: the weighted
            mean over S restorations, in which unlikely codes were drawn anew.
        codes: (h, w) int64 in [0, K).
        surprise: (h, w) float32, NLL - entropy of each code in nats.
        flagged: (h, w) bool, the codes that were drawn anew, in any restoration.
        residual_reconstruction, residual_restoration: (H, W) float32 in [0, 1], mean |difference| over channels.
        replaced: mean share of all codes that came out another than they were.
    """

    image: np.ndarray
    reconstruction: np.ndarray
    restoration: np.ndarray
    codes: np.ndarray
    surprise: np.ndarray
    flagged: np.ndarray
    residual_reconstruction: np.ndarray
    residual_restoration: np.ndarray
    replaced: float


@torch.no_grad()
def picture_steps(examiner: Examiner, square: np.ndarray, sha256: str, kind: str = "") -> Steps:
    """The steps of a (size, size, 3) uint8 square of a picture.

    Args:
        sha256: keys the random draws; of the input's bytes as in `detect`.
        kind: of the prior that restores; the model's default unless given.

    Raises:
        KeyError: the model has no prior of this kind.
    """
    model, kind = examiner.model, kind or next(iter(examiner.model.priors))
    image = _tensor(square, examiner.device)
    codes = model.encode(image)
    limit = examiner.settings.lambda_p[kind]
    where = model.surprise(kind, codes).nll > limit
    copies = examiner.settings.restorations
    return _steps(model, image, codes, None, kind, where, sha256, copies, None if kind == "masked" else limit)


@torch.no_grad()
def slice_steps(examiner: SliceExaminer, square: np.ndarray, position: float, key: str) -> Steps:
    """The steps of a (size, size, 1) uint8 slice of a volume.

    Args:
        position: in [-0.5, 0.5]; key: of the slice, for the random draws.
    """
    model, kind = examiner.model, next(iter(examiner.model.priors))
    image = _tensor(square, examiner.device)
    scalars = torch.tensor([[position]], dtype=torch.float32, device=examiner.device)
    codes = model.encode(image, scalars)
    altered = None
    if model.detective is not None:
        judged = judging_surprise(model, image, codes, scalars)
        places, _ = examiner.altered(image, model.decode(codes, scalars), judged, np.array([position], np.float32))
        altered = place_map(places, (image.shape[2], image.shape[3]))
    where = examiner.named(altered, model.surprise(kind, codes, scalars), codes)
    return _steps(model, image, codes, scalars, kind, where, key, examiner.settings.restorations)


def _steps(
    model: Model, image: Tensor, codes: Tensor, scalars: Tensor | None, kind: str, where: Tensor, key: str,
    copies: int, above: float | None = None,
) -> Steps:  # fmt: skip
    seen = model.surprise(kind, codes, scalars)
    uniforms = uniforms_of([key], copies, (codes.shape[1], codes.shape[2])).to(codes.device)
    # What PixelSNAIL flags depends on what it has restored before: the text's algorithm, as `detect` runs it.
    flags: dict[str, Any] = {"where": where} if above is None else {"above": above}
    drawn = model.priors[kind].resample(codes, uniforms, context=model.context(kind, scalars), **flags)[0]
    decoded = model.decode(drawn, None if scalars is None else scalars.expand(copies, -1))
    distance = (decoded - image).abs()
    weights = restoration_weights(distance.mean((1, 2, 3))[None] * 2, K)[0][:, None, None, None]
    reconstruction = model.decode(codes, scalars)
    return Steps(
        image=_picture(image),
        reconstruction=_picture(reconstruction),
        restoration=_picture((decoded * weights).sum(0, keepdim=True)),
        codes=codes[0].cpu().numpy(),
        surprise=(seen.nll - seen.entropy)[0].cpu().numpy(),
        flagged=(where[0] | (drawn != codes).any(0)).cpu().numpy(),
        residual_reconstruction=(reconstruction - image).abs().mean((0, 1)).cpu().numpy(),
        residual_restoration=(distance * weights).sum(0).mean(0).cpu().numpy(),
        replaced=float((drawn != codes).float().mean()),
    )


def _tensor(square: np.ndarray, device: torch.device) -> Tensor:
    image = torch.from_numpy(np.ascontiguousarray(square)).to(device)[None]
    return image.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)


def _picture(image: Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
