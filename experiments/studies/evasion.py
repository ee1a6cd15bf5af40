"""Can a forgery hide, and can an untouched picture be made to alarm?

    python experiments/studies/evasion.py run --out runs/evasion      # goes on where it was stopped
    python experiments/studies/evasion.py figure results/evasion.json docs/results/evasion.svg

Three sets of validation pictures, as many normal as altered: local edits of DFDC's real faces, CIPLAB's portraits, and
DFDC's swaps. Each treatment is done to all of them, and every row is judged as `pixelsleuth robustness` judges:

- shallow reconstruction (after FakePolisher, Huang et al. 2020): patches rebuilt from few principal components, or
  from few atoms of a learned dictionary, both learned on training faces of UTKFace; non-local means (Buades et al.
  2005);
- a messenger's chain of resize, JPEG, resize, JPEG, mild and strong; a screenshot; a beauty filter over everything;
- the white-box attack of `pixelsleuth.evaluation.attack` on the first `--attacked` of each, which knows the model.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning
from sklearn.feature_extraction.image import extract_patches_2d

from pixelsleuth.datasets.layouts import altered_parts
from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.attack import Attack
from pixelsleuth.evaluation.edited import LOCAL_EDITS, face_photos, write_local_edits
from pixelsleuth.evaluation.robustness import Judged, Pictures, judged
from pixelsleuth.evaluation.samples import read_pairs
from pixelsleuth.evaluation.scored import Scored
from pixelsleuth.files import write_text
from pixelsleuth.sources.images import find_images, jpeg_round_trip, read_picture

DATA = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared")) / "data"
RATES = (0.01, 0.05)
EPS = (1, 2, 4, 8)
#: Side of a patch in pixels; patches are taken at two offsets of half a side, and averaged where they overlap.
PATCH = 8
COMPONENTS, ATOMS, NONZERO = 24, 192, 8
Change = Callable[[np.ndarray], np.ndarray]


# --- the sets ---


def sets(count: int, out: Path) -> dict[str, Pictures]:
    """Name -> pictures, `count` normal and `count` altered."""
    made = {}
    sources = face_photos(DATA / "faces_dfdc/val/real", count)
    third = -(-len(sources) // 3)
    parts = []
    for number, kind in enumerate(LOCAL_EDITS[:3]):
        folder = out / "sets" / kind
        some = sources[number * third : (number + 1) * third]
        if len(some) > 1:
            write_local_edits(some, kind, folder)
            parts.append(Pictures.of(folder / "normal", folder / "anomalous", folder / "pairs.csv"))
    made["local"] = Pictures(
        [path for part in parts for path in part.paths],
        np.concatenate([part.anomalous for part in parts]),
        [unit for part in parts for unit in part.units],
    )
    ciplab = DATA / "faces_ciplab/val"
    level = {}
    for path in find_images(ciplab / "fake"):
        level.setdefault(path.name.split("_")[0], []).append(path)
    fake = [path for some in level.values() for path in some[: count // len(level)]]
    real = list(find_images(ciplab / "real"))[: len(fake)]
    assert all(altered_parts(path.stem) for path in fake)
    made["ciplab"] = Pictures(real + fake, np.repeat([False, True], len(fake)), [str(p) for p in real + fake])
    dfdc = DATA / "faces_dfdc/val"
    pairs = list(read_pairs(dfdc / "pairs.csv", dfdc / "real", dfdc / "fake").real_of.items())[:count]
    paths = [real for _, real in pairs] + [fake for fake, _ in pairs]
    made["dfdc"] = Pictures(paths, np.repeat([False, True], len(pairs)), [str(real) for _, real in pairs] * 2)
    return made


# --- the treatments ---


class Patches:
    """Rebuilds a picture from its patches, each as `rebuild` makes it: (n, PATCH * PATCH * 3) float in [0, 1]."""

    def __init__(self, rebuild: Callable[[np.ndarray], np.ndarray]) -> None:
        self.rebuild = rebuild

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        half = PATCH // 2
        total = np.zeros(pixels.shape, np.float64)
        for offset in (0, half):
            more = [(offset, (-(size + offset)) % PATCH) for size in pixels.shape[:2]]
            wide = np.pad(pixels / 255.0, (*more, (0, 0)), mode="reflect")
            rows, columns = wide.shape[0] // PATCH, wide.shape[1] // PATCH
            tiles = wide.reshape(rows, PATCH, columns, PATCH, 3).swapaxes(1, 2)
            made = self.rebuild(tiles.reshape(rows * columns, -1)).reshape(tiles.shape).swapaxes(1, 2)
            total += made.reshape(wide.shape)[offset : offset + pixels.shape[0], offset : offset + pixels.shape[1]]
        return np.clip(total / 2 * 255, 0, 255).round().astype(np.uint8)


def learned() -> dict[str, Change]:
    """Both shallow reconstructions, learned on training faces."""
    paths = list(find_images(DATA / "faces_utk/train/real"))[:60]
    found = [
        extract_patches_2d(read_picture(path).pixels, (PATCH, PATCH), max_patches=200, random_state=number)
        for number, path in enumerate(paths)
    ]
    patches = np.concatenate(found).reshape(-1, PATCH * PATCH * 3) / 255.0
    middle = patches.mean(0)
    components = PCA(COMPONENTS, random_state=0).fit(patches)
    atoms = MiniBatchDictionaryLearning(
        ATOMS, max_iter=20, batch_size=512, random_state=0, transform_algorithm="omp", transform_n_nonzero_coefs=NONZERO
    ).fit(patches - middle)

    def sparse(tiles: np.ndarray) -> np.ndarray:
        return atoms.transform(tiles - middle) @ atoms.components_ + middle

    return {
        f"{COMPONENTS} principal components": Patches(lambda t: components.inverse_transform(components.transform(t))),
        f"dictionary, {NONZERO} of {ATOMS} atoms": Patches(sparse),
    }


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=method)


def chain(pixels: np.ndarray, shares: tuple[float, float], qualities: tuple[int, int]) -> np.ndarray:
    for share, quality in zip(shares, qualities, strict=True):
        pixels = jpeg_round_trip(scaled(pixels, share), quality)
    return pixels


def screenshot(pixels: np.ndarray) -> np.ndarray:
    """Drawn a fifth larger by a viewer on its own grey, between its bars, and sent as a JPEG."""
    shown = cv2.resize(pixels, None, fx=1.2, fy=1.2, interpolation=cv2.INTER_LINEAR)
    height, width = shown.shape[:2]
    page = np.full((height + height // 4, width + width // 3, 3), 32, np.uint8)
    page[: height // 12] = 236
    y, x = height // 8, width // 6
    page[y : y + height, x : x + width] = shown
    return jpeg_round_trip(page, 85)


def beautified(pixels: np.ndarray) -> np.ndarray:
    """As a camera's beauty mode: smoothed where it is smooth already, brighter, warmer."""
    side = max(pixels.shape[:2])
    smooth = cv2.bilateralFilter(pixels, -1, 30, side / 120).astype(np.float64)
    mixed = 0.7 * smooth + 0.3 * pixels
    return np.clip(((mixed / 255) ** 0.88) * (262, 257, 250), 0, 255).astype(np.uint8)


def treatments() -> dict[str, Change]:
    return {
        "untouched": lambda pixels: pixels,
        **learned(),
        "non-local means": lambda p: cv2.fastNlMeansDenoisingColored(p, None, 4, 4, 7, 15),
        "messenger, mild": partial(chain, shares=(0.9, 0.9), qualities=(85, 80)),
        "messenger, strong": partial(chain, shares=(0.75, 0.8), qualities=(70, 55)),
        "screenshot": screenshot,
        "beauty filter": beautified,
    }


# --- measuring ---

Raw = dict[str, Any]


def run(options: argparse.Namespace) -> None:
    detector = Detector.load(options.model)
    file = options.out / "raw.json"
    settings = {"model_sha256": detector.model.sha256, "count": options.count, "attacked": options.attacked}
    settings |= {"steps": options.steps}
    raw: Raw = {"settings": settings, "sets": {}}
    if file.is_file() and (before := json.loads(file.read_text(encoding="utf-8")))["settings"] == settings:
        raw = before
    changes: dict[str, Change] | None = None
    chosen = sets(options.count, options.out)
    for name, pictures in chosen.items():
        rows = raw["sets"].setdefault(name, {"normal": [str(p) for p in pictures.paths], "rows": {}})["rows"]
        changes = changes or treatments()
        for kind, change in changes.items():
            if kind not in rows:
                found = judged(detector, pictures, change, every_score=False)
                rows[kind] = {
                    "score": found.table.scores[detector.calibration.score].tolist(),
                    "p": found.p_values.tolist(),
                }
                rows[kind]["no_face"] = found.no_face
                write_text(file, json.dumps(raw))
                print(name, kind, flush=True)
        attacked = raw["sets"][name].setdefault("attacked", {})
        for i in first_of_each(pictures, options.attacked):
            if str(i) not in attacked:
                attacked[str(i)] = under_attack(detector, pictures, i, options.steps)
                write_text(file, json.dumps(raw))
                print(name, i, attacked[str(i)], flush=True)
    result = summary(raw, chosen, detector)
    write_text(options.out / "evasion.json", json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def first_of_each(pictures: Pictures, count: int) -> list[int]:
    """The first pictures of each label, evenly spaced."""
    rows = [np.flatnonzero(pictures.anomalous == bad) for bad in (False, True)]
    return [int(r[k]) for r in rows for k in np.linspace(0, len(r) - 1, min(count, len(r))).astype(int)]


def under_attack(detector: Detector, pictures: Pictures, number: int, steps: int) -> list[list[float]]:
    """[score, p] of a picture at each of `EPS`: a normal one's score shall rise, an altered one's fall. Empty without a
    face."""
    pixels = read_picture(pictures.paths[number]).pixels
    try:
        made = Attack(detector).attacked(pixels, not pictures.anomalous[number], EPS, steps)
    except InputError:
        return []
    rate = 1 / (detector.calibration.count + 1)
    found = detector.detect_many(made, max_false_alarm=rate, heatmap=False, whole_without_face=True)
    return [[float(f.score or 0), float(f.p_value or 0)] for f in found]


def summary(raw: Raw, chosen: dict[str, Pictures], detector: Detector) -> Raw:
    result: Raw = {**raw["settings"], "eps": list(EPS), "sets": {}}
    for name, pictures in chosen.items():
        part = raw["sets"][name]
        tables = {kind: _judged(pictures, row) for kind, row in part["rows"].items()}
        weights = tables["untouched"].table.weights()
        rows = {}
        for kind, table in tables.items():
            shares = table.summary()
            mixed = np.where(
                pictures.anomalous, table.table.scores["default"], tables["untouched"].table.scores["default"]
            )
            rows[kind] = {
                "found": {f"{rate:g}": shares["found"][f"{rate:g}"] for rate in RATES},
                "false_alarm": {f"{rate:g}": shares["false_alarm"][f"{rate:g}"] for rate in RATES},
                "auroc": shares["scores"]["default"]["auroc"],
                "auroc_against_untouched": metrics.interval(
                    metrics.auroc(metrics.image_counts(mixed, pictures.anomalous, weights))
                ),
                "no_face": part["rows"][kind]["no_face"],
            }
        result["sets"][name] = {
            "n_normal": int((~pictures.anomalous).sum()), "n_anomalous": int(pictures.anomalous.sum()), "rows": rows,
            "attack": _attack_summary(part["attacked"], pictures, tables["untouched"].p_values),
        }  # fmt: skip
    return result


def _judged(pictures: Pictures, row: Raw) -> Judged:
    table = Scored(
        [str(p) for p in pictures.paths], pictures.anomalous, pictures.units, {"default": np.array(row["score"])}
    )
    return Judged(table, np.array(row["p"]), row["no_face"])


def _attack_summary(attacked: dict[str, Any], pictures: Pictures, before: np.ndarray) -> Raw:
    """Shares at or below each rate: of forgeries that try to hide, and of normal pictures that are made to alarm."""
    made: Raw = {}
    for key, bad in (("found", True), ("false_alarm", False)):
        numbers = [int(i) for i, rows in attacked.items() if rows and bool(pictures.anomalous[int(i)]) == bad]
        p = np.array([[before[i], *(p for _, p in attacked[str(i)])] for i in numbers])
        weights = metrics.resample_weights([str(i) for i in numbers], None)
        made[f"n_{key}"] = len(numbers)
        made[key] = {
            f"{rate:g}": [metrics.share_with_interval(p[:, k] <= rate, weights) for k in range(len(EPS) + 1)]
            for rate in RATES
        }
    return made


def figure(options: argparse.Namespace) -> None:
    """What is found, and falsely called, against eps; of each set."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "pixelsleuth"
    result = json.loads(options.results.read_text(encoding="utf-8"))
    names = {"local": "local edits", "ciplab": "CIPLAB", "dfdc": "DFDC swaps"}
    drawn, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    titles = {"found": "attacked forgeries still found", "false_alarm": "attacked untouched pictures called"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for name, one in result["sets"].items():
            shares = np.array(one["attack"][key]["0.05"])
            places = np.arange(len(shares))
            axis.fill_between(places, shares[:, 1], shares[:, 2], alpha=0.12)
            axis.plot(places, shares[:, 0], marker="o", label=names[name])
        axis.set_xticks(range(len(result["eps"]) + 1), ["0", *map(str, result["eps"])])
        axis.set_xlabel("eps, grey levels of 255")
        axis.set_title(title, fontsize=10)
        axis.axhline(0.05, color="grey", lw=0.8, ls=":")
        axis.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("share at p <= .05")
    axes[0].legend(frameon=False, fontsize=9)
    drawn.tight_layout()
    drawn.savefig(options.picture, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(required=True)
    measuring = what.add_parser("run")
    measuring.add_argument("--model", default="faces")
    measuring.add_argument("--count", type=int, default=60, help="normal, and altered, pictures of a set")
    measuring.add_argument("--attacked", type=int, default=12, help="of them, under the white-box attack")
    measuring.add_argument("--steps", type=int, default=5, help="of the attack at each eps")
    measuring.add_argument("--out", type=Path, default=Path("runs/evasion"))
    measuring.set_defaults(call=run)
    drawing = what.add_parser("figure")
    drawing.add_argument("results", type=Path)
    drawing.add_argument("picture", type=Path)
    drawing.set_defaults(call=figure)
    options = parser.parse_args()
    options.call(options)


if __name__ == "__main__":
    main()
