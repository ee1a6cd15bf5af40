"""Where to restore: codes above lambda_p, codes the detective names, the same named again on what was restored, and the
bound, codes under the true mask. Pixel AP and best DSC of the residual on volumes with masks.

    python experiments/iterated_masks.py MODEL VOLUMES MASKS [--passes 3]

In each further pass the detective looks at the restored slice, names what it still finds, and all named codes are drawn
anew from the codes of the slice itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pixelsleuth.detector import Detector
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.volumes import EDGES
from pixelsleuth.records import Finding
from pixelsleuth.scoring.examine import judging_surprise, place_map
from pixelsleuth.scoring.scans import BATCH, SliceExaminer, smoothed, within
from pixelsleuth.sources.scans import find_volumes, mask_of
from pixelsleuth.sources.volumes import key_of, read_mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    scanner = Detector.load(str(options.model)).scanner
    assert scanner is not None
    values: dict[str, list[np.ndarray]] = {}
    share: dict[str, list[float]] = {}
    truth, units = [], []
    for path in find_volumes(options.volumes):
        scan = scanner.read(path)
        mask = mask_of(path, options.volumes, options.masks)
        if isinstance(scan, Finding) or mask is None:
            continue
        lesion, head = scan.slices.cut(read_mask(mask, scan.volume)), within(scan.slices.inside)
        keys = [key_of(scan.volume.sha256, int(k)) for k in scan.slices.index]
        parts: dict[str, list[np.ndarray]] = {}
        for i in range(0, len(keys), BATCH):
            batch = slice(i, i + BATCH)
            found = residuals(
                scanner.examiner, scan.slices.pixels[batch], scan.slices.position[batch], keys[batch], lesion[batch],
                options.passes,
            )  # fmt: skip
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
    examiner: SliceExaminer, pixels: np.ndarray, position: np.ndarray, keys: list[str], lesion: np.ndarray, passes: int
) -> dict[str, tuple[np.ndarray, float]]:
    """Way to choose the codes -> (n, H, W) residual, as the default map takes it, and the share of codes drawn anew."""
    model, kind = examiner.model, next(iter(examiner.model.priors))
    size = (pixels.shape[1], pixels.shape[2])
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
    scalars = torch.from_numpy(position.astype(np.float32))[:, None]
    codes = model.encode(image, scalars)
    masked = model.surprise(kind, codes, scalars)

    def named(seen: torch.Tensor) -> torch.Tensor:
        again = model.encode(seen, scalars)
        judged = judging_surprise(model, seen, again, scalars)
        places, _ = examiner.altered(seen, model.decode(again, scalars), judged, position)
        return examiner.named(place_map(places, size), masked, codes)

    def restored(where: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
        residual, mean = examiner._restored(image, codes, where, scalars, keys, kind)
        return residual.numpy(), mean

    cells = F.adaptive_max_pool2d(torch.from_numpy(lesion.astype(np.float32))[:, None], codes.shape[1:])[:, 0] > 0
    ways = {"above lambda_p": masked.nll > examiner.settings.lambda_p[kind], "true mask (bound)": cells}
    found = {name: (restored(where)[0], float(where.float().mean())) for name, where in ways.items()}
    where, seen = torch.zeros_like(cells), image
    for number in range(1, passes + 1):
        where = where | named(seen)
        residual, seen = restored(where)
        found[f"named, {number} passes"] = (residual, float(where.float().mean()))
    return found


if __name__ == "__main__":
    main()
