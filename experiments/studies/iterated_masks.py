"""Where to restore: codes above lambda_p, codes the detective names, the same named again on what was restored, and the
bound, codes under the true mask. Pixel AP and best DSC of the residual on volumes with masks.

    python experiments/studies/iterated_masks.py MODEL VOLUMES MASKS [--passes 3]

In each further pass the detective looks at the restored slice, names what it still finds, and all named codes are drawn
anew from the codes of the slice itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pixelsleuth.datasets.volume_preparation import find_volumes, mask_of
from pixelsleuth.detector import Detector
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.volumes import EDGES
from pixelsleuth.records import Finding
from pixelsleuth.scoring.maps import smoothed, within
from pixelsleuth.scoring.networks import Encoded, TorchNetworks, signed, torch_of
from pixelsleuth.scoring.restoration import restore
from pixelsleuth.scoring.scorer import Crops
from pixelsleuth.sources.scans.slices import SLICE_BATCH
from pixelsleuth.sources.scans.volumes import read_mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    detector = Detector.load(str(options.model))
    values: dict[str, list[np.ndarray]] = {}
    share: dict[str, list[float]] = {}
    truth, units = [], []
    for path in find_volumes(options.volumes):
        sample = detector.read(path)
        mask = mask_of(path, options.volumes, options.masks)
        if isinstance(sample, Finding) or mask is None:
            continue
        cut, keys = sample.slices, [crop.key for crop in sample.crops]
        lesion, head = cut.cut(read_mask(mask, sample.volume)), within(cut.inside)
        parts: dict[str, list[np.ndarray]] = {}
        for i in range(0, len(keys), SLICE_BATCH):
            batch = slice(i, i + SLICE_BATCH)
            crops = Crops(cut.pixels[batch], keys[batch], inside=cut.inside[batch], position=cut.position[batch])
            found = residuals(torch_of(detector.scorer), crops, lesion[batch], options.passes)
            for name, (residual, named) in found.items():
                parts.setdefault(name, []).append(residual)
                share.setdefault(name, []).append(named)
        for name, some in parts.items():
            values.setdefault(name, []).append(smoothed(np.concatenate(some), "restoration")[head])
        truth.append(lesion[head])
        units.append(path.name)
    weights = metrics.resample_weights(units, None)
    print(f"{len(units)} volumes, prevalence {np.mean(np.concatenate(truth)):.4f}")
    rows = {}
    for name, some in values.items():
        edges = np.unique(np.quantile(np.concatenate(some), EDGES))
        counts = metrics.pixel_counts(some, truth, weights, edges)
        rows[name] = metrics.average_precision(counts)
        dice = metrics.dice(counts)
        best = metrics.interval(dice[:, int(dice[0].argmax())])
        anew = np.mean(share[name])
        print(f"{name:22s} AP {metrics.interval(rows[name])}, best DSC {best}, codes drawn anew {anew:.1%}", flush=True)
    for number in range(2, options.passes + 1):
        gain = metrics.interval(rows[f"named, {number} passes"] - rows["named, 1 passes"])
        print(f"{number} passes minus one: {gain}")


@torch.no_grad()
def residuals(
    networks: TorchNetworks, crops: Crops, lesion: np.ndarray, passes: int
) -> dict[str, tuple[np.ndarray, float]]:
    """Way to choose the codes -> (n, H, W) residual, as the default map takes it, and the share of codes drawn anew."""
    model, kind, settings = networks.model, next(iter(networks.model.priors)), networks.settings
    image, codes, scalars, *_ = networks.encoded(crops)
    masked = model.priors[kind].log_prob(codes, scalars)

    def named(seen: torch.Tensor) -> torch.Tensor:
        usual = None if crops.position is None else networks.usual(seen, crops.position)
        again = Encoded(seen, model.vqvae.encode(seen, scalars), scalars, usual=usual)
        measured, _ = networks.measured(again, set(model.priors))
        return networks.flagged(again, measured, kind)

    def restored(where: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
        made = restore(
            image, codes, model.vqvae, model.priors[kind], crops.keys, restorations=settings.restorations, where=where,
            scalars=scalars,
        )  # fmt: skip
        return signed(image - made.mean, settings.sign).numpy(), made.mean

    cells = F.adaptive_max_pool2d(torch.from_numpy(lesion.astype(np.float32))[:, None], codes.shape[1:])[:, 0] > 0
    ways = {"above lambda_p": masked.nll > settings.lambda_p[kind], "true mask (bound)": cells}
    found = {name: (restored(where)[0], float(where.float().mean())) for name, where in ways.items()}
    where, seen = torch.zeros_like(cells), image
    for number in range(1, passes + 1):
        where = where | named(seen)
        residual, seen = restored(where)
        found[f"named, {number} passes"] = (residual, float(where.float().mean()))
    return found


if __name__ == "__main__":
    main()
