"""`evaluate` for volumes: samples are volumes, or slices where masks tell them apart; pixels are counted inside the
head, at the size the networks see; everything is resampled by patient."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.datasets.volume_preparation import mask_of
from pixelsleuth.detector import Detector, Rule
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.lesions import lesion_metrics, pieces_of
from pixelsleuth.evaluation.localisation import map_differences, measure_maps
from pixelsleuth.evaluation.samples import Evaluation, ScoredSample, ScoredSlices, inputs_of
from pixelsleuth.records import Finding
from pixelsleuth.scoring.maps import within
from pixelsleuth.scoring.scorer import EVERYTHING, ScoreOptions, Scores
from pixelsleuth.scoring.settings import TAIL_SUM
from pixelsleuth.sources.samples import Sample
from pixelsleuth.sources.scans.volumes import read_mask, stem_of
from pixelsleuth.synthesis.lesions import KINDS, SUBTLETIES

#: Ranges of slice positions within which slices are compared, where levels are matched.
LEVELS = 10
#: Quantile bins of pixel scores; dense at the top, where few pixels decide.
EDGES = np.concatenate([np.linspace(0.004, 0.95, 240), 1 - np.geomspace(0.05, 1e-5, 272)])
_GRADED = re.compile(rf"__({'|'.join(KINDS)})_({'|'.join(SUBTLETIES)})$")


def evaluate_volumes(
    detector: Detector,
    normal: Path | None,
    anomalous: Path,
    *,
    masks: Path | None = None,
    thresholds: dict[str, float] | None = None,
    peak: float | None = None,
    text: bool = True,
    pictured: int = 6,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measure a model for volumes.

    Args:
        normal: healthy volumes; may be left out with masks: slices with an empty mask are then the normal ones.
        masks: folder of masks, matched by relative path without suffix; a folder beside the volumes' unless given.
        thresholds: map's name -> level above which a pixel is called anomalous, chosen elsewhere (on validation).
        peak: of the default map, what the peak of a finding must reach for its F1, likewise.
        text: also make Marimont & Tarroni's map (PixelSNAIL, S = 15).

    Raises:
        PixelsleuthError: no readable volume, neither a normal one nor a mask, or masks of other volumes.
    """
    detector.check_takes("volumes")
    listed = [(p, False, normal) for p in inputs_of(normal, "normal", "volumes")] if normal else []
    listed += [(p, True, anomalous) for p in inputs_of(anomalous, "anomalous", "volumes")]
    mask_at = {path: mask_of(path, root, masks) for path, bad, root in listed if bad and root is not None}
    if masks is not None and not any(mask_at.values()):
        raise PixelsleuthError(f"{masks}: no mask there has the name of a volume of {anomalous}", "masks")
    cases: list[ScoredSample] = []
    unreadable: list[str] = []
    for number, (path, bad, _) in enumerate(listed, 1):
        sample = detector.read(path)
        if isinstance(sample, Finding):
            unreadable.append(str(path))
            continue
        try:
            mask = mask_at.get(path)
            lesion = lesion_of(sample, mask)
        except InputError as error:
            raise PixelsleuthError(f"the mask of {path}: {error.sentence}") from error
        keep = bad and sum(c.slices.pixels is not None for c in cases) < pictured
        options = ScoreOptions(baselines=True, reference=text and bool(mask))
        case = case_of(detector, path, sample, lesion, bad, options, keep)
        # Many volumes with many maps each would not fit into memory.
        case.maps = {name: values.astype(np.float16) for name, values in case.maps.items()}
        cases.append(case)
        progress(number, len(listed))
    if not any(c.anomalous for c in cases):
        raise PixelsleuthError("no readable volume", "anomalous")
    masked = [c for c in cases if c.truth.any()]
    if not masked and not any(not c.anomalous for c in cases):
        raise PixelsleuthError("expected normal volumes, or masks that tell healthy slices from others; got neither")
    return Evaluation(_metrics(detector, cases, masked, unreadable, thresholds or {}, peak), cases)


def lesion_of(sample: Sample, mask: Path | None) -> np.ndarray:
    """Read a volume's mask and cut it to its slices, (n, H, W) bool; all False without one.

    Raises:
        InputError: it cannot be read, or does not fit the volume.
    """
    cut = sample.slices
    return cut.cut(read_mask(mask, sample.volume)) if mask else np.zeros_like(cut.inside)


def case_of(
    detector: Detector,
    path: Path,
    sample: Sample,
    lesion: np.ndarray,
    anomalous: bool,
    options: ScoreOptions,
    keep: bool,
) -> ScoredSample:
    """Score and judge one volume.

    Args:
        keep: also its slices and their restorations, for figures.
    """
    (scores,) = detector.score([sample], options)
    (judged,) = detector.judge([sample], [scores], Rule(0.1, typicality=False, doubt=False))
    finding = detector.assembler.finding(sample, Scores(scores.scores, {}, None), judged)
    graded = _GRADED.search(stem_of(path))
    cut = sample.slices
    slices = ScoredSlices(cut.position, scores.scores)
    if keep:
        slices.pixels = cut.pixels[..., 0]
        slices.restoration = None if scores.restoration is None else scores.restoration[..., 0]
    return ScoredSample(
        path, anomalous, finding, unit=stem_of(path).split("__")[0], methods=graded.groups() if graded else (),
        maps=scores.maps, truth=lesion, region=within(cut.inside), slices=slices,
    )  # fmt: skip


def pictured_case(detector: Detector, path: Path, mask: Path | None) -> ScoredSample:
    """Judge one volume and keep what `slices_figure` draws.

    Args:
        mask: of what is anomalous; None: the most unusual slice is drawn.

    Raises:
        PixelsleuthError: the volume cannot be judged, or its mask does not fit.
    """
    sample = detector.sample_of(path)
    try:
        lesion = lesion_of(sample, mask)
    except InputError as error:
        raise PixelsleuthError(f"{mask}: {error.sentence}") from error
    return case_of(detector, path, sample, lesion, bool(lesion.any()), EVERYTHING, keep=True)


def _metrics(
    detector: Detector, cases: list[ScoredSample], masked: list[ScoredSample], unreadable: list[str],
    thresholds: dict[str, float], peak: float | None,
) -> dict[str, Any]:  # fmt: skip
    calibration = detector.calibration
    labels = np.array([c.anomalous for c in cases])
    weights = metrics.resample_weights([c.unit for c in cases], None)
    result: dict[str, Any] = {
        "kind": "volumes", "n_volumes": len(cases), "unreadable": unreadable, "default_score": calibration.score,
        "n_calibration": calibration.count, "calibration_unit": calibration.about["unit"],
        "model_sha256": detector.model.sha256, "n_no_face": {"normal": 0, "anomalous": 0}, "differences": {},
    }  # fmt: skip
    of_volumes = None
    if (~labels).any():
        scores = {name: np.array([c.finding.scores[name] for c in cases]) for name in cases[0].finding.scores}
        of_volumes = _score_metrics(scores, labels, weights)
        p_values = np.array([c.finding.p_value for c in cases], float)[~labels]
        result |= metrics.alarm_metrics(p_values, weights[:, ~labels], calibration.count, [0.1])
    if masked:
        result["slices"] = slice_metrics(cases, weights)
    unit = of_volumes or result["slices"]
    result |= {"unit": "volume" if of_volumes else "slice", "scores": unit["scores"]}
    result |= {"n_normal": unit["n_normal"], "n_anomalous": unit["n_anomalous"]}
    if masked:
        result |= pixel_metrics(detector, masked, [c for c in cases if not c.anomalous], thresholds, peak)
        result["by_kind"] = _by_kind(result["default_map"], cases, masked)
    return result


def _score_metrics(scores: dict[str, np.ndarray], labels: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    return {
        "n_normal": int((~labels).sum()),
        "n_anomalous": int(labels.sum()),
        "scores": {name: metrics.sample_metrics(values, labels, weights) for name, values in scores.items()},
    }


def slice_metrics(cases: list[ScoredSample], weights: np.ndarray) -> dict[str, Any]:
    """Take the metrics of slices, as they are and with levels matched. A slice's position tells much of whether a
    tumour is in it, so level matching compares only slices within one tenth of the way up; the level alone stands among
    the scores as a baseline."""
    labels = np.concatenate([c.truth.any((1, 2)) for c in cases])
    position = np.concatenate([c.slices.position for c in cases])
    owner = np.concatenate([np.full(len(c.slices.position), i) for i, c in enumerate(cases)])
    every = weights[:, owner]
    scores = {name: np.concatenate([c.slices.scores[name] for c in cases]) for name in cases[0].slices.scores}
    scores["baseline_brightness"] = np.concatenate([_largest(c, "baseline_brightness") for c in cases])
    scores["baseline_asymmetry"] = np.concatenate([_largest(c, "baseline_asymmetry") for c in cases])
    scores["baseline_level"] = -np.abs(position)
    result = _score_metrics(scores, labels, every)
    level = np.clip(((position + 0.5) * LEVELS).astype(int), 0, LEVELS - 1)
    result["level_matched"] = {
        name: metrics.interval(_matched_auroc(values, labels, level, every)) for name, values in scores.items()
    }
    return result


def _largest(case: ScoredSample, name: str) -> np.ndarray:
    return case.maps[name].astype(np.float64).max((1, 2))


def _matched_auroc(scores: np.ndarray, labels: np.ndarray, level: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) share of pairs of an anomalous and a normal slice of one level in the right order, ties half."""
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for value in np.unique(level):
        here = level == value
        if labels[here].any() and not labels[here].all():
            counts = metrics.image_counts(scores[here], labels[here], weights[:, here])
            number = counts.anomalous.sum(1) * counts.normal.sum(1)
            right += np.nan_to_num(metrics.auroc(counts)) * number
            pairs += number
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / pairs


def pixel_metrics(
    detector: Detector,
    masked: list[ScoredSample],
    normal: list[ScoredSample],
    thresholds: dict[str, float],
    peak: float | None,
) -> dict[str, Any]:
    """Take the metrics of pixels inside the heads of volumes with a mask, all their slices pooled."""
    default, about = detector.scorer.settings.default_map, detector.calibration.about
    names = [name for name in masked[0].maps if all(name in c.maps for c in masked)]
    levels = dict(thresholds)
    for name in names:
        if name in levels:
            continue
        if name == default:
            # The outline of the calibration, so its peak too.
            peak = about.get("peak_from") if peak is None else peak
            levels[name] = float(about["marked_from"])
        elif normal and all(name in c.maps for c in normal):
            levels[name] = float(np.quantile(np.concatenate([c.values(name) for c in normal]), 0.995))
    measured = measure_maps(masked, names, levels, EDGES, all_pixels_of=8)
    best_at = {name: found.best_level for name, found in measured.items()}
    rivals = [
        name
        for name in names
        if name.startswith("baseline_") or name in ("text_restoration", "surprise_x_brightness", TAIL_SUM)
    ]
    weights = metrics.resample_weights([c.unit for c in masked], None)
    return {
        "default_map": default,
        "n_masked": len(masked),
        "pixel_prevalence": _prevalence(masked),
        "pixel": {name: found.intervals() for name, found in measured.items()},
        "thresholds": best_at,
        "peak": pieces_of(masked, default, best_at[default]).best_peak,
        "dsc_threshold": "chosen elsewhere"
        if thresholds
        else "of the default map: what .5% of healthy calibration "
        "pixels exceed; of others the same of the normal volumes, where given; best: chosen on these masks",
        "lesions": lesion_metrics(masked, default, levels[default], weights, peak),
        "differences": map_differences(measured, default, rivals),
    }


def _prevalence(masked: list[ScoredSample]) -> float:
    return round(float(np.mean(np.concatenate([c.marked() for c in masked]))), 5)


def _by_kind(default: str, cases: list[ScoredSample], masked: list[ScoredSample]) -> dict[str, Any]:
    """Pasted anomalies, by kind and by subtlety: each map's pixel figures, and the default score's AUROC against the
    normal volumes."""
    result: dict[str, Any] = {}
    normal = [c for c in cases if not c.anomalous]
    for place, names in enumerate((KINDS, SUBTLETIES)):
        for name in names:
            chosen = [c for c in masked if name in c.methods[place : place + 1]]
            if not chosen:
                continue
            shown = [k for k in chosen[0].maps if k.startswith("baseline_") or k == "text_restoration"]
            measured = measure_maps(chosen, [default, *shown], {}, EDGES, all_pixels_of=None)
            row: dict[str, Any] = {"n": len(chosen), "prevalence": _prevalence(chosen)}
            row |= {key: found.intervals() for key, found in measured.items()}
            if normal:
                both = chosen + normal
                of_samples = np.array([c.finding.score for c in both], float)
                labels = np.array([c.anomalous for c in both])
                units = metrics.resample_weights([c.unit for c in both], None)
                row["sample"] = metrics.sample_metrics(of_samples, labels, units)
            result[name] = row
    return result
