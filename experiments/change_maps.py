"""What a place's change from a real face to its fake can tell: simple maps without any label, DFDC's validation pairs.

    python experiments/change_maps.py faces

Of each map the AUROC of edited places: of the fake's map, of its partner's against the same mask, and of the fake's
minus its partner's. All maps on the detective's grid, smoothed by a Gaussian of two places.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from detective_kinds import dfdc_pairs
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from pixelsleuth.detector import find_model
from pixelsleuth.models.folder import load_model
from pixelsleuth.training.lessons import Lessons, lessons_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    options = parser.parse_args()
    model = load_model(find_model(options.model)[0])
    lessons = lessons_of(model, dfdc_pairs(model.vqvae.config.size, scale=2))
    truth = np.asarray(lessons.mask) > 0.5
    masked = truth.any((1, 2))
    flat = truth[masked].ravel()
    print(f"{masked.sum()} pairs with a mask, prevalence {flat.mean():.3f}")
    for name, maps in maps_of(lessons, truth.shape[1]).items():
        smooth = ndimage.gaussian_filter(maps[masked], (0, 0, 2, 2))
        fake, partner, change = smooth[:, 1], smooth[:, 0], smooth[:, 1] - smooth[:, 0]
        figures = (roc_auc_score(flat, one.ravel()) for one in (fake, partner, change))
        print(f"{name:30s} fake {next(figures):.3f}, partner {next(figures):.3f}, change {next(figures):.3f}")


def maps_of(lessons: Lessons, side: int) -> dict[str, np.ndarray]:
    """Name -> (N, 2, side, side) float32, higher where a generator's smooth face would be."""
    nll, entropy = (np.asarray(lessons.surprise[:, :, k], np.float32) for k in range(2))
    times = np.ones((1, 1, side // nll.shape[2], side // nll.shape[3]), np.float32)
    pixels, made = (np.asarray(one, np.float32) for one in (lessons.pixels, lessons.made))
    residual = pooled(np.abs(pixels - made).mean(-1), side)
    close = lessons.pixels if lessons.close is None else lessons.close
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
