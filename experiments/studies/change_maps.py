"""What a place's change from a real face to its fake can tell: simple maps without any label, DFDC's validation pairs.

    python experiments/studies/change_maps.py faces

Of each map the AUROC of edited places: of the fake's map, of its partner's against the same mask, and of the fake's
minus its partner's. All maps on the detective's grid, smoothed by a Gaussian of two places. Then two bounds that no
map is made of: every score of whole pictures laid over the middle of the square, the same for every picture but for its
height, alone and with the map that tells most, both in units of their spread; and the maps' changes together (smoothed
over two and over five places, and the picture's mean), weighted by a regression that is told the masks (five folds by
pair). Last, how soft fakes are within their masks, and far from them, where nobody altered anything: there a second
coding shows.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from detective_kinds import dfdc_pairs
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pixelsleuth.detector import Detector
from pixelsleuth.scoring.maps import centre_prior
from pixelsleuth.scoring.measurements import local_sharpness
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.scoring.scorer import Crops, ScoreOptions, Scorer
from pixelsleuth.training.pair_dataset import BATCH, PairDataset, pair_dataset_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    options = parser.parse_args()
    scorer = Detector.load(options.model).scorer
    dataset = pair_dataset_of(torch_of(scorer).model, dfdc_pairs(scorer.size, scale=2))
    truth = np.asarray(dataset.mask) > 0.5
    masked = np.flatnonzero(truth.any((1, 2)))
    flat = truth[masked].ravel()
    print(f"{len(masked)} pairs with a mask, prevalence {flat.mean():.3f}")
    seen: list[np.ndarray] = []
    best = (0.0, np.zeros(truth[masked].shape))
    named = maps_of(dataset, truth.shape[1]) | {"detective": detective_maps(scorer, dataset)}
    for name, maps in named.items():
        smooth, wide = (ndimage.gaussian_filter(maps[masked], (0, 0, sigma, sigma)) for sigma in (2, 5))
        changes = [both[:, 1] - both[:, 0] for both in (smooth, wide)]
        seen += [*changes, np.broadcast_to(changes[1].mean((1, 2), keepdims=True), changes[1].shape)]
        figures = [roc_auc_score(flat, one.ravel()) for one in (smooth[:, 1], smooth[:, 0], changes[0])]
        best = max(best, (figures[2], changes[0] / changes[0].std()), key=lambda one: one[0])
        print(f"{name:45s} fake {figures[0]:.3f}, partner {figures[1]:.3f}, change {figures[2]:.3f}")
    middle = centre_prior(truth.shape[1])
    partners, fakes = (scores_of(scorer, dataset, masked, which) for which in range(2))
    for name, scores in fakes.items():
        laid = (scores - partners[name])[:, None, None] * middle
        figures = [roc_auc_score(flat, one.ravel()) for one in (laid, laid / laid.std() + best[1])]
        print(f"{name:45s} laid over the middle, change {figures[0]:.3f}, with the best map {figures[1]:.3f}")
    print(f"told the masks: change {told(np.stack(seen, -1), truth[masked]):.3f}")
    softness(dataset, masked, truth[masked])


@torch.no_grad()
def detective_maps(scorer: Scorer, dataset: PairDataset) -> np.ndarray:
    """(N, 2, h, w) logits of places."""
    detective = torch_of(scorer).model.detective
    assert detective is not None
    found = []
    for start in range(0, len(dataset), BATCH):
        picked = np.arange(start, min(start + BATCH, len(dataset)))
        given, _ = dataset.batch(picked, np.zeros(len(picked), bool))
        found.append(
            torch_of(scorer).model.detective(*given)[0].reshape(2, len(picked), *dataset.mask.shape[1:]).numpy()
        )
    return np.concatenate([part.swapaxes(0, 1) for part in found])


def scores_of(scorer: Scorer, dataset: PairDataset, rows: np.ndarray, which: int) -> dict[str, np.ndarray]:
    """Every score of the partners (0) or of the fakes (1), by name."""
    parts = []
    for start in range(0, len(rows), BATCH):
        picked = rows[start : start + BATCH]
        close = None if dataset.close is None else dataset.close[picked, which]
        keys = [f"{row:064x}" for row in picked]
        parts.append(Crops(dataset.pixels[picked, which], keys, close))
    return scorer.score(parts, ScoreOptions(maps=False)).scores


def told(changes: np.ndarray, truth: np.ndarray) -> float:
    """AUROC of (N, h, w, F) changes weighted by a logistic regression taught the (N, h, w) masks of the other folds."""
    pairs = np.repeat(np.arange(len(truth)), truth[0].size)
    rule = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    seen = changes.reshape(len(pairs), -1)
    said = cross_val_predict(rule, seen, truth.ravel(), groups=pairs, cv=GroupKFold(5), method="decision_function")
    return float(roc_auc_score(truth.ravel(), said))


def softness(dataset: PairDataset, rows: np.ndarray, truth: np.ndarray) -> None:
    """Prints AUROC and paired accuracy of being softer, over each mask and over the cells that do not touch its own."""
    close = dataset.pixels if dataset.close is None else dataset.close
    luma = np.stack([[_luma(one) for one in pair] for pair in close[rows]]).astype(np.float32) / 255
    grid = dataset.surprise.shape[-2:]
    soft = np.stack([-local_sharpness(torch.from_numpy(luma[:, which]), grid).numpy() for which in range(2)], 1)
    cells = truth.reshape(len(truth), grid[0], truth.shape[1] // grid[0], grid[1], truth.shape[2] // grid[1])
    within = cells.mean((2, 4)) > 0.5
    touched = cells.any((2, 4))
    far = np.stack([~ndimage.binary_dilation(one) for one in touched])
    enough = (within.sum((1, 2)) >= 10) & (far.sum((1, 2)) >= 20)
    for name, where in (("within the mask", within), ("far from it", far)):
        values = [np.average(soft[k], weights=where[k][None].repeat(2, 0), axis=(1, 2)) for k in np.flatnonzero(enough)]
        real, fake = np.stack(values).T
        auroc = roc_auc_score(np.repeat([0, 1], len(real)), np.concatenate([real, fake]))
        print(f"softer {name}: AUROC {auroc:.3f}, paired {np.mean(fake > real):.3f}, {len(real)} pairs")


def maps_of(dataset: PairDataset, side: int) -> dict[str, np.ndarray]:
    """Name -> (N, 2, side, side) float32, higher where a generator's smooth face would be."""
    nll, entropy = (np.asarray(dataset.surprise[:, :, k], np.float32) for k in range(2))
    times = np.ones((1, 1, side // nll.shape[2], side // nll.shape[3]), np.float32)
    pixels, made = (np.asarray(one, np.float32) for one in (dataset.pixels, dataset.made))
    residual = pooled(np.abs(pixels - made).mean(-1), side)
    close = dataset.pixels if dataset.close is None else dataset.close
    detail = np.stack([[np.abs(cv2.Laplacian(_luma(one), cv2.CV_32F)) for one in pair] for pair in close])
    coarse = np.abs(pixels - np.stack([[cv2.GaussianBlur(one, (0, 0), 1.5) for one in pair] for pair in pixels]))
    return {
        "surprise over expectation": np.kron(nll - entropy, times),
        "surprise": np.kron(nll, times),
        "less expected": np.kron(entropy, times),
        "reconstructed well": -residual,
        "reconstructed well, log": -np.log(residual + 1),
        "blur (fine)": -pooled(detail, side),
        "blur (fine), log": -np.log(pooled(detail, side) + 1),
        "blur (coarse), log": -np.log(pooled(coarse.mean(-1), side) + 0.5),
    }


def pooled(values: np.ndarray, side: int) -> np.ndarray:
    """(N, 2, H, W) -> (N, 2, side, side) means."""
    cells = values.reshape(*values.shape[:2], side, values.shape[2] // side, side, values.shape[3] // side)
    return np.asarray(cells.mean((3, 5)), np.float32)


def _luma(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)


if __name__ == "__main__":
    main()
