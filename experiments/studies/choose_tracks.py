"""How the two tracks, codes and detective, are best joined: rules beside each other on validation pictures.

    python experiments/studies/choose_tracks.py MODEL runs/faces.h5

Pairs of DFDC as they are and at equal sharpness, edits by landmarks, and the kinds that `wide` is never taught.
Both scores come in units of their spread on normal training pictures, as `both_tracks` sums them. Labelled: it is what
the rule in `training.fitting` was chosen by. A rule may use nothing but normal pictures beside its one number.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from detective_kinds import LANDMARK_KINDS, dfdc_pairs, edited_by_landmarks

from pixelsleuth.datasets.store import Store
from pixelsleuth.evaluation.metrics import auroc, image_counts, interval, resample_weights
from pixelsleuth.models.checkpoint import load_model
from pixelsleuth.models.configuration import find_model
from pixelsleuth.scoring.measurements import fitted_scores, joined
from pixelsleuth.scoring.networks import TorchNetworks
from pixelsleuth.scoring.scorer import Crops
from pixelsleuth.scoring.settings import COMBINED, DETECTIVE, settings_from_tree
from pixelsleuth.training.forging import Forged, forge

NEVER_TAUGHT = ("copy_move", "removal", "sharpen", "warp")
#: (codes, detective) -> joined; both about 0 with spread 1 on normal pictures.
RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "codes": lambda c, d: c,
    "detective": lambda c, d: d,
    **{f"codes + {w:g} detective": partial(lambda w, c, d: c + w * d, w) for w in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)},
    **{
        f"codes + {w:g} max(detective - {t:g}, 0)": partial(lambda w, t, c, d: c + w * np.maximum(d - t, 0), w, t)
        for w in (1.0, 2.0, 4.0) for t in (0.0, 0.5, 1.0)
    },
    **{f"log-sum-exp at {k:g}": partial(lambda k, c, d: np.logaddexp(k * c, k * d) / k, k) for k in (0.5, 1.0, 2.0)},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("store", type=Path)
    parser.add_argument("--count", type=int, default=120, help="pictures of each kind of edit")
    options = parser.parse_args()
    model = load_model(find_model(options.model)[0])
    settings = settings_from_tree(model.config.scoring)
    networks = TorchNetworks(model, settings)
    scale = model.config.detective.scale if model.config.detective else 1
    size = model.config.vqvae.size
    with Store(options.store) as store:
        rows = store.rows("val")
        rows = rows[np.linspace(0, len(rows) - 1, min(options.count, len(rows))).astype(int)]
        sets = {
            "dfdc": lambda: dfdc_pairs(size, scale),
            "dfdc, equal sharpness": lambda: dfdc_pairs(size, scale, equal_sharpness=True),
            **{k: partial(edited_by_landmarks, size, k, options.count, scale) for k in LANDMARK_KINDS},
            **{k: partial(forge, model, store, rows, (k,), 2, scale) for k in NEVER_TAUGHT},
        }
        found = {name: tracks(networks, make()) for name, make in sets.items()}
    print("AUROC on validation pairs: " + "; ".join(found))
    for rule, join in RULES.items():
        row = []
        for codes, detective in found.values():
            values = join(codes, detective)
            count = len(values) // 2
            weights = resample_weights([str(i % count) for i in range(2 * count)], None)
            row.append(interval(auroc(image_counts(values, np.arange(2 * count) >= count, weights))))
        edits = np.mean([r[0] for r in row[2:]])
        print(f"{rule:34s} edits {edits:.3f}  " + "  ".join(f"{v:.3f} [{lo:.3f}, {hi:.3f}]" for v, lo, hi in row[:2])
              + "  " + " ".join(f"{r[0]:.3f}" for r in row[2:]), flush=True)  # fmt: skip


def tracks(networks: TorchNetworks, forged: Forged) -> tuple[np.ndarray, np.ndarray]:
    """(2 n,) scores of codes and of the detective: n pictures, then their forgeries."""
    parts = []
    for k in range(2):
        for i in range(0, len(forged.pixels), 32):
            close = None if forged.close is None else forged.close[i : i + 32, k]
            parts.append(networks.measure(Crops(forged.pixels[i : i + 32, k], close=close)))
    scores = fitted_scores(joined(parts), networks.settings)
    return scores[COMBINED], scores[f"{DETECTIVE}_adjusted"]


if __name__ == "__main__":
    main()
