"""`evaluate` for volumes: samples are volumes, or slices where masks tell them apart; pixels are counted inside the
head, at the size the networks see; everything is resampled by patient."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pixelsleuth.detector import Detector, Rule
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.records import Finding
from pixelsleuth.scoring.maps import LEAST_PART, within
from pixelsleuth.scoring.scorer import EVERYTHING, ScoreOptions, Scores
from pixelsleuth.scoring.settings import TEXT_SCORE
from pixelsleuth.sources.lesions import KINDS, SUBTLETIES
from pixelsleuth.sources.samples import Sample
from pixelsleuth.sources.volume_preparation import find_volumes, mask_of
from pixelsleuth.sources.volumes import read_mask, stem_of

#: Ranges of slice positions within which slices are compared, where levels are matched.
LEVELS = 10
#: Quantile bins of pixel scores; dense at the top, where few pixels decide.
EDGES = np.concatenate([np.linspace(0.004, 0.95, 240), 1 - np.geomspace(0.05, 1e-5, 272)])
#: A lesion counts as found where this share of it is marked.
FOUND = 0.1
#: False findings a volume at which sensitivity is read (FROC).
FALSE_FINDINGS = (0.5, 1, 2, 4, 8)
_GRADED = re.compile(rf"__({'|'.join(KINDS)})_({'|'.join(SUBTLETIES)})$")


@dataclass
class ScoredVolume:
    """One scored volume.

    Attributes:
        unit: the patient.
        anomalous: whether anything of it is.
        lesion, head: (n, H, W) bool; scores: of slices; position: (n,).
        maps: name -> (n, H, W) float32, or float16 where there are many volumes.
        pixels, restoration: (n, H, W) uint8, kept of a few volumes for figures.
        kind: of a pasted anomaly and its subtlety, where the file name tells.
    """

    path: Path
    unit: str
    anomalous: bool
    finding: Finding
    position: np.ndarray
    scores: dict[str, np.ndarray]
    lesion: np.ndarray
    head: np.ndarray
    maps: dict[str, np.ndarray]
    kind: tuple[str, str] | None = None
    pixels: np.ndarray | None = None
    restoration: np.ndarray | None = None


@dataclass(frozen=True)
class VolumeEvaluation:
    """`metrics` as metrics.json has them; `cases` for figures."""

    metrics: dict[str, Any]
    cases: list[ScoredVolume] = field(default_factory=list)


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
) -> VolumeEvaluation:
    """Measures a model for volumes.

    Args:
        normal: healthy volumes; may be left out with masks: slices with an empty mask are then the normal ones.
        masks: folder of masks, matched by relative path without suffix; a folder beside the volumes' unless given.
        thresholds: map's name -> level above which a pixel is called anomalous, chosen elsewhere (on validation).
        peak: of the default map, what the peak of a finding must reach for its F1, likewise.
        text: also make Marimont & Tarroni's map (PixelSNAIL, S = 15).

    Raises:
        PixelsleuthError: a folder holds no readable volume, or there is neither a normal volume nor a mask.
    """
    if detector.takes != "volumes":
        raise PixelsleuthError(f"expected one for volumes, got {detector.name}, which is for images", "model")
    listed = [(p, False, normal) for p in _listed(normal, "normal")] if normal else []
    listed += [(p, True, anomalous) for p in _listed(anomalous, "anomalous")]
    cases: list[ScoredVolume] = []
    unreadable: list[str] = []
    for number, (path, bad, root) in enumerate(listed, 1):
        sample = detector.read(path)
        if isinstance(sample, Finding):
            unreadable.append(str(path))
            continue
        try:
            mask = mask_of(path, root, masks) if bad and root is not None else None
            lesion = lesion_of(sample, mask)
        except InputError as error:
            raise PixelsleuthError(f"the mask of {path}: {error.sentence}") from error
        keep = bad and sum(c.pixels is not None for c in cases) < pictured
        options = ScoreOptions(baselines=True, reference=text and bool(mask))
        case = case_of(detector, path, sample, lesion, bad, options, keep)
        # Many volumes with many maps each would not fit into memory.
        case.maps = {name: values.astype(np.float16) for name, values in case.maps.items()}
        cases.append(case)
        progress(number, len(listed))
    if not any(c.anomalous for c in cases):
        raise PixelsleuthError("no readable volume", "anomalous")
    masked = [c for c in cases if c.lesion.any()]
    if not masked and not any(not c.anomalous for c in cases):
        raise PixelsleuthError("expected normal volumes, or masks that tell healthy slices from others; got neither")
    return VolumeEvaluation(_metrics(detector, cases, masked, unreadable, thresholds or {}, peak), cases)


def _listed(root: Path, label: str) -> list[Path]:
    if not root.exists():
        raise PixelsleuthError(f"{root}: no such folder", label)
    found = list(find_volumes(root)) if root.is_dir() else [root]
    if not found:
        raise PixelsleuthError(f"{root}: expected volumes, found none", label)
    return found


def lesion_of(sample: Sample, mask: Path | None) -> np.ndarray:
    """(n, H, W) bool, what a mask marks on the slices of a volume; without one nothing.

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
) -> ScoredVolume:
    """One volume scored and judged.

    Args:
        keep: also its slices and their restorations, for figures.
    """
    (scores,) = detector.score([sample], options)
    (judged,) = detector.judge([sample], [scores], Rule(0.1, typicality=False, doubt=False))
    finding = detector.assembler.finding(sample, Scores(scores.scores, {}, None), judged)
    graded = _GRADED.search(stem_of(path))
    restored = scores.restoration if keep else None
    return ScoredVolume(
        path, stem_of(path).split("__")[0], anomalous, finding, sample.slices.position, scores.scores, lesion,
        within(sample.slices.inside), scores.maps,
        (graded[1], graded[2]) if graded else None, sample.slices.pixels[..., 0] if keep else None,
        None if restored is None else restored[..., 0],
    )  # fmt: skip


def pictured_case(detector: Detector, path: Path, mask: Path | None) -> ScoredVolume:
    """One volume judged and kept as `slices_figure` draws it.

    Args:
        mask: of what is anomalous; None: the most unusual slice is drawn.

    Raises:
        PixelsleuthError: the volume cannot be judged, or its mask does not fit.
    """
    sample = detector.read(path)
    if isinstance(sample, Finding):
        raise PixelsleuthError(f"{path}: {sample.reason['sentence'] if sample.reason else 'it cannot be judged'}")
    try:
        lesion = lesion_of(sample, mask)
    except InputError as error:
        raise PixelsleuthError(f"{mask}: {error.sentence}") from error
    return case_of(detector, path, sample, lesion, bool(lesion.any()), EVERYTHING, keep=True)


def _metrics(
    detector: Detector, cases: list[ScoredVolume], masked: list[ScoredVolume], unreadable: list[str],
    thresholds: dict[str, float],
    peak: float | None,
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
        of_volumes = _sample_metrics(
            {n: np.array([c.finding.scores[n] for c in cases]) for n in cases[0].finding.scores}, labels, weights
        )
        p_values = np.array([c.finding.p_value for c in cases], float)[~labels]
        result["false_alarm"] = {
            "0.1": metrics.share_with_interval(p_values <= 0.1, weights[:, ~labels]),
        }
        result["promised_band"] = {"0.1": metrics.promised_band(0.1, calibration.count, int((~labels).sum()))}
    if masked:
        result["slices"] = slice_metrics(cases, weights)
    unit = of_volumes or result["slices"]
    result |= {"unit": "volume" if of_volumes else "slice", "scores": unit["scores"]}
    result |= {"n_normal": unit["n_normal"], "n_anomalous": unit["n_anomalous"]}
    if masked:
        result |= pixel_metrics(detector, masked, [c for c in cases if not c.anomalous], thresholds, peak)
        result["by_kind"] = _by_kind(result["default_map"], cases, masked)
    return result


def _sample_metrics(scores: dict[str, np.ndarray], labels: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    counts = {name: metrics.image_counts(values, labels, weights) for name, values in scores.items()}
    return {
        "n_normal": int((~labels).sum()),
        "n_anomalous": int(labels.sum()),
        "scores": {name: metrics.score_metrics(c) for name, c in counts.items()},
    }


def slice_metrics(cases: list[ScoredVolume], weights: np.ndarray) -> dict[str, Any]:
    """Of slices, as they are and with levels matched: only pairs of slices within one tenth of the way up are compared,
    for where a slice lies tells much of whether a tumour is in it. The level alone stands among the scores."""
    labels = np.concatenate([c.lesion.any((1, 2)) for c in cases])
    position = np.concatenate([c.position for c in cases])
    owner = np.concatenate([np.full(len(c.position), i) for i, c in enumerate(cases)])
    every = weights[:, owner]
    names = list(cases[0].scores)
    scores = {name: np.concatenate([c.scores[name] for c in cases]) for name in names}
    scores["baseline_brightness"] = np.concatenate([_largest(c, "baseline_brightness") for c in cases])
    scores["baseline_asymmetry"] = np.concatenate([_largest(c, "baseline_asymmetry") for c in cases])
    scores["baseline_level"] = -np.abs(position)
    result = _sample_metrics(scores, labels, every)
    level = np.clip(((position + 0.5) * LEVELS).astype(int), 0, LEVELS - 1)
    result["level_matched"] = {
        name: metrics.interval(_matched_auroc(values, labels, level, every)) for name, values in scores.items()
    }
    return result


def _largest(case: ScoredVolume, name: str) -> np.ndarray:
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
    masked: list[ScoredVolume],
    normal: list[ScoredVolume],
    thresholds: dict[str, float],
    peak: float | None,
) -> dict[str, Any]:
    """Of pixels inside the heads of volumes with a mask, all their slices pooled."""
    default = detector.scorer.settings.default_map
    weights = metrics.resample_weights([c.unit for c in masked], None)
    truth = [c.lesion[c.head] for c in masked]
    names = [name for name in masked[0].maps if all(name in c.maps for c in masked)]
    rows: dict[str, dict[str, np.ndarray]] = {}
    pixel: dict[str, Any] = {}
    best_at: dict[str, float] = {}
    for name in names:
        values = [c.maps[name][c.head].astype(np.float32) for c in masked]
        edges = np.unique(np.quantile(np.concatenate([v[:: max(1, len(masked) // 8)] for v in values]), EDGES))
        level = thresholds.get(name)
        if level is None and name == default:
            # The outline of the calibration, so its peak too.
            peak = detector.calibration.about.get("peak_from") if peak is None else peak
            level = float(detector.calibration.about["marked_from"])
        if level is None and normal and all(name in c.maps for c in normal):
            level = float(np.quantile(np.concatenate([c.maps[name][c.head].astype(np.float32) for c in normal]), 0.995))
        measured = metrics.map_metrics(values, truth, weights, edges, level)
        rows[name], pixel[name], best_at[name] = measured.rows, measured.intervals(), measured.best_level
        if name == default and level is not None:
            lesions = lesion_metrics(masked, name, level, weights, peak)
    return {
        "default_map": default,
        "n_masked": len(masked),
        "pixel_prevalence": round(float(np.mean(np.concatenate(truth))), 5),
        "pixel": pixel,
        "thresholds": best_at,
        "peak": pieces_of(masked, default, best_at[default]).best_peak,
        "dsc_threshold": "chosen elsewhere"
        if thresholds
        else "of the default map: what .5% of healthy calibration "
        "pixels exceed; of others the same of the normal volumes, where given; best: chosen on these masks",
        "lesions": lesions,
        "differences": {
            name: {k: metrics.interval(rows[default][k] - rows[name][k]) for k in rows[name] if k in rows[default]}
            for name in names
            if name.startswith("baseline_") or name in ("text_restoration", "surprise_x_brightness", TEXT_SCORE)
        },
    }


@dataclass(frozen=True)
class Pieces:
    """Lesions and findings, connected in 3-D: a finding is a part of a map above its outline's level, as unusual as its
    peak.

    Attributes:
        peaks: (P,) float32, rising, the outline's level first: what the peak of a finding must reach.
        found, wrong: (N, P), of each volume the lesions that such findings cover, and the findings beside any lesion.
        total: (N,) lesions.
    """

    peaks: np.ndarray
    found: np.ndarray
    wrong: np.ndarray
    total: np.ndarray

    def f1(self, weights: np.ndarray) -> np.ndarray:
        """(R, N) weights of volumes -> (R, P)."""
        caught, alarms, lesions = weights @ self.found, weights @ self.wrong, weights @ self.total
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(2 * caught / (caught + alarms + lesions[:, None]))

    @property
    def best_peak(self) -> float:
        return float(self.peaks[np.argmax(self.f1(np.ones((1, len(self.total))))[0])])


def pieces_of(masked: list[ScoredVolume], name: str, level: float, peak: float | None = None) -> Pieces:
    """Of the map `name` outlined at `level`; `peak` is one of the peaks that are tried."""
    over = [case.maps[name][(case.maps[name] >= level) & case.head].astype(np.float32) for case in masked]
    tried = np.quantile(np.concatenate(over), np.linspace(0, 1, 48)) if any(map(len, over)) else np.empty(0)
    peaks = np.unique(np.append(tried, [level, level if peak is None else max(level, peak)])).astype(np.float32)
    (found, wrong), total = np.zeros((2, len(masked), len(peaks))), np.zeros(len(masked))
    for i, case in enumerate(masked):
        truth, count = ndimage.label(np.asarray(case.lesion & case.head))
        sizes = np.bincount(truth.ravel(), minlength=count + 1)
        lesion = sizes >= LEAST_PART
        lesion[0] = False
        total[i] = lesion.sum()
        parts, number = ndimage.label((case.maps[name] >= level) & case.head)
        large = np.bincount(parts.ravel(), minlength=number + 1) >= LEAST_PART
        tops = np.append(-np.inf, ndimage.maximum(case.maps[name].astype(np.float32), parts, np.arange(1, number + 1)))
        touching = np.zeros(number + 1, bool)
        touching[np.unique(parts[truth > 0])] = True
        for j, at in enumerate(peaks):
            kept = large & (tops >= at)
            hits = np.bincount(truth[kept[parts]], minlength=count + 1)
            found[i, j] = (lesion & (hits >= FOUND * sizes)).sum()
            wrong[i, j] = (kept & ~touching).sum()
    return Pieces(peaks, found, wrong, total)


def lesion_metrics(
    masked: list[ScoredVolume], name: str, level: float, weights: np.ndarray, peak: float | None = None
) -> dict[str, Any]:
    """By lesion: F1 of findings whose peak reaches `peak`, chosen elsewhere, else of all (`f1_best`: chosen on these
    masks); and sensitivity at so many false findings a volume (FROC), over peaks."""
    pieces = pieces_of(masked, name, level, peak)
    f1 = pieces.f1(weights)
    place = 0 if peak is None else int(np.argmin(np.abs(pieces.peaks - max(level, peak))))
    caught, alarms, lesions = weights @ pieces.found, weights @ pieces.wrong, weights @ pieces.total
    volumes = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = caught / lesions[:, None]
    froc = {}
    for allowed in FALSE_FINDINGS:
        fits = alarms <= allowed * volumes[:, None]
        froc[f"{allowed:g}"] = metrics.interval(np.where(fits, sensitivity, 0).max(1))
    return {
        "n": int(pieces.total.sum()),
        "f1": metrics.interval(f1[:, place]),
        "f1_best": metrics.interval(f1[:, int(np.argmax(f1[0]))]),
        "sensitivity_at_false_findings": froc,
    }


def _by_kind(default: str, cases: list[ScoredVolume], masked: list[ScoredVolume]) -> dict[str, Any]:
    """Pasted anomalies, by kind and by subtlety: each map's pixel figures, and the default score's AUROC against the
    normal volumes."""
    result: dict[str, Any] = {}
    normal = [c for c in cases if not c.anomalous]
    for place, names in enumerate((KINDS, SUBTLETIES)):
        for name in names:
            chosen = [c for c in masked if c.kind and c.kind[place] == name]
            if not chosen:
                continue
            weights = metrics.resample_weights([c.unit for c in chosen], None)
            truth = [c.lesion[c.head] for c in chosen]
            row: dict[str, Any] = {"n": len(chosen), "prevalence": round(float(np.mean(np.concatenate(truth))), 5)}
            for key in (default, *(k for k in chosen[0].maps if k.startswith("baseline_") or k == "text_restoration")):
                values = [c.maps[key][c.head].astype(np.float32) for c in chosen]
                edges = np.unique(np.quantile(np.concatenate(values), EDGES))
                row[key] = metrics.map_metrics(values, truth, weights, edges).intervals()
            if normal:
                both = chosen + normal
                of_samples = np.array([c.finding.score for c in both], float)
                labels = np.array([c.anomalous for c in both])
                units = metrics.resample_weights([c.unit for c in both], None)
                row["sample"] = metrics.score_metrics(metrics.image_counts(of_samples, labels, units))
            result[name] = row
    return result
