"""Compare detectives taught by experiments/tools/teach_detectives.py: what sources, backbone, shapes and camera bring.

    python experiments/studies/compare_detectives.py TAUGHT TRAINING_STORE HELD_OUT_STORE --out detectives.json

Both stores come from experiments/tools/train_faces.sh. Only the detective's own view of the whole square is looked at,
its logit as it is: no codes, no view from near, no adjustment, so that nothing but the teaching differs. Thresholds are
quantiles of the calibration pictures, at most 500 a source. Prints two tables and with `--out` writes their figures,
each with its 95% interval: false alarms on sources that none was taught or calibrated on, and AUROC on CIPLAB's and
DFDC's validation pictures; and for each student that was taught without a source, false alarms on that source,
calibrated on the others. What the file says of detectives that are not in TAUGHT stays.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from teach_detectives import LONGER, MAIN, ORIGINS, STUDENTS, Student

from pixelsleuth.datasets.store import Store
from pixelsleuth.files import write_text
from pixelsleuth.models.configuration import DetectiveConfig
from pixelsleuth.models.detective import DeepDetective
from pixelsleuth.training.data import to_float

RATES = (0.01, 0.05, 0.1)
LEVELS = ("easy", "mid", "hard")
MAX_IMAGES = 500
REPEATS = 1000
#: [value, low, high]
Interval = list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("taught", type=Path)
    parser.add_argument("training", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures of both tables")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with Store(options.training) as training, Store(options.held_out) as held_out:
        print("| detective | left out: .01, .05, .10 | CIPLAB easy, mid, hard | all | DFDC |\n|---|---|---|---|---|")
        figures: dict[str, list[dict[str, Any]]] = {"taught": [], "without": []}
        for student in (LONGER, *MAIN, *STUDENTS):
            path = options.taught / f"{student.name}.safetensors"
            if path.exists() and not student.without:
                row = _row(student, _network(path, student), held_out)
                figures["taught"].append(row)
                levels = ", ".join(_shown(row["ciplab"][level]) for level in LEVELS)
                cells = [row["name"], _shown_alarms(row), levels, _shown(row["ciplab"]["all"]), _shown(row["dfdc"])]
                print("| " + " | ".join(cells) + " |", flush=True)
        print("\n| taught without | of it below .01, .05, .10 | pictures |\n|---|---|---|")
        for name, sources in ORIGINS.items():
            student = next(s for s in STUDENTS if s.without == sources)
            path = options.taught / f"{student.name}.safetensors"
            if path.exists():
                row = _left_out(name, sources, _network(path, student), student.size, training, held_out)
                figures["without"].append(row)
                print(f"| {name} | {_shown_alarms(row)} | {row['n']} |", flush=True)
    if options.out:
        write_text(options.out, json.dumps(_with_earlier(figures, options.out), indent=1) + "\n")


def _with_earlier(figures: dict[str, list[dict[str, Any]]], path: Path) -> dict[str, list[dict[str, Any]]]:
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    measured = {key: {row["name"] for row in rows} for key, rows in figures.items()}
    return {
        key: rows + [row for row in earlier.get(key, []) if row["name"] not in measured[key]]
        for key, rows in figures.items()
    }


def _network(path: Path, student: Student) -> DeepDetective:
    network = DeepDetective(DetectiveConfig(kind="deep", size=student.size))
    network.load_state_dict(load_file(path))
    return network.float().eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def _logits(network: DeepDetective, store: Store, rows: np.ndarray, size: int) -> np.ndarray:
    parts = []
    for start in range(0, len(rows), 16):
        image = to_float(torch.from_numpy(store.pixels(rows[start : start + 16], size)))
        parts.append(network(image.contiguous(memory_format=torch.channels_last))[1].numpy())
    return np.concatenate(parts)


def _evened(store: Store, rows: np.ndarray) -> np.ndarray:
    """At most `MAX_IMAGES` of each source, those with the lowest SHA-256."""
    sources = np.array(store.sources(rows))
    kept = [
        rows[sources == s][np.argsort(store.table["sha256"][rows[sources == s]])][:MAX_IMAGES] for s in set(sources)
    ]
    return np.sort(np.concatenate(kept))


def _row(student: Student, network: DeepDetective, store: Store) -> dict[str, Any]:
    calibration = np.sort(_logits(network, store, _evened(store, store.rows("calib")), student.size))
    rows = store.rows("val", normal_only=False)
    logit, source = _logits(network, store, rows, student.size), np.array(store.sources(rows))
    fake, level = store.table["label"][rows] == "anomalous", store.table["level"][rows]
    strange = ~fake & (source != "faces_dfdc")
    ciplab, dfdc = source == "faces_ciplab", source == "faces_dfdc"
    by_level = {name: _auroc(logit, fake, ciplab & (~fake | (level == name))) for name in LEVELS}
    return {
        "name": student.name,
        "alarms": _alarms(logit[strange], calibration),
        "ciplab": by_level | {"all": _auroc(logit, fake, ciplab)},
        "dfdc": _auroc(logit, fake, dfdc),
    }


def _left_out(
    name: str, sources: tuple[str, ...], network: DeepDetective, size: int, training: Store, held_out: Store
) -> dict[str, Any]:
    """Pictures of the source that no detective saw where there are some, else those the others were taught with."""
    calibration = _evened(held_out, held_out.rows("calib"))
    calibration = calibration[~np.isin(held_out.sources(calibration), sources)]
    unseen = held_out.rows("val", "test")
    unseen = unseen[np.isin(held_out.sources(unseen), sources)]
    store = held_out if len(unseen) else training
    if not len(unseen):
        unseen = training.rows("train")
        unseen = unseen[np.isin(training.sources(unseen), sources)]
    unseen = np.sort(np.random.default_rng(0).choice(unseen, min(MAX_IMAGES, len(unseen)), replace=False))
    ranked = np.sort(_logits(network, held_out, calibration, size))
    return {"name": name, "alarms": _alarms(_logits(network, store, unseen, size), ranked), "n": len(unseen)}


def _alarms(logit: np.ndarray, calibration: np.ndarray) -> dict[str, Interval]:
    p = (1 + len(calibration) - np.searchsorted(calibration, logit, "left")) / (len(calibration) + 1)
    return {f"{rate:g}": _interval(p <= rate) for rate in RATES}


def _interval(values: np.ndarray) -> Interval:
    again = np.random.default_rng(0).choice(values, (REPEATS, len(values))).mean(1)
    return _rounded(values.mean(), again)


def _auroc(logit: np.ndarray, fake: np.ndarray, which: np.ndarray) -> Interval:
    logit, fake = logit[which], fake[which]
    generator, found = np.random.default_rng(0), []
    good, bad = logit[~fake], logit[fake]
    for _ in range(REPEATS // 4):
        a, b = generator.choice(good, len(good)), generator.choice(bad, len(bad))
        found.append(roc_auc_score(np.r_[np.zeros(len(a)), np.ones(len(b))], np.r_[a, b]))
    return _rounded(roc_auc_score(fake, logit), np.array(found))


def _rounded(value: float, resampled: np.ndarray) -> Interval:
    return [round(float(v), 4) for v in (value, *np.quantile(resampled, (0.025, 0.975)))]


def _shown(interval: Interval) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval)


def _shown_alarms(row: dict[str, Any]) -> str:
    return ", ".join(_shown(interval) for interval in row["alarms"].values())


if __name__ == "__main__":
    main()
