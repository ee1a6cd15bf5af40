"""How a model does away from home: on photographs of origins that it was neither taught nor calibrated on.

    python experiments/studies/away.py alarms --model faces     # share of untouched pictures below each rate, by source
    python experiments/studies/away.py edits --model faces      # edits as people make them, by kind and face size
    python experiments/studies/away.py benign --model faces     # whole-picture treatment that is no forgery
    python experiments/studies/away.py folds --store STORE.h5      # three sources, each left out of calibration

`benign --before OLD` judges the same photographs by an earlier model too, such as the one bundled before it knew twelve
origins: `git archive 30131d6^ src/pixelsleuth/assets/faces | tar -x -C OLD_FOLDER`.

Sources are `faces_world/val` and the reals of `faces_ciplab/val`. The edits are written apart from those that train,
with shapes from five points alone; each edited picture stands beside its own control, both saved as JPEG 90, and
against the untouched pictures of other people. Intervals are 95% bootstrap over people. Results go to OUT/away_*.json.

`folds` takes the calibration sources that no network learned from: the model is calibrated anew without each, and its
pictures are judged whole, `unsure` ones and all, as of a source that no part of the model knows. STORE.h5 is
`pixelsleuth prepare images DATA/faces_dfdc/calib DATA/faces_utk/calib DATA/faces_world/calib/real/* STORE.h5`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError
from pixelsleuth.evaluation.alarms import false_alarms, share_by_picture
from pixelsleuth.files import write_text
from pixelsleuth.models.configuration import find_model
from pixelsleuth.records import Face
from pixelsleuth.sources.faces import Framing, judged_faces
from pixelsleuth.sources.images import find_images, jpeg_round_trip, read_picture
from pixelsleuth.synthesis.anomalies import FEATURES, feature_ellipse
from pixelsleuth.synthesis.corruptions import webp_round_trip
from pixelsleuth.training.calibrating import calibrate

DATA = Path(os.environ.get("PIXELSLEUTH_SHARED", "../shared")) / "data"
Photo = tuple[np.ndarray, Face]


def sources() -> dict[str, Path]:
    """Name -> folder of untouched pictures that no network and no calibration saw."""
    world = sorted((DATA / "faces_world/val/real").iterdir())
    return {folder.name: folder for folder in world} | {"ciplab": DATA / "faces_ciplab/val/real"}


def alarms(detector: Detector, options: argparse.Namespace) -> dict[str, object]:
    pictures = {name: list(find_images(folder)) for name, folder in sources().items()}
    rows = false_alarms(
        detector, pictures, maps=options.maps, progress=lambda name, row: print(f"{name:20s} {row}", flush=True)
    )
    # What `unsure` costs: it takes altered pictures out of the alarms too.
    altered = {"ciplab": list(find_images(DATA / "faces_ciplab/val/fake"))}
    return rows | {"altered": false_alarms(detector, altered)["ciplab"]}


def folds(detector: Detector, options: argparse.Namespace) -> dict[str, object]:
    rows: dict[str, object] = {}
    for folder in sorted((DATA / "faces_world/calib/real").iterdir()):
        with TemporaryDirectory() as made:
            copy = Path(made) / "model"
            shutil.copytree(find_model(options.model)[0], copy)
            calibration = calibrate(copy, options.store, without=(folder.name,))
            without = Detector.load(copy)
            row = false_alarms(without, {folder.name: list(find_images(folder))})[folder.name]
        rows[folder.name] = row | {"calibrated_on": calibration.about["sources"]}
        print(f"{folder.name:24s} {rows[folder.name]}", flush=True)
    return rows


# --- edits as people make them; not those of pixelsleuth.synthesis.face_edits ---


def ellipse_mask(shape: tuple[int, ...], face: Face, feature: str, grow: float = 1.0) -> np.ndarray:
    (x, y), axes, angle = feature_ellipse(face, feature)
    mask = np.zeros(shape[:2], np.uint8)
    size = (max(2, round(axes[0] * grow)), max(2, round(axes[1] * grow)))
    cv2.ellipse(mask, (round(x), round(y)), size, angle, 0, 360, 255, -1)
    return mask


def face_ellipse(shape: tuple[int, ...], face: Face) -> np.ndarray:
    mask = np.zeros(shape[:2], np.uint8)
    box = face.box
    centre = ((box.x0 + box.x1) // 2, round(box.y0 + 0.55 * box.height))
    cv2.ellipse(mask, centre, (round(0.36 * box.width), round(0.42 * box.height)), box.angle, 0, 360, 255, -1)
    return mask


def feathered(picture: np.ndarray, over: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    alpha = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), max(0.8, sigma))[..., None]
    return np.clip(picture * (1 - alpha) + over * alpha, 0, 255).astype(np.uint8)


def seamless(picture: np.ndarray, over: np.ndarray, mask: np.ndarray) -> np.ndarray:
    inside = mask.copy()
    inside[[0, -1]] = inside[:, [0, -1]] = 0
    if not inside.any():
        return picture
    x, y, w, h = cv2.boundingRect(inside)
    return cv2.seamlessClone(np.ascontiguousarray(over), picture, inside, (x + w // 2, y + h // 2), cv2.NORMAL_CLONE)


def moved_onto(photo: Photo, donor: Photo) -> np.ndarray:
    """The donor's picture, its landmarks on the photo's (OpenCV's own estimate)."""
    ours, theirs = (np.array(face.landmarks, np.float32) for _, face in (photo, donor))
    move, _ = cv2.estimateAffinePartial2D(theirs, ours, method=cv2.LMEDS)
    height, width = photo[0].shape[:2]
    return cv2.warpAffine(donor[0], move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def swelled(picture: np.ndarray, places: list[tuple[float, float]], radius: float, amount: float) -> np.ndarray:
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    fx, fy = x.copy(), y.copy()
    for px, py in places:
        r = np.hypot(x - px, y - py) / radius
        k = np.where(r < 1, 1 - amount * (1 - r) ** 2, 1.0)
        fx, fy = np.where(r < 1, px + (x - px) * k, fx), np.where(r < 1, py + (y - py) * k, fy)
    return cv2.remap(picture, fx.astype(np.float32), fy.astype(np.float32), cv2.INTER_CUBIC)


def slimmed(photo: Photo) -> np.ndarray:
    picture, face = photo
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    span = span_of(face)
    nose, left, right = np.array(face.landmarks[2]), np.array(face.landmarks[3]), np.array(face.landmarks[4])
    fx = x.copy()
    for mouth, sign in ((left, -1), (right, 1)):
        px, py = mouth + sign * np.array([0.55 * span, 0]) + np.array([0, 0.1 * span])
        fall = np.clip(1 - np.hypot(x - px, y - py) / (0.9 * span), 0, 1) ** 2
        fx += sign * fall * 0.14 * span
    assert nose.size == 2
    return cv2.remap(picture, fx, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def span_of(face: Face) -> float:
    left, right = (np.array(p) for p in face.landmarks[:2])
    return max(8.0, float(np.linalg.norm(right - left)))


def edit(kind: str, photo: Photo, donor: Photo, generator: np.random.Generator) -> np.ndarray:  # noqa: C901
    """(H, W, 3) uint8, the photo edited in one of `EDITS`."""
    picture, face = photo
    span = span_of(face)
    if kind == "eyes_enlarged":
        return swelled(picture, [face.landmarks[0], face.landmarks[1]], 0.5 * span, 0.35)
    if kind == "face_slimmed":
        return slimmed(photo)
    if kind == "eye_copied":
        (x, y), (tx, ty) = face.landmarks[0], face.landmarks[1]
        move = np.array([[-1.0, 0, tx + x], [0, 1.0, ty - y]])
        over = cv2.warpAffine(picture, move, picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
        return feathered(picture, over, ellipse_mask(picture.shape, face, "right_eye"), 0.05 * span)
    if kind == "spots_healed":
        mask = np.zeros(picture.shape[:2], np.uint8)
        for _ in range(5):
            side = generator.choice([0, 1])
            middle = (np.array(face.landmarks[side]) + np.array(face.landmarks[3 + side])) / 2
            x, y = middle + generator.normal(0, 0.15, 2) * span
            cv2.circle(mask, (round(x), round(y)), max(2, round(0.07 * span)), 255, -1)
        return cv2.inpaint(picture, mask, 3, cv2.INPAINT_TELEA)
    if kind == "lipstick":
        over = picture.astype(np.float32) * (1.0, 0.6, 0.65) + (25, 0, 5)
        return feathered(picture, over, ellipse_mask(picture.shape, face, "mouth", 0.8), 0.06 * span)
    if kind == "skin_airbrushed":
        over = cv2.bilateralFilter(picture, -1, 45, 0.06 * span)
        mask = face_ellipse(picture.shape, face)
        for feature in FEATURES:
            if feature != "nose":
                mask[ellipse_mask(picture.shape, face, feature) > 0] = 0
        return feathered(picture, over, mask, 0.05 * span)
    if kind in ("brows_inpainted", "mouth_inpainted"):
        if kind == "mouth_inpainted":
            mask = ellipse_mask(picture.shape, face, "mouth")
        else:
            mask = np.zeros(picture.shape[:2], np.uint8)
            for x, y in face.landmarks[:2]:
                cv2.ellipse(mask, (round(x), round(y - 0.33 * span)), (round(0.36 * span), round(0.12 * span)),
                            0, 0, 360, 255, -1)  # fmt: skip
        return cv2.inpaint(picture, mask, 5, cv2.INPAINT_TELEA)
    if kind == "smoothed_as_generated":
        box = face.box
        factor = box.width / 112
        small = cv2.resize(
            picture, None, fx=1 / max(1.5, factor), fy=1 / max(1.5, factor), interpolation=cv2.INTER_AREA
        )
        over = cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        return feathered(picture, over, face_ellipse(picture.shape, face), 0.08 * span)
    if kind == "pixelated":
        cells = max(8, round(picture.shape[1] / (0.2 * span)))
        small = cv2.resize(
            picture, (cells, max(8, cells * picture.shape[0] // picture.shape[1])), interpolation=cv2.INTER_AREA
        )
        over = cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return feathered(picture, over, face_ellipse(picture.shape, face), 1.0)
    if kind == "text_on_chin":
        made = picture.copy()
        x, y = np.array(face.landmarks[3:]).mean(0) + np.array([-0.6 * span, 0.55 * span])
        cv2.putText(made, "PRESS", (round(x), round(y)), cv2.FONT_HERSHEY_SIMPLEX, span / 70, (255, 255, 255), 2)
        return made
    if kind == "bar_over_eyes":
        made = picture.copy()
        (x0, y0), (x1, y1) = face.landmarks[:2]
        cv2.rectangle(made, (round(x0 - 0.5 * span), round(min(y0, y1) - 0.25 * span)),
                      (round(x1 + 0.5 * span), round(max(y0, y1) + 0.25 * span)), (0, 0, 0), -1)  # fmt: skip
        return made
    over = moved_onto(photo, donor)
    part, way = kind.rsplit("_", 1)
    if part == "both_eyes":
        mask = ellipse_mask(picture.shape, face, "left_eye") | ellipse_mask(picture.shape, face, "right_eye")
    elif part == "face":
        mask = face_ellipse(picture.shape, face)
    else:
        mask = ellipse_mask(picture.shape, face, {"eye": "left_eye"}.get(part, part))
    return seamless(picture, over, mask) if way == "seamless" else feathered(picture, over, mask, 0.06 * span)


EDITS = (
    "eyes_enlarged", "face_slimmed", "eye_copied", "spots_healed", "lipstick", "nose_feathered", "skin_airbrushed",
    "eye_seamless", "both_eyes_seamless", "mouth_seamless", "mouth_feathered", "brows_inpainted", "mouth_inpainted",
    "face_feathered", "face_seamless", "smoothed_as_generated", "pixelated", "text_on_chin", "bar_over_eyes",
)  # fmt: skip


def photographs(detector: Detector, most: int, least_side: int = 96) -> list[Photo]:
    """Untouched pictures of left-out sources whose largest face is `least_side` px wide or more, every source alike."""
    framing = Framing.of(detector.model.config.preprocessing)
    found: list[Photo] = []
    folders = sources()
    for folder in folders.values():
        here = 0
        for path in find_images(folder):
            if here == most // len(folders):
                break
            try:
                pixels = read_picture(path).pixels
                face = judged_faces(pixels, framing)[0]
            except InputError:
                continue
            if face.box.width >= least_side:
                found.append((pixels, face))
                here += 1
    return found


def scored(detector: Detector, pictures: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Default score and p-value of pictures; not a number where no face was found."""
    found = list(detector.detect_many(pictures, max_false_alarm=0.05, heatmap=False))
    nothing = float("nan")
    return (np.array([nothing if f.score is None else f.score for f in found]),
            np.array([nothing if f.p_value is None else f.p_value for f in found]))  # fmt: skip


def edits(detector: Detector, options: argparse.Namespace) -> dict[str, object]:
    photos = photographs(detector, options.count)
    controls, _ = scored(detector, (jpeg_round_trip(p, 90) for p, _ in photos))
    untouched, _ = scored(detector, (p for p, _ in photos))
    large = np.array([face.box.width >= 288 for _, face in photos])
    rows: dict[str, object] = {}
    for number, kind in enumerate(EDITS):
        made = []
        for i, photo in enumerate(photos):
            generator = np.random.default_rng((i, number))
            donor = photos[(i + 1 + int(generator.integers(len(photos) - 1))) % len(photos)]
            made.append(jpeg_round_trip(edit(kind, photo, donor, generator), 90))
        scores, p = scored(detector, iter(made))
        good = np.isfinite(scores) & np.isfinite(controls) & np.isfinite(untouched)
        row: dict[str, object] = {
            "controls": auroc(scores[good], controls[good]),
            "untouched": auroc(scores[good], untouched[good]),
            "found": round(float((p[good] <= 0.05).mean()), 3),
            "pairs": round(float((scores[good] > controls[good]).mean()), 3),
            "n": int(good.sum()),
        }
        for name, size in (("large", large), ("small", ~large)):
            if (good & size).sum() > 5:
                row[name] = auroc(scores[good & size], controls[good & size])[0]
        rows[kind] = row
        print(f"{kind:24s} {row}", flush=True)
    for against in ("controls", "untouched"):
        values = [rows[kind][against][0] for kind in EDITS]  # type: ignore[index]
        rows[f"mean_{against}"] = round(float(np.mean(values)), 4)
        print(f"mean against {against}: {np.mean(values):.3f}")
    return rows


def auroc(altered: np.ndarray, normal: np.ndarray, rounds: int = 500) -> list[float]:
    """AUROC with its 95% interval, people resampled together."""
    generator = np.random.default_rng(0)
    truth = np.r_[np.ones(len(altered)), np.zeros(len(normal))]
    drawn = [generator.integers(len(altered), size=len(altered)) for _ in range(rounds)]
    found = [roc_auc_score(truth, np.r_[altered[d], normal[d]]) for d in drawn]
    whole = roc_auc_score(truth, np.r_[altered, normal])
    return [round(float(v), 4) for v in (whole, *np.quantile(found, (0.025, 0.975)))]


def scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=method)


def toned(picture: np.ndarray, gamma: float, gain: float) -> np.ndarray:
    return np.clip((picture / 255.0) ** gamma * gain * 255, 0, 255).astype(np.uint8)


def messenger(picture: np.ndarray) -> np.ndarray:
    return jpeg_round_trip(scaled(jpeg_round_trip(picture, 85), min(1.0, 720 / max(picture.shape[:2]))), 70)


BENIGN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "untouched": lambda p: p,
    "jpeg 70": partial(jpeg_round_trip, quality=70),
    "jpeg 40": partial(jpeg_round_trip, quality=40),
    "webp 75": partial(webp_round_trip, quality=75),
    "scaled .6": partial(scaled, factor=0.6),
    "scaled 1.6": partial(scaled, factor=1.6),
    "black and white": lambda p: np.repeat(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[..., None], 3, 2),
    "brighter": partial(toned, gamma=0.75, gain=1.05),
    "darker": partial(toned, gamma=1.4, gain=0.9),
    "sharpened": lambda p: np.clip(p + 0.8 * (p - cv2.GaussianBlur(p, (0, 0), 1.5).astype(float)), 0, 255).astype(
        np.uint8
    ),
    "denoised": lambda p: cv2.bilateralFilter(p, 5, 20, 3),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "messenger": messenger,
}


def benign(detector: Detector, options: argparse.Namespace) -> dict[str, object]:
    photos = photographs(detector, options.count)
    before = Detector.load(options.before) if options.before else None
    rows: dict[str, object] = {} if before is None else {"before_sha256": before.model.sha256}
    for name, change in BENIGN.items():
        _, p = scored(detector, (change(picture) for picture, _ in photos))
        row: dict[str, object] = {}
        if before is not None:
            _, old = scored(before, (change(picture) for picture, _ in photos))
            # The same photographs: those in which both find a face.
            both = np.isfinite(p) & np.isfinite(old)
            p, row = p[both], {"before": share_by_picture(old[both] <= 0.05)}
        p = p[np.isfinite(p)]
        rows[name] = {"0.05": share_by_picture(p <= 0.05), **row, "n": len(p)}
        print(f"{name:20s} {rows[name]}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("alarms", "edits", "benign", "folds"))
    parser.add_argument("--model", default="faces")
    parser.add_argument("--count", type=int, default=120, help="photographs that are edited or treated")
    parser.add_argument("--before", help="benign: an earlier model's folder, judged on the same photographs")
    parser.add_argument("--maps", action="store_true", help="alarms: also count pictures with a coloured region")
    parser.add_argument("--store", type=Path, help="folds: the calibration pictures of all sources")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    options = parser.parse_args()
    if (options.what == "folds") != (options.store is not None):
        parser.error("--store: expected with `folds`, and with `folds` alone")
    run = {"alarms": alarms, "edits": edits, "benign": benign, "folds": folds}[options.what]
    detector = Detector.load(options.model)
    rows = run(detector, options) | {"model_sha256": detector.model.sha256}
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / f"away_{options.what}.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
