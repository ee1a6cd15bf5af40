"""By what a place of the map is measured: the floor under its level, on validation pictures.

    python experiments/studies/map_floor.py faces runs/kinds --taught wide_9000

Pairs are those that `detective_kinds.py` left in its folder. Levels come from 800 untouched training pictures, the
colour threshold from untouched validation pictures (5% of them show any); what is counted are edits of kinds never
taught: how many show a region, and in how many of those the most unusual pixel lies within the edit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from detective_kinds import LANDMARK_KINDS
from scipy import ndimage

from pixelsleuth.models.checkpoint import Model, load_model
from pixelsleuth.models.configuration import find_model
from pixelsleuth.scoring.calibration import COLOUR_RATE, LEVELS, MIN_REGION, map_quantiles
from pixelsleuth.scoring.networks import place_map
from pixelsleuth.training.pair_dataset import PairDataset

NEVER_TAUGHT = ("copy_move", "removal", "sharpen", "warp")
FLOORS = (0.1, 0.3, 1.0, 2.0, 4.0)
#: Pixels around an edit that still belong to it.
MARGIN_PIXELS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("kinds", type=Path)
    parser.add_argument("--taught", default="wide_9000")
    parser.add_argument("--count", type=int, default=120, help="pictures of each kind")
    options = parser.parse_args()
    model = load_model(find_model(options.model)[0])
    size = model.config.vqvae.size
    levels = map_quantiles(maps_of(model, PairDataset.load(options.kinds / "taught" / options.taught), 800)[0])
    level = np.asarray(
        ndimage.zoom(levels[LEVELS.index(0.95)], size / levels.shape[1], order=1, mode="nearest", grid_mode=True)
    )
    untouched, edits = [], []
    for kind in (*LANDMARK_KINDS, *NEVER_TAUGHT):
        dataset = PairDataset.load(options.kinds / "tried" / kind)
        before, after = maps_of(model, dataset, options.count)
        cells = np.asarray(dataset.mask[: options.count], np.float32) > 0.5
        edits += [(one, enlarged(mask, size)) for one, mask in zip(after, cells, strict=True)]
        untouched += list(before) if kind in ("swap_matched", "copy_move") else []
    print(f"{len(untouched)} untouched pictures, {len(edits)} edits of {len(LANDMARK_KINDS) + len(NEVER_TAUGHT)} kinds")
    for floor in FLOORS:
        over = np.maximum(level, floor * level.mean())
        coloured_from = np.quantile([(one / over).max() for one in untouched], 1 - COLOUR_RATE)
        shown, hit = [], []
        for after, mask in edits:
            excess = after / over
            labels, _ = ndimage.label(excess >= coloured_from)
            shown.append(bool((np.bincount(labels.ravel())[1:] >= MIN_REGION).any()))
            if shown[-1]:
                place = np.unravel_index(int(excess.argmax()), excess.shape)
                hit.append(bool(ndimage.binary_dilation(mask, iterations=MARGIN_PIXELS)[place]))
        print(f"floor {floor:g}: {np.mean(shown):.3f} show a region, of these {np.mean(hit):.3f} peak in the edit")


def enlarged(cells: np.ndarray, size: int) -> np.ndarray:
    """(h, w) bool -> (size, size) bool."""
    return np.repeat(np.repeat(cells, size // len(cells), 0), size // len(cells), 1)


@torch.no_grad()
def maps_of(model: Model, dataset: PairDataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The detective's maps of pictures and of their forgeries, (n, size, size) float32 each."""
    size = model.config.vqvae.size
    assert model.detective is not None
    found = []
    for start in range(0, min(count, len(dataset)), 24):
        picked = np.arange(start, min(start + 24, count, len(dataset)))
        given, _ = dataset.batch(picked, np.zeros(len(picked), bool))
        places, _ = model.detective(*given)
        found.append(place_map(places, (size, size)).numpy().reshape(2, len(picked), size, size))
    both = np.concatenate(found, 1)
    return both[0], both[1]


if __name__ == "__main__":
    main()
