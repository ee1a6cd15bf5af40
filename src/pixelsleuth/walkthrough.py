"""The data of figures of the method: one input with all its steps, reconstructions, unconditional samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pixelsleuth.detector import Detector, Rule
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.models.checkpoint import Model
from pixelsleuth.records import MAX_FALSE_ALARM, Finding
from pixelsleuth.scoring import draws
from pixelsleuth.scoring.networks import to_pixels, torch_of
from pixelsleuth.scoring.scorer import stacked
from pixelsleuth.scoring.trace import Trace, trace


@dataclass(frozen=True)
class Story:
    """One square with all its steps and what came of it.

    Attributes:
        steps: see `Trace`.
        map: (H, W) float32 over the square, the default map as it is; of a detective the probability that a place was
            altered, in [0, 1]. `map_name`: its name.
        excess: (H, W) float32, the map over its colour threshold, as `Finding.excess`.
        finding: of the whole input.
        where: which slice, of a volume; else "".
    """

    steps: Trace
    map: np.ndarray
    map_name: str
    excess: np.ndarray
    finding: Finding
    where: str = ""


def story_of(
    detector: Detector, source: str | os.PathLike[str] | np.ndarray, rate: float = MAX_FALSE_ALARM, prior: str = "",
    index: int | None = None,
) -> Story:  # fmt: skip
    """Judge an input and keep the steps of its most unusual square: a face, or a slice of a volume.

    Args:
        rate: of false alarms, for the verdict.
        prior: kind of the prior that restores a picture; the model's default unless given.
        index: of a volume, the slice to show, from the lowest in RAS.

    Raises:
        PixelsleuthError: the input cannot be judged, the model has no such prior, or the volume no such slice.
    """
    networks = torch_of(detector.scorer)
    if prior and prior not in networks.model.priors:
        raise PixelsleuthError(f"expected one of {', '.join(networks.model.priors)}; got {prior!r}", "prior")
    if detector.takes == "images":
        detector.calibration.check_rate(rate)
    sample = detector.sample_of(source)
    if sample.kind == "video":
        raise PixelsleuthError(f"{sample.path}: expected an image or a volume, got a video")
    (scores,) = detector.score([sample])
    (judged,) = detector.judge([sample], [scores], Rule(rate, typicality=False, doubt=False))
    finding = detector.assembler.finding(sample, scores, judged)
    row = judged.decisive
    name = detector.scorer.settings.default_map
    where, known = "", np.ones(sample.main.views.square.shape[:2])
    if sample.kind == "volume":
        numbers = [crop.index for crop in sample.crops]
        if index is not None and index not in numbers:
            raise PixelsleuthError(f"expected {numbers[0]} to {numbers[-1]} of {sample.path}, got {index}", "slice")
        values = scores.scores[detector.calibration.score]
        row = int(np.argmax(values)) if index is None else numbers.index(index)
        # Nothing outside the head counts.
        where, known = f"slice {numbers[row]}", scores.maps[name][row] > 0
    crop = stacked([sample.crops[row].views], [sample.crops[row].key])
    values = scores.maps[name][row]
    excess = detector.calibration.coloured(detector.calibration.excess(values)) * known
    return Story(trace(networks, crop, prior), values, name, excess, finding, where)


class Reconstructions(NamedTuple):
    """(size, size, 3) uint8 squares, what their codes decode to, and of each pair PSNR in dB and SSIM (Wang et al.
    2004)."""

    squares: Sequence[np.ndarray]
    made: Sequence[np.ndarray]
    psnr: list[float]
    ssim: list[float]


def squares_of(detector: Detector, sources: Sequence[Path]) -> list[np.ndarray]:
    """(size, size, 3) uint8, the main square of each picture as the VQ-VAE sees it; unreadable ones are left out.

    Raises:
        PixelsleuthError: none can be read, or the model is one for volumes.
    """
    detector.check_takes("images")
    found, reason = [], "there is none"
    for source in sources:
        sample = detector.read(source, whole_without_face=True)
        if isinstance(sample, Finding):
            reason = sample.reason_sentence
        else:
            found.append(sample.main.views.square)
    if not found:
        raise PixelsleuthError(f"none of {len(sources)} pictures can be read: {reason}")
    return found


@torch.no_grad()
def reconstructed(model: Model, squares: Sequence[np.ndarray]) -> Reconstructions:
    """Encode squares and decode them again."""
    device = next(model.vqvae.parameters()).device
    image = torch.from_numpy(np.stack(squares)).to(device).permute(0, 3, 1, 2).float().div(255)
    made = list(to_pixels(model.vqvae.decode(model.vqvae.encode(image))))
    pairs = list(zip(squares, made, strict=True))
    return Reconstructions(
        squares,
        made,
        [float(peak_signal_noise_ratio(a, b)) for a, b in pairs],
        [float(structural_similarity(a, b, channel_axis=2)) for a, b in pairs],
    )


@torch.no_grad()
def sampled(model: Model, kind: str, count: int, seed: int = 0) -> np.ndarray:
    """Sample codes from a prior and decode them: (count, H, W, C) uint8. For a model that knows slice positions these
    run evenly from the lowest to the highest.

    Raises:
        PixelsleuthError: the model has no prior of this kind.
    """
    if kind not in model.priors:
        raise PixelsleuthError(f"expected one of {', '.join(model.priors)}; got {kind!r}", "prior")
    device = next(model.vqvae.parameters()).device
    keys = [f"{seed * 1_000_003 + number:064x}"[::-1] for number in range(count)]
    drawing = torch.from_numpy(draws.uniforms(keys, 1, model.vqvae.grid())[:, 0]).to(device)
    # Where the networks were built for a position, each sample has its own.
    scalars = torch.linspace(-0.5, 0.5, count, device=device)[:, None]
    codes = model.priors[kind].sample(drawing, scalars)
    return to_pixels(model.vqvae.decode(codes, scalars))
