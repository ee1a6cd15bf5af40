"""Figures made of rows of images: samples of data sets, reconstructions, images sampled from a prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pixelsleuth.datasets.layouts import LEVELS, altered_parts
from pixelsleuth.datasets.shards import holds_store
from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import find_images, read_picture
from pixelsleuth.walkthrough import Reconstructions

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
    """Draw (H, W, 3) uint8 RGB, or (H, W) or (H, W, 1) uint8 grey, on one scale."""
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


def reconstruction_figure(found: Reconstructions) -> Figure:
    """Inputs above, what their codes decode to below, with PSNR in dB and SSIM of each."""
    captions = [f"{psnr:.1f} dB\n{ssim:.3f}" for psnr, ssim in zip(found.psnr, found.ssim, strict=True)]
    return grid_figure({"input": found.squares, "reconstruction": found.made}, ([], captions))


def samples_figure(drawn: Mapping[str, np.ndarray], columns: int = 8) -> Figure:
    """Images drawn from each prior, by its kind."""
    rows: dict[str, Sequence[np.ndarray]] = {}
    for kind, made in drawn.items():
        for first in range(0, len(made), columns):
            # Invisible characters keep the names of further rows apart.
            rows[kind if not first else "\u200b" * (len(rows) + 1)] = list(made[first : first + columns])
    return grid_figure(rows)
