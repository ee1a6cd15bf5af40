"""Which scans does a model of scans refuse to judge? Its own healthy ones, the same with anomalies pasted in, the same
with what a scanner may change, and scans that are not prepared like them.

    python experiments/studies/foreign_scans.py brain_t1 DATA OUT

DATA is the folder of the data sets; nothing of it is copied but to OUT, and what is made of it is deleted there again.
Writes OUT/foreign_scans.json and prints a table: of each kind how many are judged, called unsure and refused, with 95%
intervals (Clopper & Pearson 1934), and what differs.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from multiprocessing import get_context
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage, stats

from pixelsleuth.datasets.volume_preparation import find_volumes
from pixelsleuth.detector import Detector, Rule
from pixelsleuth.records import Finding
from pixelsleuth.scoring.scanlooks import MODEL_TRAITS
from pixelsleuth.scoring.scorer import PLAIN
from pixelsleuth.sources.scans.scantraits import scan_traits
from pixelsleuth.sources.scans.volumes import Volume, read_volume
from pixelsleuth.synthesis.lesions import KINDS, SUBTLETIES
from pixelsleuth.synthesis.phantoms import phantom, with_lesion

#: Subjects that each change is made of.
SUBJECTS = 2
Made = tuple[np.ndarray, np.ndarray]
PLAIN_AFFINE = np.eye(4)


def labels(values: np.ndarray, affine: np.ndarray) -> Made:
    """Four labels, as a segmentation has them."""
    inside = values > 0.05 * values.max()
    edges = np.quantile(values[inside], (0.3, 0.7))
    return np.where(inside, 1 + np.digitize(values, edges), 0).astype(float), affine


def with_skull(values: np.ndarray, affine: np.ndarray) -> Made:
    """A bright scalp and a dark skull drawn around the brain, slice by slice."""
    inside = ndimage.binary_fill_holes(values > 0.05 * values.max())
    found = values.copy()
    for k in range(values.shape[2]):
        away = ndimage.distance_transform_edt(~inside[:, :, k])
        found[:, :, k][(away > 0) & (away <= 6)] = 0.15 * values.max()
        found[:, :, k][(away > 6) & (away <= 13)] = 0.95 * values.max()
    return found, affine


def inverted(values: np.ndarray, affine: np.ndarray) -> Made:
    """Bright tissue dark and dark tissue bright, as T2 is to T1; the air stays dark."""
    inside = values > 0.05 * values.max()
    return np.where(inside, values.max() * 1.05 - values, 0), affine


def halved(values: np.ndarray, affine: np.ndarray) -> Made:
    """Voxels twice as large."""
    return ndimage.zoom(values, (0.5, 0.5, 0.5), order=1), affine @ np.diag([2.0, 2.0, 2.0, 1.0])


def biased(values: np.ndarray, affine: np.ndarray) -> Made:
    """A field of one fifth from left to right."""
    return values * np.linspace(0.9, 1.1, values.shape[0])[:, None, None], affine


def noisy(values: np.ndarray, affine: np.ndarray) -> Made:
    grain = np.random.default_rng(0).normal(0, 0.12 * values.max(), values.shape)
    return np.where(values > 0.05 * values.max(), np.clip(values + grain, 1, None), 0), affine


#: What happens to scans of the model's kind and leaves them of its kind: they should be judged.
MILD: dict[str, Callable[[np.ndarray, np.ndarray], Made]] = {
    "three times as bright": lambda v, a: (3 * v, a),
    "gamma 1.15": lambda v, a: (v.max() * (v / v.max()) ** 1.15, a),
    "moved by two voxels": lambda v, a: (np.roll(v, 2, 0), a),
    "a field of 20%": biased,
    "mirrored left to right": lambda v, a: (v[::-1], a),
}
#: What makes them of another kind.
FOREIGN: dict[str, Callable[[np.ndarray, np.ndarray], Made]] = {
    "label map": labels,
    "skull drawn on": with_skull,
    "contrast inverted": inverted,
    "voxels twice as large": halved,
    "turned back to front": lambda v, a: (v[:, ::-1], a),
    "turned upside down": lambda v, a: (v[:, :, ::-1], a),
    "turned by 90 degrees": lambda v, a: (np.rot90(v), a),
    "sagittal taken for axial": lambda v, a: (np.ascontiguousarray(np.moveaxis(v, 0, 2)), a),
    "blurred (sigma 3)": lambda v, a: (ndimage.gaussian_filter(v, (3, 3, 1)), a),
    "strong noise": noisy,
    "noise alone": lambda v, a: (np.random.default_rng(int(v.sum())).normal(100, 20, v.shape), a),
}


def sets(data: Path) -> Iterator[tuple[str, str, list[tuple[np.ndarray, np.ndarray]]]]:
    """(what is expected, name, volumes): `judged` or `refused`."""
    own = [_read(path) for path in sorted(find_volumes(data / "brain_t1_healthy/test"))]
    yield "judged", "its own kind, healthy, test subjects", own
    pasted = []
    for number, (values, affine) in enumerate(own):
        kind, subtlety = KINDS[number % len(KINDS)], SUBTLETIES[number % 2]
        pasted.append((with_lesion(values, kind, subtlety, np.random.default_rng(number))[0], affine))
    yield "judged", "the same, an anomaly pasted in", pasted
    for expected, changes in (("judged", MILD), ("refused", FOREIGN)):
        for name, change in changes.items():
            yield expected, name, [change(*one) for one in own[:SUBJECTS]]
    flair = [_read(path) for path in sorted(find_volumes(data / "brain_lgg_flair/val/flair"))]
    yield "refused", "FLAIR of tumour patients, skull on", flair
    template = Path(str(resources.files("pixelsleuth") / "assets/demo/icbm152_t1.nii.gz"))
    yield "refused", "the ICBM 152 template, an average of many heads", [_read(template)]
    for anatomy in ("brain", "abdomen"):
        made = [phantom(np.random.default_rng((1, seed)), anatomy) for seed in range(SUBJECTS)]
        yield "refused", f"phantom of the {anatomy}", [(values, np.diag([2.0, 2.0, 6.0, 1.0])) for values in made]


def _read(path: Path) -> Made:
    volume: Volume = read_volume(path)
    return volume.values.astype(float), PLAIN_AFFINE


@cache
def loaded(model: str) -> Detector:
    """One a process."""
    return Detector.load(model)


def judged(item: tuple[str, Made]) -> tuple[str, list[str]]:
    """The verdict, and the differences that its reason names. A scan whose file alone is of another kind is refused
    whatever the networks say, so that they need not be asked."""
    model, (values, affine) = item
    detector = loaded(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
        sample = detector.read(path)
    if isinstance(sample, Finding):
        return "unreadable", [sample.reason["code"] if sample.reason else ""]
    usual = detector.calibration.typicality
    assert usual is not None, "expected a model that knows what its scans are like"
    of_file = np.concatenate([scan_traits(sample.volume, sample.slices), np.full(len(MODEL_TRAITS), np.nan)])
    reason = usual.reason(of_file)
    verdict = "not_applicable"
    if reason is None or not usual.far(of_file):
        (found,) = detector.judge([sample], detector.score([sample], PLAIN), Rule(0.1, doubt=False))
        verdict, reason = found.verdict, found.reason
    if reason is None:
        return verdict, []
    told = reason["sentence"].split("is in it: ")[-1].split("; make a model")[0]
    return verdict, [re.sub(r" \(.*", "", part) for part in re.split(r", (?=[a-z])(?![^(]*\))", told)]


def row_of(expected: str, name: str, found: list[tuple[str, list[str]]]) -> dict[str, object]:
    verdicts = Counter(verdict for verdict, _ in found)
    n = len(found)
    told = verdicts["not_applicable"] + verdicts["unsure"]
    interval = stats.binomtest(told, n).proportion_ci()
    return {
        "expected": expected, "name": name, "n": n, "judged": n - told - verdicts["unreadable"],
        "unsure": verdicts["unsure"], "refused": verdicts["not_applicable"],
        "told": [round(told / n, 4), round(interval.low, 4), round(interval.high, 4)],
        "because": [what for what, _ in Counter(w for _, words in found for w in words).most_common(2)],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    detector = loaded(options.model)
    rows = []
    print("| expected | scans | n | judged | unsure | refused | told in all [95%] | because |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with get_context("spawn").Pool(options.workers) as pool:
        for expected, name, volumes in sets(options.data):
            row = row_of(expected, name, pool.map(judged, [(options.model, one) for one in volumes], 1))
            rows.append(row)
            share, low, high = row["told"]  # type: ignore[misc]
            cells = [expected, name, *(row[key] for key in ("n", "judged", "unsure", "refused"))]
            told = f"{share:.0%} [{low:.0%}, {high:.0%}]"
            print("| " + " | ".join(map(str, [*cells, told, ", ".join(row["because"])])) + " |", flush=True)  # type: ignore[arg-type]
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model": detector.name, "model_sha256": detector.model.sha256, "rows": rows}, indent=1)
    (options.out / "foreign_scans.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
