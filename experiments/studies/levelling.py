"""What levelling scores by the look of an image brings, at home and on sources left out (scoring.levelling).

    python experiments/studies/levelling.py --out RUNS

Scores of the calibration images and of validation images of seven sources that no network learned from are taken once
and kept in RUNS. Three of the seven are calibration sources, each left out of the calibration in turn; the other four
are in neither. Printed, and written to RUNS/levelling.json: the share of untouched images at or below each rate with
its 95% bootstrap interval, for scores ranked together as they are (`pooled`) and levelled, and how many fakes are
found. DFDC and UTKFace are sources that the networks learned from. The last column asks whether the networks' own
features tell images that a p-value says little of: the share whose appearance lies farther from its neighbours in
calibration than 99% of calibration images lie from theirs, and the levelled alarms at .05 that would be left.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from pixelsleuth.detector import Detector
from pixelsleuth.files import write_text
from pixelsleuth.scoring.calibration import conformal_p
from pixelsleuth.scoring.levelling import LIMIT, cross_levelled
from pixelsleuth.scoring.scorer import PLAIN, stacked
from pixelsleuth.sources.images import find_images
from pixelsleuth.sources.samples import Sample

DATA = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared")) / "data"
RATES = (0.01, 0.05, 0.10)
#: Most images of one source, as in calibration.
MAX_PER_SOURCE = 500
BATCH = 16
Scored = tuple[np.ndarray, np.ndarray]
Ranks = Callable[[Scored], np.ndarray]
#: Neighbours in calibration whose mean distance says how unlike it an image is.
NEIGHBOURS = 5
#: Share of calibration images that may be called unlike it.
UNLIKE = 0.01


def folders() -> dict[str, Path]:
    """Name of a set -> its folder; `calib/...` calibrate, `left/...` are in no training and no calibration."""
    found = {f"calib/{name}": DATA / name / "calib/real" for name in ("faces_dfdc", "faces_utk")}
    found |= {f"calib/{one.name}": one for one in sorted((DATA / "faces_world/calib/real").iterdir())}
    found |= {f"left/{one.name}": one for one in sorted((DATA / "faces_world/val/real").iterdir())}
    found |= {"left/ciplab": DATA / "faces_ciplab/val/real", "home/faces_dfdc": DATA / "faces_dfdc/val/real"}
    return found | {"fake/faces_dfdc": DATA / "faces_dfdc/val/fake", "fake/ciplab": DATA / "faces_ciplab/val/fake"}


def scored(detector: Detector, folder: Path, kept: Path) -> Scored:
    """Scores before levelling (n,) and appearance (n, F) of the images of a folder, from `kept` where they are."""
    if kept.exists():
        with np.load(kept) as arrays:
            return arrays["score"], arrays["appearance"]
    paths = sorted(find_images(folder))
    picked = [paths[i] for i in np.sort(np.random.default_rng(0).permutation(len(paths))[:MAX_PER_SOURCE])]
    scores, looks = [], []
    for start in range(0, len(picked), BATCH):
        samples = [s for s in map(detector.read, picked[start : start + BATCH]) if isinstance(s, Sample)]
        if samples:
            crops = stacked([s.main.views for s in samples], [s.main.key for s in samples])
            found = detector.scorer.score([crops], PLAIN)
            assert found.appearance is not None, "levelling needs a deep detective"
            scores.append(found.scores[detector.scorer.settings.default])
            looks.append(found.appearance)
    order = np.random.default_rng(1).permutation(sum(map(len, scores)))
    result = np.concatenate(scores)[order], np.concatenate(looks)[order]
    np.savez(kept, score=result[0], appearance=result[1])
    print(f"{kept.stem}: {len(order)} of {len(picked)} images", flush=True)
    return result


def ranks_of(calibration: list[Scored]) -> dict[str, Ranks]:
    """By name, p-values among these calibration images; and `unlike`, whether an image's look lies outside theirs."""
    scores, looks = (np.concatenate(parts) for parts in zip(*calibration, strict=True))
    order = np.random.default_rng(2).permutation(len(scores))
    levelling, levelled = cross_levelled({"original": scores[order]}, {"original": looks[order]})
    plain, level = np.sort(scores), np.sort(levelled["original"])

    def pooled(one: Scored) -> np.ndarray:
        return np.array([conformal_p(plain, float(value)) for value in one[0]])

    def by_look(one: Scored) -> np.ndarray:
        return np.array([conformal_p(level, float(value)) for value in levelling(*one)])

    def standardised(appearance: np.ndarray) -> np.ndarray:
        return np.clip((appearance - levelling.mean) @ levelling.components, -LIMIT, LIMIT)

    own = standardised(looks)
    # Of a calibration image the nearest neighbour is itself.
    limit = float(np.quantile(_distances(own, own, 1), 1 - UNLIKE))

    def unlike(one: Scored) -> np.ndarray:
        return _distances(standardised(one[1]), own, 0) > limit

    return {"pooled": pooled, "levelled": by_look, "unlike": unlike}


def _distances(points: np.ndarray, others: np.ndarray, skipped: int) -> np.ndarray:
    """(n,) mean distance of each of (n, m) points to its nearest neighbours among others."""
    tree = cKDTree(others)
    found = tree.query(points, NEIGHBOURS + skipped)[0][:, skipped:]
    return np.asarray(found.mean(1))


def shares(p: np.ndarray) -> list[list[float]]:
    """Of each rate the share at or below it, and its 95% bootstrap interval."""
    below = np.stack([p <= rate for rate in RATES], 1)
    draws = np.random.default_rng(0).integers(len(p), size=(1000, len(p)))
    low, high = np.quantile(below[draws].mean(1), (0.025, 0.975), axis=0)
    return [[round(float(v), 4) for v in row] for row in zip(below.mean(0), low, high, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="faces")
    parser.add_argument("--out", type=Path, default=Path("runs/levelling"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    detector = Detector.load(options.model)
    sets = {
        name: scored(detector, folder, options.out / f"{name.replace('/', '_')}.npz")
        for name, folder in folders().items()
    }
    calibration = {name: one for name, one in sets.items() if name.startswith("calib/")}
    whole = ranks_of([*calibration.values()])
    rows: dict[str, dict[str, np.ndarray]] = {}
    for name, one in sets.items():
        if not name.startswith("calib/"):
            rows[name] = {kind: rank(one) for kind, rank in whole.items()}
    for name in ("fairface", "hard_stylegan2_unsplash", "lfw_gray"):
        others = ranks_of([one for other, one in calibration.items() if other != f"calib/{name}"])
        rows[f"left/{name}"] = {kind: rank(sets[f"calib/{name}"]) for kind, rank in others.items()}
    left = [row for name, row in rows.items() if name.startswith("left/")]
    rows["left out, together"] = {kind: np.concatenate([row[kind] for row in left]) for kind in whole}
    tree = {
        "model_sha256": detector.model.sha256, "rates": RATES,
        "sets": {
            name: {"images": len(row["pooled"])} | {kind: shares(row[kind]) for kind in ("pooled", "levelled")} | {
                "unlike": round(float(row["unlike"].mean()), 4),
                "left": round(float(((row["levelled"] <= 0.05) & ~row["unlike"]).mean()), 4),
            }
            for name, row in sorted(rows.items())
        },
    }  # fmt: skip
    write_text(options.out / "levelling.json", json.dumps(tree, indent=1) + "\n")
    print(f"{'share at or below':30s} images  {'pooled .01 / .05 / .10':26s} {'levelled':26s} unlike left")
    for name, row in tree["sets"].items():
        told = (" / ".join(f"{share[0]:.3f}" for share in row[kind]) for kind in ("pooled", "levelled"))
        print(
            f"{name:30s} {row['images']:6d}  {'  '.join(f'{one:26s}' for one in told)} "
            f"{row['unlike']:.3f}  {row['left']:.3f}"
        )


if __name__ == "__main__":
    main()
