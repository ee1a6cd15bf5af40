"""`evaluate`: every readable input is scored once, and every figure is taken on the same inputs and resamples."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.comparison import Comparison, check_comparison, compare
from pixelsleuth.evaluation.face_parts import level_metrics
from pixelsleuth.evaluation.groups import alarms_by_group, read_groups
from pixelsleuth.evaluation.localisation import TEXT_PAIRS, masked_cases, pixel_metrics
from pixelsleuth.evaluation.samples import PIXEL_SIDE, ScoredSample
from pixelsleuth.evaluation.shortcuts import probe
from pixelsleuth.evaluation.videos import video_metrics
from pixelsleuth.records import Finding
from pixelsleuth.scoring.complexity import laplacian_variance
from pixelsleuth.scoring.settings import TEXT_SCORE
from pixelsleuth.sources.anomalies import blurred
from pixelsleuth.sources.duplicates import NEAR, distances, perceptual_hash
from pixelsleuth.sources.faces import drawn_back
from pixelsleuth.sources.images import read_picture
from pixelsleuth.sources.inputs import Input, find_inputs
from pixelsleuth.sources.layouts import Origin, altered_parts, label_of
from pixelsleuth.sources.store import Store
from pixelsleuth.sources.video_layouts import origins_of, read_labels


@dataclass(frozen=True)
class Evaluation:
    """`metrics` as metrics.json has them; `cases` for figures and for further looks."""

    metrics: dict[str, Any]
    cases: list[ScoredSample]


def evaluate(
    detector: Detector,
    normal: Path,
    anomalous: Path,
    *,
    masks: Path | None = None,
    pairs: Path | None = None,
    split: str = "",
    not_near: Path | None = None,
    match_sharpness: bool = False,
    maps: bool = True,
    text_pairs: int = TEXT_PAIRS,
    groups: Path | None = None,
    comparison: Comparison | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measures a detector on two folders of pictures.

    Args:
        masks: folder of masks of the anomalous pictures, matched by relative path without suffix; not 0: altered.
        pairs: CSV with columns fake, real; paths relative to the two folders.
        split: judge only videos of this split, as their tree tells it.
        not_near: a store whose training pictures' near-duplicates among the normal pictures are left out and counted.
        match_sharpness: blur the sharper picture of each pair to the softer one's sharpness first.
        maps: measure maps where masks or pairs allow it; without, only scores are taken, in a third of the time.
        text_pairs: how many pairs Marimont & Tarroni's restoration map is measured on; it is slow.
        groups: CSV by which false alarms are also told group by group (see evaluation.groups).
        comparison: baselines that are measured beside it, on the same inputs and resamples.

    Raises:
        PixelsleuthError: a folder holds no readable picture, or the CSV names none of them.
    """
    if comparison is not None:
        check_comparison(comparison, detector)
    partner = read_pairs(pairs, normal, anomalous) if pairs else {}
    grouped = None if groups is None else read_groups(groups, normal)
    if match_sharpness and not partner:
        raise PixelsleuthError("expected pairs, got none", "match_sharpness")
    paths = [(p, False) for p in inputs_of(normal, "normal")] + [(p, True) for p in inputs_of(anomalous, "anomalous")]
    origins = {**_origins(normal), **_origins(anomalous)}
    if split:
        paths = [(p, bad) for p, bad in paths if p not in origins or origins[p].split == split]
    near = _near(not_near, [p for p, bad in paths if not bad], detector) if not_near else set()
    paths = [(p, bad) for p, bad in paths if p not in near]
    for bad, label in ((False, "normal"), (True, "anomalous")):
        if not any(b == bad for _, b in paths):
            raise PixelsleuthError(f"nothing is left of split {split!r} or beside {not_near}", label)
    # Blurring for sharpness moves what maps are about; only scores are compared then.
    want_maps = maps and bool(partner or masks) and not match_sharpness
    want_maps |= maps and any(altered_parts(p.name.split(".")[0]) for p, bad in paths if bad)
    # A real picture with several fakes is one unit with all of them.
    units = {path: str(real) for fake, real in partner.items() for path in (fake, real)}
    sigma = sharpness_sigmas(partner) if match_sharpness else {}
    cases: list[ScoredSample] = []
    unreadable: list[str] = []

    def given(path: Path) -> Input:
        return blurred(read_picture(path).pixels, sigma[path]) if path in sigma else path

    found = detector.detect_many(
        (given(path) for path, _ in paths),
        max_false_alarm=0.1,
        heatmap=want_maps,
        every_score=True,
        whole_without_face=True,
    )
    for number, ((path, bad), finding) in enumerate(zip(paths, found, strict=True), 1):
        progress(number, len(paths))
        if finding.verdict == "not_applicable":
            unreadable.append(str(path))
            continue
        try:
            measured = probe(path, sigma=sigma.get(path, 0.0))
        except InputError:
            # It was there when it was scored, and is gone.
            unreadable.append(str(path))
            continue
        method = origins[path].method if path in origins else ""
        case = ScoredSample(path, bad, finding, measured, units.get(path, str(path)), method)
        if finding.kind == "image" and finding.heatmap is not None and finding.square is not None:
            shape = finding.heatmap.shape
            every = {name: drawn_back(m, finding.square, shape) for name, m in finding.raw_maps.items()}
            every["heatmap"] = finding.heatmap
            case.maps = {k: cv2.resize(m, (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA) for k, m in every.items()}
        case.finding = _without_arrays(finding)
        cases.append(case)
    for bad, label in ((False, "normal"), (True, "anomalous")):
        if not any(case.anomalous == bad for case in cases):
            raise PixelsleuthError("no readable picture", label)
    if comparison is not None:
        compare(detector, cases, comparison, maps=want_maps, given=given)
    measured_all = _metrics(detector, cases, unreadable, partner, masks, anomalous, text_pairs)
    measured_all |= {} if grouped is None else {"groups": alarms_by_group(cases, grouped)}
    if not_near is not None:
        measured_all["n_near_duplicates_left_out"] = len(near)
    return Evaluation(measured_all, cases)


def _without_arrays(finding: Finding) -> Finding:
    """Whole-size arrays of thousands of inputs would not fit into memory."""
    return replace(finding, heatmap=None, excess=None, restoration=None, raw_maps={}, stills=())


def inputs_of(root: Path, label: str) -> list[Path]:
    """Pictures and videos of a folder, one file, or the files that a CSV with columns file,label gives this label."""
    if not root.exists():
        raise PixelsleuthError(f"{root}: no such folder", label)
    if root.suffix.lower() == ".csv":
        found = [root.parent / file for file, row in read_labels(root).items() if label_of(row["label"]) == label]
    else:
        found = [item for item in find_inputs(root) if isinstance(item, Path)] if root.is_dir() else [root]
    if not found:
        raise PixelsleuthError(f"{root}: expected pictures or videos, found none", label)
    return found


def _origins(root: Path) -> dict[Path, Origin]:
    """What the tree tells of the videos below a folder: split, method."""
    folder = root if root.is_dir() else root.parent
    return origins_of(folder)


def _near(store: Path, paths: Sequence[Path], detector: Detector) -> set[Path]:
    """Pictures whose square is a near-duplicate of one that a store holds for training."""
    with Store(store) as opened:
        known = opened.table["phash"][opened.rows("train")]
    found = set()
    for path in paths:
        sample = detector.read(path, whole_without_face=True)
        if isinstance(sample, Finding) or not len(known):
            continue
        if distances(np.array([perceptual_hash(sample.main.views.square)]), known).min() <= NEAR:
            found.add(path)
    return found


def read_pairs(path: Path, normal: Path, anomalous: Path) -> dict[Path, Path]:
    """fake -> real, for the rows both of whose files exist."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PixelsleuthError(f"{path} cannot be read as CSV ({error})", "pairs") from error
    if not rows or not {"fake", "real"} <= set(rows[0]):
        raise PixelsleuthError(
            f"{path}: expected columns fake,real; got {','.join(rows[0]) if rows else 'none'}", "pairs"
        )
    known = {anomalous / row["fake"]: normal / row["real"] for row in rows}
    known = {fake: real for fake, real in known.items() if fake.is_file() and real.is_file()}
    if not known:
        raise PixelsleuthError(f"none of the {len(rows)} pairs of {path} is in {anomalous} and {normal}", "pairs")
    return known


def sharpness_sigmas(partner: dict[Path, Path]) -> dict[Path, float]:
    """Gaussian sigma in pixels for every picture of a pair, so that both have the softer one's Laplacian variance
    at 128 px (bisection, within 1%); 0 for the softer one."""
    sigmas: dict[Path, float] = {}
    for fake, real in partner.items():
        try:
            both = {path: read_picture(path).pixels for path in (fake, real)}
        except InputError:
            # Scoring will give it its reason.
            continue
        sharp = {path: sharpness(pixels) for path, pixels in both.items()}
        softer = min(sharp, key=lambda path: sharp[path])
        sigmas[softer] = 0.0
        (sharper,) = set(both) - {softer}
        low, high = 0.0, 6.0
        for _ in range(12):
            middle = (low + high) / 2
            if sharpness(blurred(both[sharper], middle)) > sharp[softer]:
                low = middle
            else:
                high = middle
        sigmas[sharper] = (low + high) / 2
    return sigmas


def sharpness(pixels: np.ndarray) -> float:
    return laplacian_variance(cv2.resize(pixels, (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA))


def _metrics(
    detector: Detector, cases: list[ScoredSample], unreadable: list[str], partner: dict[Path, Path], masks: Path | None,
    anomalous: Path, text_pairs: int,
) -> dict[str, Any]:  # fmt: skip
    labels = np.array([case.anomalous for case in cases])
    weights = metrics.resample_weights([case.unit for case in cases], None if partner else labels.astype(int))
    default = detector.calibration.score
    # Videos have some that pictures have not.
    common = set.intersection(*(set(case.finding.scores) for case in cases))
    named = [name for name in cases[0].finding.scores if name in common]
    scores = {name: np.array([case.finding.scores[name] for case in cases]) for name in named}
    scores["baseline_blur"] = np.array([case.probe.blur for case in cases])
    scores["baseline_jpeg_size"] = np.array([case.probe.jpeg_size for case in cases])
    scores["baseline_brightness"] = np.array([case.probe.brightness for case in cases])
    for name in cases[0].compared:
        scores[f"baseline_{name}"] = np.array([case.compared[name] for case in cases])
    counts = {name: metrics.image_counts(values, labels, weights) for name, values in scores.items()}
    normal = ~labels
    p_values = np.array([case.finding.p_value for case in cases], float)
    result: dict[str, Any] = {
        "n_normal": int(normal.sum()),
        "n_anomalous": int(labels.sum()),
        "n_no_face": {
            "normal": sum(not c.has_face for c in cases if not c.anomalous) if _crops(detector) else 0,
            "anomalous": sum(not c.has_face for c in cases if c.anomalous) if _crops(detector) else 0,
        },
        "unreadable": unreadable,
        "default_score": default,
        "scores": {name: metrics.score_metrics(c) for name, c in counts.items()},
        "differences": {
            name: {
                "auroc": metrics.interval(metrics.auroc(counts[default]) - metrics.auroc(counts[name])),
                "ap": metrics.interval(
                    metrics.average_precision(counts[default]) - metrics.average_precision(counts[name])
                ),
            }
            for name in counts
            if name.startswith("baseline_") or name == TEXT_SCORE
        },
        "false_alarm": {
            f"{rate:g}": metrics.share_with_interval(p_values[normal] <= rate, weights[:, normal])
            for rate in (0.01, 0.05, 0.1)
        },
        "promised_band": {
            f"{rate:g}": metrics.promised_band(rate, detector.calibration.count, int(normal.sum()))
            for rate in (0.01, 0.05, 0.1)
        },
        "unsure_at_0.1": sum(c.finding.verdict == "unsure" for c in cases) / len(cases),
        "shortcuts": _shortcuts(cases, labels),
        "null_controls": _null_controls(scores[default], labels),
        "blur_rank_correlation": metrics.spearman(scores[default], scores["baseline_blur"]),
        "n_calibration": detector.calibration.count,
        "model_sha256": detector.model.sha256,
        "data_sha256": hashlib.sha256("".join(sorted(str(c.finding.sha256) for c in cases)).encode()).hexdigest(),
        "restoration_scale": "weights from mean residuals on [-1, 1]",
    }
    by_path = {case.path: case for case in cases}
    found_pairs = [(by_path[f], by_path[r]) for f, r in partner.items() if f in by_path and r in by_path]
    if found_pairs:
        result["paired_accuracy"] = _paired_accuracy(found_pairs, default)
        result["paired_accuracy_by_score"] = {name: _paired_accuracy(found_pairs, name) for name in named}
    masked = list(masked_cases(cases, found_pairs, masks, anomalous)) if cases[0].maps else []
    if masked:
        of_pixels = pixel_metrics(detector, masked, cases, text_pairs if found_pairs else 0)
        result["differences"] |= of_pixels.pop("pixel_differences")
        result |= of_pixels
    result |= video_metrics(cases, labels, weights, default)
    levels = level_metrics(cases, scores[default], labels)
    if levels:
        result |= levels
    return result


def _crops(detector: Detector) -> bool:
    return detector.model.config.preprocessing["crop"] == "face"


def _paired_accuracy(pairs: Sequence[tuple[ScoredSample, ScoredSample]], name: str) -> metrics.Interval:
    """[share, low, high] of pairs whose fake scores above its partner, ties half."""
    difference = np.array([f.finding.scores[name] - r.finding.scores[name] for f, r in pairs])
    wins = (difference > 0) + 0.5 * (difference == 0)
    weights = metrics.resample_weights([str(i) for i in range(len(pairs))], None)
    return metrics.interval((weights * wins).sum(1) / weights.sum(1))


def _shortcuts(cases: list[ScoredSample], labels: np.ndarray) -> dict[str, float]:
    """AUROC of each trivial measure; far from .5 on either side is a way to separate the sets without looking."""
    ones = np.ones((1, len(cases)))
    table = [asdict(case.probe) for case in cases]
    return {
        name: round(
            float(metrics.auroc(metrics.image_counts(np.array([row[name] for row in table]), labels, ones))[0]), 4
        )
        for name in table[0]
    }


def _null_controls(scores: np.ndarray, labels: np.ndarray, rounds: int = 200) -> dict[str, metrics.Interval]:
    """AUROC of random halves of the normals against each other, and under permuted labels: mean and the middle 95% of
    `rounds` draws. One that misses .5 is a fault in the measuring."""
    generator = np.random.default_rng(0)
    normal = scores[~labels]
    halves = np.arange(len(normal)) < len(normal) // 2
    found = {}
    for name, values, classes in (("normals_split", normal, halves), ("labels_permuted", scores, labels)):
        drawn = [
            metrics.auroc(metrics.image_counts(values, generator.permutation(classes), np.ones((1, len(values)))))[0]
            for _ in range(rounds)
        ]
        found[name] = metrics.interval(np.array([np.mean(drawn), *drawn]))
    return found
