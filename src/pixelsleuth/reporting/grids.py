"""Figures made of rows of pictures: samples of data sets, reconstructions, images drawn from a prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.models.checkpoint import Model
from pixelsleuth.records import Finding
from pixelsleuth.scoring.restoration import uniforms_of
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import find_images, read_picture
from pixelsleuth.sources.layouts import LEVELS, altered_parts
from pixelsleuth.sources.shards import holds_store
from pixelsleuth.sources.store import Store

#: Side, in pixels, that example pictures are scaled down to.
SIDE = 256


def grid_figure(rows: Mapping[str, Sequence[np.ndarray]], captions: Sequence[Sequence[str]] = ()) -> Figure:
    """Rows of pictures, (H, W, 3) or (H, W) uint8 each, the rows' names at the left.

    Args:
        captions: below the pictures of each row; none where a row has no list.
    """
    columns = max(len(row) for row in rows.values())
    # Names take room at the left, captions below.
    captioned = sum(bool(any(row)) for row in captions)
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(1.3 * columns + 0.3, 1.3 * len(rows) + 0.32 * captioned + 0.1), layout=layout)
    axes = np.atleast_2d(figure.subplots(len(rows), columns, squeeze=False))
    for number, (name, pictures) in enumerate(rows.items()):
        for one in axes[number]:
            bare(one)
        for one, picture in zip(axes[number], pictures, strict=False):
            show(one, picture)
        for one in axes[number, len(pictures) :]:
            one.set_axis_off()
        axes[number, 0].set_ylabel(name, fontsize=8)
        for one, caption in zip(axes[number], captions[number] if number < len(captions) else (), strict=False):
            one.set_xlabel(caption, fontsize=7, labelpad=2)
    return figure


def show(axes: Any, picture: np.ndarray) -> None:
    """Draws (H, W, 3) uint8 RGB, or (H, W) or (H, W, 1) uint8 grey, on one scale."""
    grey = picture.ndim == 2 or picture.shape[2] == 1
    axes.imshow(
        picture.reshape(picture.shape[:2]) if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=255
    )


def bare(axes: Any) -> None:
    """No ticks, no frame; a label at the left or below stays."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def examples(sources: Sequence[Path], count: int) -> dict[str, list[np.ndarray]]:
    """Up to `count` pictures of each folder or store, evenly spread over it, (SIDE, SIDE, 3) uint8: the largest centred
    square. A folder whose file names tell levels (Real-and-Fake-Face) gives a row a level.

    Raises:
        PixelsleuthError: no such folder, or no readable picture in it.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for source in sources:
        if holds_store(source):
            with Store(source) as store:
                chosen = spread(range(len(store)), count)
                rows[_unlike(source.stem, rows)] = list(store.pixels(chosen))
            continue
        paths = list(find_images(source)) if source.is_dir() else []
        levels = {path: (altered_parts(path.stem) or ("",))[0] for path in paths}
        found = False
        for level in [level for level in LEVELS if level in levels.values()] or [""]:
            row = _readable([path for path in paths if levels[path] == level or not level], count)
            if row:
                name = "/".join(source.resolve().parts[-2:]) if not level else f"{source.name}, {level}"
                rows[_unlike(name, rows)] = row
                found = True
        if not found:
            raise PixelsleuthError(f"{source}: expected a folder of pictures or a store, found no readable picture")
    return rows


def _unlike(name: str, taken: Mapping[str, Any]) -> str:
    return name if name not in taken else f"{name} ({len(taken)})"


def spread(values: Sequence[Any], count: int) -> list[Any]:
    """Up to `count` of some values, evenly spread over them."""
    wanted = min(count, len(values))
    return [values[int((i + 0.5) * len(values) / wanted)] for i in range(wanted)]


def _readable(paths: Sequence[Path], count: int) -> list[np.ndarray]:
    row = []
    for path in spread(paths, count):
        try:
            pixels = read_picture(path).pixels
        except InputError:
            continue
        row.append(faces.cut(pixels, faces.whole_picture(pixels), SIDE))
    return row


def squares_of(detector: Detector, sources: Sequence[Path]) -> list[np.ndarray]:
    """(size, size, 3) uint8, the main square of each picture as the VQ-VAE sees it; unreadable ones are left out.

    Raises:
        PixelsleuthError: none can be read, or the model is one for volumes.
    """
    if detector.takes == "volumes":
        raise PixelsleuthError(f"expected one for pictures, got {detector.name}, which is for volumes", "model")
    found, reason = [], "there is none"
    for source in sources:
        sample = detector.read(source, whole_without_face=True)
        if isinstance(sample, Finding):
            reason = sample.reason["sentence"] if sample.reason else reason
        else:
            found.append(sample.main.views.square)
    if not found:
        raise PixelsleuthError(f"none of {len(sources)} pictures can be read: {reason}")
    return found


@torch.no_grad()
def reconstruction_figure(model: Model, squares: Sequence[np.ndarray]) -> Figure:
    """Inputs above, what their codes decode to below, with PSNR in dB and SSIM (Wang et al. 2004) of each."""
    device = next(model.vqvae.parameters()).device
    image = torch.from_numpy(np.stack(squares)).to(device).permute(0, 3, 1, 2).float().div(255)
    made = model.decode(model.encode(image)).permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()
    captions = [
        f"{peak_signal_noise_ratio(a, b):.1f} dB\n{structural_similarity(a, b, channel_axis=2):.3f}"
        for a, b in zip(squares, made, strict=True)
    ]
    return grid_figure({"input": squares, "reconstruction": list(made)}, ([], captions))


@torch.no_grad()
def sampled(model: Model, kind: str, count: int, seed: int = 0) -> np.ndarray:
    """(count, H, W, C) uint8: codes drawn from a prior from nothing, decoded. Of a model that knows slice positions
    these run evenly from the lowest to the highest.

    Raises:
        PixelsleuthError: the model has no prior of this kind.
    """
    if kind not in model.priors:
        raise PixelsleuthError(f"expected one of {', '.join(model.priors)}; got {kind!r}", "prior")
    device = next(model.vqvae.parameters()).device
    keys = [f"{seed * 1_000_003 + number:064x}"[::-1] for number in range(count)]
    uniforms = uniforms_of(keys, 1, model.vqvae.grid())[:, 0].to(device)
    scalars = None
    if model.config.vqvae.context or model.priors[kind].config.context:
        scalars = torch.linspace(-0.5, 0.5, count, device=device)[:, None]
    codes = model.priors[kind].sample(uniforms, model.context(kind, scalars))
    return np.asarray(model.decode(codes, scalars).permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy())


def samples_figure(model: Model, kinds: Sequence[str], count: int, columns: int = 8, seed: int = 0) -> Figure:
    """Images drawn from each prior."""
    rows: dict[str, Sequence[np.ndarray]] = {}
    for kind in kinds:
        made = sampled(model, kind, count, seed)
        for first in range(0, count, columns):
            # Invisible characters keep the names of further rows apart.
            rows[kind if not first else "\u200b" * (len(rows) + 1)] = list(made[first : first + columns])
    return grid_figure(rows)
