"""`evaluate`: every readable input is scored once, and every figure is taken on the same inputs and resamples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from pixelsleuth.datasets.layouts import Origin, altered_parts
from pixelsleuth.datasets.store import Store
from pixelsleuth.datasets.video_layouts import origins_of
from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.comparison import Baselines, check_baselines, compare
from pixelsleuth.evaluation.face_parts import level_metrics
from pixelsleuth.evaluation.groups import alarms_by_group, read_groups
from pixelsleuth.evaluation.localisation import (
    TEXT_PAIRS,
    masked_cases,
    pixel_metrics,
    read_masks,
    tells_pixels_apart,
)
from pixelsleuth.evaluation.samples import (
    PIXEL_SIDE,
    Evaluation,
    Pairs,
    ScoredSample,
    folder_of,
    inputs_of,
    read_pairs,
)
from pixelsleuth.evaluation.shortcuts import probe
from pixelsleuth.evaluation.videos import video_metrics
from pixelsleuth.records import Finding
from pixelsleuth.scoring.complexity import laplacian_variance
from pixelsleuth.scoring.settings import TAIL_SUM
from pixelsleuth.sources.duplicates import MAX_DISTANCE, distances, perceptual_hash
from pixelsleuth.sources.faces import drawn_back
from pixelsleuth.sources.images import read_picture
from pixelsleuth.sources.inputs import Input
from pixelsleuth.synthesis.anomalies import blurred

#: Promised false-alarm rates that are measured.
RATES = (0.01, 0.05, 0.1)
#: Baselines that are always measured, among the shortcuts.
TRIVIAL = ("blur", "jpeg_size", "brightness")


class _Listed(NamedTuple):
    """An input to score.

    Attributes:
        methods: how it was manipulated, where its tree tells.
        sigma: of the blur in pixels that it is given; None: it is read as it is.
    """

    path: Path
    anomalous: bool
    methods: tuple[str, ...] = ()
    sigma: float | None = None

    def given(self) -> Input:
        return self.path if self.sigma is None else blurred(read_picture(self.path).pixels, self.sigma)


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
    baselines: Baselines | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure a detector on two folders of pictures.

    Args:
        masks: folder of masks of the anomalous pictures, matched by relative path without suffix; not 0: altered.
        pairs: CSV with columns fake, real; paths relative to the two folders.
        split: judge only videos of this split, as their tree tells it.
        not_near: a store whose training pictures' near-duplicates among the normal pictures are left out and counted.
        match_sharpness: blur the sharper picture of each pair to the softer one's sharpness first.
        maps: measure maps where masks or pairs allow it; without, only scores are taken, in a third of the time.
        text_pairs: how many pairs Marimont & Tarroni's restoration map is measured on; it is slow.
        groups: CSV by which false alarms are also told group by group (see evaluation.groups).
        baselines: those that are measured beside it, on the same inputs and resamples.

    Raises:
        PixelsleuthError: a folder holds no readable picture, the CSV of pairs names none of them, or the masks are
            none of theirs (see `read_masks`); all but the first before anything is scored.
    """
    if baselines is not None:
        check_baselines(baselines, detector)
    paired = read_pairs(pairs, normal, anomalous) if pairs else Pairs({}, 0)
    partner = paired.real_of
    grouped = None if groups is None else read_groups(groups, normal)
    if match_sharpness and not partner:
        raise PixelsleuthError("expected pairs, got none", "match_sharpness")
    listed, near = _to_judge(detector, normal, anomalous, split, not_near)
    if match_sharpness:
        sigma = sharpness_sigmas(partner)
        listed = [one._replace(sigma=sigma.get(one.path)) for one in listed]
    marked = read_masks(masks, anomalous, [one.path for one in listed if one.anomalous]) if masks else None
    # Blurring for sharpness moves what maps are about; only scores are compared then.
    known = bool(partner or marked) and not match_sharpness
    maps &= known or any(altered_parts(one.path.name.split(".")[0]) for one in listed if one.anomalous)
    cases, unreadable = _scored(detector, listed, partner, maps, progress)
    if baselines is not None:
        read = {one.path: one.given for one in listed}
        compare(detector, cases, baselines, maps=maps, given=lambda path: read[path]())
    result = _metrics(detector, cases, unreadable, paired, marked, text_pairs)
    if grouped is not None:
        result["groups"] = alarms_by_group(cases, grouped)
    if not_near is not None:
        result["n_near_duplicates_left_out"] = near
    return Evaluation(result, cases)


def _to_judge(
    detector: Detector, normal: Path, anomalous: Path, split: str, not_near: Path | None
) -> tuple[list[_Listed], int]:
    """The inputs to score, and how many normal ones are left out as near-duplicates. Raises PixelsleuthError where
    nothing is left of a label."""
    listed = _listed(normal, anomalous, split)
    near = _near(not_near, [one.path for one in listed if not one.anomalous], detector) if not_near else set()
    listed = [one for one in listed if one.path not in near]
    for bad, label in ((False, "normal"), (True, "anomalous")):
        if not any(one.anomalous == bad for one in listed):
            raise PixelsleuthError(f"nothing is left of split {split!r} or beside {not_near}", label)
    return listed, len(near)


def _listed(normal: Path, anomalous: Path, split: str) -> list[_Listed]:
    """The inputs of both folders; of videos whose tree tells a split those of `split`, where one is wanted."""
    roots = {"normal": normal, "anomalous": anomalous}
    # What the trees tell of the videos in them.
    origins: dict[Path, Origin] = {}
    for root in roots.values():
        origins |= origins_of(folder_of(root))
    found = []
    for label, root in roots.items():
        for path in inputs_of(root, label):
            origin = origins.get(path)
            if not split or origin is None or origin.split == split:
                methods = (origin.method,) if origin and origin.method else ()
                found.append(_Listed(path, label == "anomalous", methods))
    return found


def _near(store: Path, paths: Sequence[Path], detector: Detector) -> set[Path]:
    """Pictures whose square is a near-duplicate of one that a store holds for training."""
    with Store(store) as opened:
        known = opened.table["phash"][opened.rows("train")]
    found = set()
    for path in paths:
        sample = detector.read(path, whole_without_face=True)
        if isinstance(sample, Finding) or not len(known):
            continue
        if distances(np.array([perceptual_hash(sample.main.views.square)]), known).min() <= MAX_DISTANCE:
            found.add(path)
    return found


def _scored(
    detector: Detector, listed: Sequence[_Listed], partner: dict[Path, Path], maps: bool,
    progress: Callable[[int, int], None],
) -> tuple[list[ScoredSample], list[str]]:  # fmt: skip
    """What was scored, and the names of what cannot be read. Raises PixelsleuthError where nothing is left of a
    label."""
    # A real picture with several fakes is one unit with all of them.
    units = {path: str(real) for fake, real in partner.items() for path in (fake, real)}
    cases: list[ScoredSample] = []
    unreadable: list[str] = []
    found = detector.detect_many(
        (one.given() for one in listed), max_false_alarm=0.1, heatmap=maps, every_score=True, whole_without_face=True
    )
    for number, (one, finding) in enumerate(zip(listed, found, strict=True), 1):
        progress(number, len(listed))
        if finding.verdict == "not_applicable":
            unreadable.append(str(one.path))
            continue
        try:
            shortcuts = asdict(probe(one.path, sigma=one.sigma or 0.0))
        except InputError:
            # It was there when it was scored, and is gone.
            unreadable.append(str(one.path))
            continue
        # Whole-size arrays of thousands of inputs would not fit into memory.
        kept = replace(finding, heatmap=None, excess=None, restoration=None, raw_maps={}, stills=())
        unit = units.get(one.path, str(one.path))
        cases.append(
            ScoredSample(
                one.path, one.anomalous, kept, unit, one.methods, maps=_small_maps(finding), shortcuts=shortcuts
            )
        )
    for bad, label in ((False, "normal"), (True, "anomalous")):
        if not any(case.anomalous == bad for case in cases):
            raise PixelsleuthError("no readable picture", label)
    return cases, unreadable


def _small_maps(finding: Finding) -> dict[str, np.ndarray]:
    """An image's maps over the whole input at PIXEL_SIDE; none of a video."""
    if finding.kind != "image" or finding.heatmap is None or finding.square is None:
        return {}
    shape = finding.heatmap.shape
    maps = {name: drawn_back(raw, finding.square, shape) for name, raw in finding.raw_maps.items()}
    maps["heatmap"] = finding.heatmap
    return {name: cv2.resize(m, (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA) for name, m in maps.items()}


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


def scores_of(cases: Sequence[ScoredSample]) -> dict[str, np.ndarray]:
    """The scores that all samples have, by name; videos have some that images have not."""
    common = set.intersection(*(set(case.finding.scores) for case in cases))
    return {
        name: np.array([case.finding.scores[name] for case in cases])
        for name in cases[0].finding.scores
        if name in common
    }


def baselines_of(cases: Sequence[ScoredSample]) -> dict[str, np.ndarray]:
    """Collect what is measured beside the scores: trivial measures, and the requested baselines."""
    found = {name: np.array([case.shortcuts[name] for case in cases]) for name in TRIVIAL if name in cases[0].shortcuts}
    found |= {name: np.array([case.compared[name] for case in cases]) for name in cases[0].compared}
    return {f"baseline_{name}": values for name, values in found.items()}


def _metrics(
    detector: Detector, cases: list[ScoredSample], unreadable: list[str], paired: Pairs,
    masks: dict[Path, np.ndarray] | None, text_pairs: int,
) -> dict[str, Any]:  # fmt: skip
    labels = np.array([case.anomalous for case in cases])
    weights = metrics.resample_weights([case.unit for case in cases], None if paired.real_of else labels.astype(int))
    own = scores_of(cases)
    scores, default = own | baselines_of(cases), detector.calibration.score
    p_values = np.array([case.finding.p_value for case in cases], float)
    result: dict[str, Any] = {
        "n_normal": int((~labels).sum()), "n_anomalous": int(labels.sum()), "n_no_face": _without_face(detector, cases),
        "unreadable": unreadable, "default_score": default,
        **_score_figures(scores, default, labels, weights),
        **metrics.alarm_metrics(p_values[~labels], weights[:, ~labels], detector.calibration.count, RATES),
        "unsure_at_0.1": sum(c.finding.verdict == "unsure" for c in cases) / len(cases),
        "shortcuts": _shortcuts(cases, labels),
        "null_controls": _null_controls(scores[default], labels),
        "blur_rank_correlation": metrics.spearman(scores[default], scores["baseline_blur"]),
        "n_calibration": detector.calibration.count,
        "model_sha256": detector.model.sha256,
        "data_sha256": hashlib.sha256("".join(sorted(str(c.finding.sha256) for c in cases)).encode()).hexdigest(),
        "restoration_scale": "weights from mean residuals on [-1, 1]",
    }  # fmt: skip
    by_path = {case.path: case for case in cases}
    pairs = [(by_path[f], by_path[r]) for f, r in paired.real_of.items() if f in by_path and r in by_path]
    if paired.real_of:
        # Beside those whose file is not there: what could not be read, or was left out on purpose.
        result |= {"n_pairs": len(pairs), "n_pairs_left_out": paired.missing + len(paired.real_of) - len(pairs)}
    if pairs:
        result["paired_accuracy"] = _paired_accuracy(pairs, default)
        result["paired_accuracy_by_score"] = {name: _paired_accuracy(pairs, name) for name in own}
    masked = list(masked_cases(cases, pairs, masks))
    if tells_pixels_apart(case.truth for case in masked):
        normal = [case for case in cases if not case.anomalous and case.maps]
        of_pixels = pixel_metrics(detector, masked, normal, text_pairs)
        result["differences"] |= of_pixels.pop("pixel_differences")
        result |= of_pixels
    elif any(case.maps for case in cases) and (masks or pairs):
        result["pixel_left_out"] = "no image that was judged has a mask that marks a part of it"
    result |= video_metrics(cases, labels, weights, default)
    return result | level_metrics(cases, scores[default], labels)


def _score_figures(
    scores: dict[str, np.ndarray], default: str, labels: np.ndarray, weights: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Every score's figures, and how far the default score's lie above its rivals', on the same resamples."""
    counts = {name: metrics.image_counts(values, labels, weights) for name, values in scores.items()}
    areas = {"auroc": metrics.auroc, "ap": metrics.average_precision}
    rivals = [name for name in counts if name.startswith("baseline_") or name == TAIL_SUM]
    return {
        "scores": {name: metrics.score_metrics(c) for name, c in counts.items()},
        "differences": {
            name: {key: metrics.interval(area(counts[default]) - area(counts[name])) for key, area in areas.items()}
            for name in rivals
        },
    }


def _without_face(detector: Detector, cases: Sequence[ScoredSample]) -> dict[str, int]:
    """How many inputs were judged whole because no face was found in them; none where faces are not looked for."""
    found = [case for case in cases if not case.has_face and detector.model.config.preprocessing["crop"] == "face"]
    bad = sum(case.anomalous for case in found)
    return {"normal": len(found) - bad, "anomalous": bad}


def _paired_accuracy(pairs: Sequence[tuple[ScoredSample, ScoredSample]], name: str) -> metrics.Interval:
    """[share, low, high] of pairs whose fake scores above its partner, ties half."""
    difference = np.array([f.finding.scores[name] - r.finding.scores[name] for f, r in pairs])
    wins = (difference > 0) + 0.5 * (difference == 0)
    weights = metrics.resample_weights([str(i) for i in range(len(pairs))], None)
    return metrics.interval((weights * wins).sum(1) / weights.sum(1))


def _shortcuts(cases: list[ScoredSample], labels: np.ndarray) -> dict[str, float]:
    """AUROC of each trivial measure; far from .5 on either side is a way to separate the sets without looking."""
    ones = np.ones((1, len(cases)))
    table = {name: np.array([case.shortcuts[name] for case in cases]) for name in cases[0].shortcuts}
    areas = {name: metrics.auroc(metrics.image_counts(values, labels, ones))[0] for name, values in table.items()}
    return {name: round(float(area), 4) for name, area in areas.items()}


def _null_controls(scores: np.ndarray, labels: np.ndarray, rounds: int = 200) -> dict[str, metrics.Interval]:
    """AUROC of random halves of the normals against each other, and under permuted labels: mean and the middle 95% of
    `rounds` draws. One that misses .5 is a fault in the measuring. A single normal has no halves."""
    generator = np.random.default_rng(0)
    normal = scores[~labels]
    halves = np.arange(len(normal)) < len(normal) // 2
    found = {}
    for name, values, classes in (("normals_split", normal, halves), ("labels_permuted", scores, labels)):
        if len(np.unique(classes)) < 2:
            continue
        drawn = [
            metrics.auroc(metrics.image_counts(values, generator.permutation(classes), np.ones((1, len(values)))))[0]
            for _ in range(rounds)
        ]
        found[name] = metrics.interval(np.array([np.mean(drawn), *drawn]))
    return found
