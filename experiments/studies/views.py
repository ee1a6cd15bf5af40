"""On which views of a face should the detective's score rest, and at what weight beside the codes?

    python experiments/studies/views.py [--count 80] [--pairs 250] [--calibrate 200]

The bundled `faces` today sums, each adjusted for complexity, the detective's logit of the square and the largest logit
of nine windows seen from near, where the face is large. Tried instead, without adjustment: the mean logit of the square
as it is, mirrored, and its middle 85% enlarged. Each is summed with the codes' score and levelled, the levelling fitted
on calibration pictures, as many of each source (each levelled by a fit on the others). AUROC is on validation pictures:
CIPLAB's portraits, DFDC's swaps, edits of DFDC's faces, of which copy-move and the patches were never taught, and edits
as people make them (away.py) of photographs of sources left out, large faces and small. Alarms are counted on sources
left out. Intervals are 95%, differences to today's paired. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.studies import away
from pixelsleuth.detector import Detector
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.edited import PATCHES, face_photos, write_local_edits
from pixelsleuth.files import write_text
from pixelsleuth.models.configuration import digest_of, find_model, load_config
from pixelsleuth.models.detective import DeepDetective
from pixelsleuth.scoring.levelling import cross_levelled
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.scoring.scorer import PLAIN, Scores
from pixelsleuth.scoring.settings import (
    BOTH_TRACKS,
    COMBINED,
    DETECTIVE,
    DETECTIVE_NEAR,
    DETECTIVE_VIEWS,
    ScoreSettings,
)
from pixelsleuth.sources.faces import NEAR_SIDE
from pixelsleuth.sources.images import find_images, jpeg_round_trip
from pixelsleuth.sources.samples import Sample

SHARED = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared")) / "data"
BATCH = 32
KINDS = ("swap_matched", "copy_move", *PATCHES)
#: Of these the detective was never taught.
NEVER_TAUGHT = ("copy_move", *PATCHES)
CALIBRATION = (
    "faces_dfdc/calib", "faces_utk/calib", "faces_world/calib/real/fairface",
    "faces_world/calib/real/hard_stylegan2_unsplash", "faces_world/calib/real/lfw_gray",
)  # fmt: skip
LEFT_OUT = tuple(f"faces_world/val/real/{name}" for name in ("caltech1999", "openforensics256", "small_mix"))
RATES = (0.01, 0.05, 0.1)
#: Share of the square's side that is left when it is looked at closer.
CLOSER = 0.85
VIEWS = ("plain", "mirrored", "closer")
TODAY, NOT_NEAR = "today", "today, nothing from near"
#: Today's sum, the square's logit in it replaced by the mean of all three views, less the same for complexity.
ALL_ADJUSTED = "today, all three views"
#: Name -> views, and the weight of the codes' score beside the mean of their logits.
WAYS: dict[str, tuple[tuple[str, ...], float]] = {
    "plain": (("plain",), 0.6),
    "plain, mirrored": (("plain", "mirrored"), 0.6),
    "mirrored, closer": (("mirrored", "closer"), 0.6),
    **{f"all three, codes {weight:g}": (VIEWS, weight) for weight in (0.0, 0.3, 0.6, 1.0, 1.5)},
}


class Measured:
    """n pictures with a face: `names`, `scores` of each way (n,) before levelling, `looks` (n, F)."""

    def __init__(self, names: list[str], scores: dict[str, np.ndarray], looks: np.ndarray) -> None:
        self.names, self.scores, self.looks = names, scores, looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=80, help="faces that are edited in each way")
    parser.add_argument("--pairs", type=int, default=250, help="of DFDC's validation swaps")
    parser.add_argument("--photographs", type=int, default=40, help="of sources left out, that are edited in every way")
    parser.add_argument("--calibrate", type=int, default=200, help="calibration pictures of each source")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "results/studies/views.json")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    folder = find_model("faces")[0]
    detector = Detector.load("faces")

    def taken(*folders: str, most: int | None = None) -> Measured:
        return measured(detector, [path for name in folders for path in list(find_images(SHARED / name))[:most]])

    def edited(photos: list[away.Photo]) -> tuple[Measured, Measured]:
        """The photographs as JPEG 90, and all that is made of each."""
        plain = [jpeg_round_trip(pixels, 90) for pixels, _ in photos]
        made = []
        for number, kind in enumerate(away.EDITS):
            for i, photo in enumerate(photos):
                donor = photos[(i + 1) % len(photos)]
                changed = away.edit(kind, photo, donor, np.random.default_rng((i, number)))
                made.append(jpeg_round_trip(changed, 90))
        names = [str(i) for i in range(len(photos))]
        return measured(detector, plain, names), measured(detector, made, names * len(away.EDITS))

    ciplab = [taken(f"faces_ciplab/val/{kind}") for kind in ("real", "fake")]
    dfdc = [taken(f"faces_dfdc/val/{kind}", most=options.pairs) for kind in ("real", "fake")]
    sets = {"ciplab": (ciplab[0], ciplab[1]), "dfdc": (dfdc[0], dfdc[1])}
    for level in ("easy", "mid", "hard"):
        sets[level] = (ciplab[0], only(ciplab[1], level))
    with TemporaryDirectory() as made:
        sources = face_photos(SHARED / "faces_dfdc/val/real", options.count)
        for kind in KINDS:
            write_local_edits(sources, kind, Path(made) / kind)
            normal, altered = (list(find_images(Path(made) / kind / part)) for part in ("normal", "anomalous"))
            sets[kind] = (measured(detector, normal), measured(detector, altered))
    photos = away.photographs(detector, options.photographs)
    for name, large in (("edits_large", True), ("edits_small", False)):
        sets[name] = edited([one for one in photos if (one[1].box.width >= NEAR_SIDE) == large])
    left_out = taken(*LEFT_OUT)
    tree: dict[str, Any] = {
        "question": "On which views of a face should the detective's score rest?",
        "model_sha256": digest_of(folder, load_config(folder)),
        "ways": compared(sets, left_out, taken(*CALIBRATION, most=options.calibrate)),
    }
    write_text(options.out, json.dumps(tree, indent=1) + "\n")
    for name, row in tree["ways"].items():
        print(name, json.dumps(row))


def only(found: Measured, level: str) -> Measured:
    """The portraits of one level of difficulty, which their names begin with."""
    here = np.array([name.startswith(level) for name in found.names])
    kept = {name: values[here] for name, values in found.scores.items()}
    return Measured([name for name, yes in zip(found.names, here, strict=True) if yes], kept, found.looks[here])


def measured(detector: Detector, pictures: Sequence[Path | np.ndarray], called: Sequence[str] = ()) -> Measured:
    """Of every picture the largest face; `called` are the names of pictures that are no files."""
    detective, settings = torch_of(detector.scorer).model.detective, detector.scorer.settings
    assert isinstance(detective, DeepDetective)
    names: list[str] = []
    rows: dict[str, list[float]] = {name: [] for name in (TODAY, NOT_NEAR, ALL_ADJUSTED, *WAYS)}
    looks = []
    for start in range(0, len(pictures), BATCH):
        read = [detector.read(one) for one in pictures[start : start + BATCH]]
        there = [number for number, one in enumerate(read) if isinstance(one, Sample)]
        samples = [one for one in read if isinstance(one, Sample)]
        if not samples:
            continue
        names += [called[start + n] if called else Path(samples[i].path).name for i, n in enumerate(there)]
        close = np.stack([one.main.views.close for one in samples if one.main.views.close is not None])
        logits = logits_of(detective, torch.from_numpy(close).permute(0, 3, 1, 2).float().div(255))
        for number, found in enumerate(detector.score(samples, PLAIN)):
            assert found.appearance is not None
            looks.append(found.appearance[0])
            rows[TODAY].append(float(found.scores[BOTH_TRACKS][0]))
            codes = float(found.scores[COMBINED][0])
            rows[NOT_NEAR].append(codes + settings.track_weights[1] * float(found.scores[f"{DETECTIVE}_adjusted"][0]))
            rows[ALL_ADJUSTED].append(codes + settings.track_weights[1] * averaged(settings, found, logits, number))
            for way, (views, weight) in WAYS.items():
                rows[way].append(weight * codes + float(np.mean([logits[view][number] for view in views])))
    return Measured(names, {name: np.array(values) for name, values in rows.items()}, np.stack(looks))


def averaged(settings: ScoreSettings, found: Scores, logits: dict[str, np.ndarray], number: int) -> float:
    """The detective's track as it is summed today, but for the mean of three views in place of the plain one."""
    moved = float(np.mean([logits[view][number] for view in VIEWS]) - logits["plain"][number])
    moved /= settings.adjusted[DETECTIVE].spread
    near = (
        np.isfinite(found.scores[DETECTIVE_NEAR][0]) and found.scores[DETECTIVE_NEAR][0] != found.scores[DETECTIVE][0]
    )
    # Both views are brought to one spread; without a view from near the other stands alone.
    return float(found.scores[DETECTIVE_VIEWS][0]) + moved / (settings.views_spread if near else 1.0)


@torch.no_grad()
def logits_of(detective: DeepDetective, square: Tensor) -> dict[str, np.ndarray]:
    """The detective's logits (B,) of each view of (B, 3, S, S) float32 squares in [0, 1]."""
    rim = round(square.shape[2] * (1 - CLOSER) / 2)
    middle = square[:, :, rim:-rim, rim:-rim]
    seen = {
        "plain": square,
        "mirrored": square.flip(3),
        "closer": F.interpolate(middle, square.shape[2:], mode="bilinear", align_corners=False),
    }
    return {
        name: detective.seen(view.contiguous(memory_format=torch.channels_last))[1].numpy()
        for name, view in seen.items()
    }


def compared(sets: dict[str, tuple[Measured, Measured]], left_out: Measured, calibration: Measured) -> dict[str, Any]:
    """AUROC of each way on each set with its difference to today's, and alarms on sources left out."""
    order = np.random.default_rng(0).permutation(len(calibration.names))
    found: dict[str, Any] = {}
    first: dict[str, np.ndarray] = {}
    weights = metrics.resample_weights(left_out.names, None)
    for way in (TODAY, NOT_NEAR, ALL_ADJUSTED, *WAYS):
        level, own = cross_levelled(
            {"original": calibration.scores[way][order]}, {"original": calibration.looks[order]}
        )
        row: dict[str, Any] = {}
        for name, (normal, altered) in sets.items():
            values = np.concatenate([level(one.scores[way], one.looks) for one in (normal, altered)])
            rows = aurocs(values, (normal.names, altered.names))
            row[name] = {"auroc": metrics.interval(rows)}
            if way != TODAY:
                row[name]["difference"] = metrics.interval(rows - first[name])
            first.setdefault(name, rows)
        ascending = np.sort(own["original"])
        places = np.searchsorted(ascending, level(left_out.scores[way], left_out.looks), "left")
        p = (1 + len(ascending) - places) / (len(ascending) + 1)
        row["alarms"] = {f"{rate:g}": metrics.share_with_interval(p <= rate, weights) for rate in RATES}
        row["never_taught"] = round(float(np.mean([row[kind]["auroc"][0] for kind in NEVER_TAUGHT])), 4)
        found[way] = row
    return found


def aurocs(values: np.ndarray, names: Iterable[Sequence[str]]) -> np.ndarray:
    """(R,) of scores of normal pictures, then of altered ones; pictures are drawn within their class."""
    normal, altered = names
    label = np.repeat([0, 1], [len(normal), len(altered)])
    # A file name may stand in both classes.
    units = [f"{kind}/{name}" for kind, part in ((0, normal), (1, altered)) for name in part]
    counts = metrics.image_counts(values, label > 0, metrics.resample_weights(units, label))
    return metrics.auroc(counts)


if __name__ == "__main__":
    main()
