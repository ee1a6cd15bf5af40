"""How many restorations, drawn how boldly and weighed how: does the restoration map point better at local edits?

    python experiments/studies/restorations.py [--count 60]

Restorations are of the bundled `faces`, by its masked prior; one row is Marimont & Tarroni's own, 15 by PixelSNAIL
given the restored prefix. Validation faces of DFDC, edited in the three ways of `local_edits.py`, saved as JPEG 90.
What is varied, one thing at a time from what the model does:

- S, how many are drawn. The first S of the same draws are taken, so that rows differ by nothing else.
- T, the temperature of drawing: logits are divided by it. 1 is the prior itself; the text draws at 1.
- k, of the weights' softmax k / mean|Y - X_j| (Marimont & Tarroni 2021: 3); 0: all weigh alike.
- lambda_p, above which surprise a code is drawn anew, as a quantile of the surprise over untouched pictures' codes.

AP and AUROC are over pixels of edited pictures, with 95% intervals over faces; differences are paired.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pixelsleuth.detector import Detector
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.edited import LOCAL_EDITS, FacePhoto, face_photos, local_edits
from pixelsleuth.files import write_text
from pixelsleuth.models.checkpoint import Model
from pixelsleuth.models.configuration import digest_of, find_model, load_config
from pixelsleuth.models.masked import MaskedPrior
from pixelsleuth.models.prior import Prior
from pixelsleuth.scoring.networks import REFERENCE_RESTORATIONS, torch_of
from pixelsleuth.scoring.restoration import TEMPERATURE, pooled, restore
from pixelsleuth.scoring.settings import ScoreSettings
from pixelsleuth.sources.faces import cut
from pixelsleuth.sources.images import jpeg_round_trip

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared"))
COUNTS = (1, 2, 4, 8, 16, 30)
TEMPERATURES = (0.5, 1.5, 2.0)
WEIGHINGS = (0.0, 1.0, 10.0)
QUANTILES = (0.9, 0.95, 0.99)
BATCH = 16


@dataclass(frozen=True)
class Way:
    """One way to restore, by the prior of this kind; `above` in nats, None: the model's own lambda_p."""

    count: int
    kind: str = "masked"
    temperature: float = 1.0
    k: float = TEMPERATURE
    above: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="faces that are edited")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "results/studies/restorations.json")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    folder, detector = find_model("faces")[0], Detector.load("faces")
    model, settings = torch_of(detector.scorer).model, detector.scorer.settings
    sources = face_photos(SHARED / "data/faces_dfdc/val/real", options.count)
    untouched, squares, masks, units = edited(sources, model.config.vqvae.size)
    ways = ways_of(settings, surprises(model, untouched))
    weights = metrics.resample_weights(units, None)
    runs: dict[str, Any] = {}
    first: dict[str, np.ndarray] = {}
    for name, way in ways.items():
        found = metrics.map_metrics(mapped(model, settings, squares, way), masks, weights).rows
        first = first or found
        runs[name] = {
            **{figure: metrics.interval(found[figure]) for figure in ("ap", "auroc")},
            "difference": metrics.interval(found["ap"] - first["ap"]),
        }
        print(f"{name}: {json.dumps(runs[name])}", flush=True)
    tree = {
        "question": "How many restorations, drawn how boldly and weighed how?",
        "model_sha256": digest_of(folder, load_config(folder)),
        "faces": len(sources), "images": len(squares), "restorations": settings.restorations, "runs": runs,
    }  # fmt: skip
    write_text(options.out, json.dumps(tree, indent=1) + "\n")


def ways_of(settings: ScoreSettings, surprise: np.ndarray) -> dict[str, Way]:
    """What the model does, first; then one thing changed a row. `surprise` in nats, of untouched pictures' codes."""
    usual = settings.restorations
    ways = {f"S = {usual} (the model's)": Way(usual)}
    ways |= {f"S = {count}": Way(count) for count in COUNTS if count != usual}
    ways |= {f"T = {value:g}": Way(usual, temperature=value) for value in TEMPERATURES}
    ways |= {f"k = {value:g}": Way(usual, k=value) for value in WEIGHINGS}
    for share in QUANTILES:
        ways[f"lambda_p at {share:.0%}"] = Way(usual, above=float(np.quantile(surprise, share)))
    usual = REFERENCE_RESTORATIONS
    return ways | {f"PixelSNAIL, S = {usual}": Way(usual, "pixelsnail")}


def edited(sources: list[FacePhoto], size: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[str]]:
    """Squares of untouched faces (n, size, size, 3), of edited ones (m, size, size, 3) uint8, m masks (size, size) bool
    and the names of the m faces."""
    untouched = np.stack([cut(jpeg_round_trip(one.pixels, 90), one.face.box, size) for one in sources])
    squares, masks, units = [], [], []
    for kind in LOCAL_EDITS[:3]:
        for source, made in zip(sources, local_edits(sources, kind), strict=True):
            drawn = np.repeat((made.mask > 0).astype(np.uint8)[..., None] * 255, 3, 2)
            mask = cut(drawn, source.face.box, size)[..., 0] > 127
            if mask.any():
                squares.append(cut(jpeg_round_trip(made.pixels, 90), source.face.box, size))
                masks.append(mask)
                units.append(source.path.name)
    return untouched, np.stack(squares), masks, units


def batches(squares: np.ndarray) -> Iterator[tuple[Tensor, list[str]]]:
    """(B, C, H, W) float32 in [0, 1], and the keys of their draws."""
    for start in range(0, len(squares), BATCH):
        part = torch.from_numpy(squares[start : start + BATCH]).permute(0, 3, 1, 2).float().div(255)
        yield part.contiguous(memory_format=torch.channels_last), [f"{start + i:064x}" for i in range(len(part))]


@torch.no_grad()
def surprises(model: Model, squares: np.ndarray) -> np.ndarray:
    prior, vqvae = model.priors["masked"], model.vqvae
    return np.concatenate([prior.log_prob(vqvae.encode(x)).nll.flatten().numpy() for x, _ in batches(squares)])


def tempered(prior: MaskedPrior, temperature: float) -> MaskedPrior:
    """A copy of the prior that draws at another temperature: what its last layer gives is divided by it."""
    if temperature == 1:
        return prior
    made = copy.deepcopy(prior)
    last = made.head[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        last.weight /= temperature
        last.bias /= temperature
    return made


@torch.no_grad()
def mapped(model: Model, settings: ScoreSettings, squares: np.ndarray, way: Way) -> list[np.ndarray]:
    """Maps (H, W) float32 of the residual, as the model pools it."""
    prior = model.priors[way.kind]
    flags: dict[str, Any]
    drawing: Prior
    above = settings.lambda_p[way.kind] if way.above is None else way.above
    found = []
    for image, keys in batches(squares):
        codes = model.vqvae.encode(image)
        if isinstance(prior, MaskedPrior):
            # Which codes are unlikely is the prior's own word, at temperature 1.
            drawing, flags = tempered(prior, way.temperature), {"where": prior.log_prob(codes).nll > above}
        else:
            # Each code is judged given the restored prefix.
            drawing, flags = prior, {"above": above}
        restored = restore(
            image, codes, model.vqvae, drawing, keys, restorations=way.count, k=way.k, **flags,
        )  # fmt: skip
        found += list(pooled(restored.residual).numpy())
    return found


if __name__ == "__main__":
    main()
