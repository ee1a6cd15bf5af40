"""`evaluate`: every readable picture is scored once, and every figure is taken on the same pictures and resamples."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pixelsleuth.detector import Detector, drawn_back
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.shortcuts import Probe, probe
from pixelsleuth.records import Face, Finding
from pixelsleuth.scoring.complexity import laplacian_variance
from pixelsleuth.scoring.examine import TEXT_SCORE
from pixelsleuth.scoring.restoration import pooled, restore
from pixelsleuth.sources.anomalies import FEATURES, blurred, feature_ellipse, partner_mask
from pixelsleuth.sources.images import find_images, read_picture
from pixelsleuth.sources.trees import LEVELS, PARTS, altered_parts

#: Side at which maps and masks are compared, in pixels.
PIXEL_SIDE = 128
#: Pairs on which the text's own restoration map (PixelSNAIL, S = 15) is measured.
TEXT_PAIRS = 50
TEXT_RESTORATIONS = 15
#: A map calls a pixel anomalous above this quantile of its values on the normal pictures.
DSC_QUANTILE = 0.95


@dataclass
class Case:
    """One scored picture. `maps` are (PIXEL_SIDE, PIXEL_SIDE) float32 over the whole input."""

    path: Path
    anomalous: bool
    finding: Finding
    probe: Probe
    unit: str
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def has_face(self) -> bool:
        return bool(self.finding.faces)


@dataclass(frozen=True)
class Evaluation:
    """`metrics` as metrics.json has them; `cases` for figures and for further looks."""

    metrics: dict[str, Any]
    cases: list[Case]


def evaluate(
    detector: Detector,
    normal: Path,
    anomalous: Path,
    *,
    masks: Path | None = None,
    pairs: Path | None = None,
    match_sharpness: bool = False,
    text_pairs: int = TEXT_PAIRS,
    batch_size: int = 32,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measures a detector on two folders of pictures.

    Args:
        masks: folder of masks of the anomalous pictures, matched by relative path without suffix; not 0: altered.
        pairs: CSV with columns fake, real; paths relative to the two folders.
        match_sharpness: blur the sharper picture of each pair to the softer one's sharpness first.
        text_pairs: how many pairs the text's restoration map is measured on; it is slow.

    Raises:
        PixelsleuthError: a folder holds no readable picture, or the CSV names none of them.
    """
    partner = _read_pairs(pairs, normal, anomalous) if pairs else {}
    if match_sharpness and not partner:
        raise PixelsleuthError("--match-sharpness: expected --pairs, got none")
    paths = [(p, False) for p in _pictures(normal, "--normal")] + [
        (p, True) for p in _pictures(anomalous, "--anomalous")
    ]
    want_maps = bool(partner or masks) or any(altered_parts(p.name.split(".")[0]) for p, bad in paths if bad)
    units = {path: f"pair {i}" for i, pair in enumerate(partner.items()) for path in pair}
    sigma = sharpness_sigmas(partner) if match_sharpness else {}
    cases: list[Case] = []
    unreadable: list[str] = []
    inputs = (blurred(read_picture(path).pixels, sigma[path]) if path in sigma else path for path, _ in paths)
    found = detector.detect_many(
        inputs, max_false_alarm=0.1, heatmap=want_maps, batch_size=batch_size, whole_without_face=True
    )
    for number, ((path, bad), finding) in enumerate(zip(paths, found, strict=True), 1):
        progress(number, len(paths))
        if finding.verdict == "not_applicable":
            unreadable.append(str(path))
            continue
        case = Case(path, bad, finding, probe(path), units.get(path, str(path)))
        if finding.heatmap is not None and finding.square is not None:
            shape = finding.heatmap.shape
            every = {name: drawn_back(m, finding.square, shape) for name, m in finding.raw_maps.items()}
            every["heatmap"] = finding.heatmap
            case.maps = {k: cv2.resize(m, (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA) for k, m in every.items()}
        case.finding = _without_arrays(finding)
        cases.append(case)
    for bad, option in ((False, "--normal"), (True, "--anomalous")):
        if not any(case.anomalous == bad for case in cases):
            raise PixelsleuthError(f"{option}: no readable picture")
    return Evaluation(_metrics(detector, cases, unreadable, partner, masks, anomalous, text_pairs), cases)


def _without_arrays(finding: Finding) -> Finding:
    """Whole-size arrays of thousands of inputs would not fit into memory."""
    return replace(finding, heatmap=None, excess=None, restoration=None, raw_maps={})


def _pictures(root: Path, option: str) -> list[Path]:
    if not root.exists():
        raise PixelsleuthError(f"{option} {root}: no such folder")
    found = list(find_images(root)) if root.is_dir() else [root]
    if not found:
        raise PixelsleuthError(f"{option} {root}: expected pictures, found none")
    return found


def _read_pairs(path: Path, normal: Path, anomalous: Path) -> dict[Path, Path]:
    """fake -> real, for the rows both of whose files exist."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise PixelsleuthError(f"--pairs {path}: cannot be read ({error.strerror})") from error
    if not rows or not {"fake", "real"} <= set(rows[0]):
        raise PixelsleuthError(
            f"--pairs {path}: expected columns fake,real; got {','.join(rows[0]) if rows else 'none'}"
        )
    known = {anomalous / row["fake"]: normal / row["real"] for row in rows}
    known = {fake: real for fake, real in known.items() if fake.is_file() and real.is_file()}
    if not known:
        raise PixelsleuthError(f"--pairs {path}: none of its {len(rows)} pairs is in {anomalous} and {normal}")
    return known


def sharpness_sigmas(partner: dict[Path, Path]) -> dict[Path, float]:
    """Gaussian sigma in pixels for every picture of a pair, so that both have the softer one's Laplacian variance
    at 128 px (bisection, within 1%); 0 for the softer one."""
    sigmas: dict[Path, float] = {}
    for fake, real in partner.items():
        both = {path: read_picture(path).pixels for path in (fake, real)}
        sharp = {path: _sharpness(pixels) for path, pixels in both.items()}
        softer = min(sharp, key=lambda path: sharp[path])
        sigmas[softer] = 0.0
        (sharper,) = set(both) - {softer}
        low, high = 0.0, 6.0
        for _ in range(12):
            middle = (low + high) / 2
            if _sharpness(blurred(both[sharper], middle)) > sharp[softer]:
                low = middle
            else:
                high = middle
        sigmas[sharper] = (low + high) / 2
    return sigmas


def _sharpness(pixels: np.ndarray) -> float:
    return laplacian_variance(cv2.resize(pixels, (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA))


def _metrics(
    detector: Detector, cases: list[Case], unreadable: list[str], partner: dict[Path, Path], masks: Path | None,
    anomalous: Path, text_pairs: int,
) -> dict[str, Any]:  # fmt: skip
    labels = np.array([case.anomalous for case in cases])
    weights = metrics.resample_weights([case.unit for case in cases], None if partner else labels.astype(int))
    default = detector.calibration.score
    scores = {name: np.array([case.finding.scores[name] for case in cases]) for name in cases[0].finding.scores}
    scores["baseline_blur"] = np.array([case.probe.blur for case in cases])
    scores["baseline_jpeg_size"] = np.array([case.probe.jpeg_size for case in cases])
    scores["baseline_brightness"] = np.array([case.probe.brightness for case in cases])
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
        result["paired_accuracy_by_score"] = {
            name: _paired_accuracy(found_pairs, name) for name in cases[0].finding.scores
        }
    masked = list(_masked(cases, found_pairs, masks, anomalous))
    if masked:
        result |= _pixel_metrics(detector, masked, cases, text_pairs if found_pairs else 0)
    levels = _levels(cases, scores[default], labels)
    if levels:
        result |= levels
    return result


def _crops(detector: Detector) -> bool:
    return detector.model.config.preprocessing["crop"] == "face"


def _paired_accuracy(pairs: Sequence[tuple[Case, Case]], name: str) -> metrics.Interval:
    """[share, low, high] of pairs whose fake scores above its partner, ties half."""
    difference = np.array([f.finding.scores[name] - r.finding.scores[name] for f, r in pairs])
    wins = (difference > 0) + 0.5 * (difference == 0)
    weights = metrics.resample_weights([str(i) for i in range(len(pairs))], None)
    return metrics.interval((weights * wins).sum(1) / weights.sum(1))


def _shortcuts(cases: list[Case], labels: np.ndarray) -> dict[str, float]:
    """AUROC of each trivial measure; far from .5 on either side is a way to separate the sets without looking."""
    ones = np.ones((1, len(cases)))
    table = [asdict(case.probe) for case in cases]
    return {
        name: round(
            float(metrics.auroc(metrics.image_counts(np.array([row[name] for row in table]), labels, ones))[0]), 4
        )
        for name in table[0]
    }


def _null_controls(scores: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, metrics.Interval]:
    """AUROC of normals against normals, and under permuted labels: an interval that misses .5 is a fault."""
    generator = np.random.default_rng(seed)
    normal = scores[~labels]
    half = generator.permutation(len(normal)) < len(normal) // 2
    shuffled = generator.permutation(labels)
    found = {}
    for name, values, classes in (("normals_split", normal, half), ("labels_permuted", scores, shuffled)):
        weights = metrics.resample_weights([str(i) for i in range(len(values))], classes.astype(int), seed)
        found[name] = metrics.interval(metrics.auroc(metrics.image_counts(values, classes, weights)))
    return found


def _masked(
    cases: list[Case], pairs: list[tuple[Case, Case]], masks: Path | None, anomalous: Path
) -> Iterator[tuple[Case, Case | None, np.ndarray]]:
    """(anomalous case, its partner, its mask (PIXEL_SIDE, PIXEL_SIDE) bool)."""
    partner = {fake.path: real for fake, real in pairs}
    if masks is not None:
        files = {p.relative_to(masks).with_suffix("").as_posix(): p for p in find_images(masks)}
        root = anomalous if anomalous.is_dir() else anomalous.parent
        for case in cases:
            name = case.path.relative_to(root).with_suffix("").as_posix() if case.anomalous else None
            if name in files:
                grey = read_picture(files[name]).pixels.max(2)
                mask = cv2.resize((grey > 0).astype(np.float32), (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA)
                yield case, partner.get(case.path), mask > 0.5
        return
    for fake, real in pairs:
        mask = partner_mask(read_picture(fake.path).pixels, read_picture(real.path).pixels, PIXEL_SIDE)
        if mask is not None:
            yield fake, real, mask


def _pixel_metrics(
    detector: Detector, masked: list[tuple[Case, Case | None, np.ndarray]], cases: list[Case], text_pairs: int
) -> dict[str, Any]:
    truth = [mask for _, _, mask in masked]
    weights = metrics.resample_weights([fake.unit for fake, _, _ in masked], None)
    names = list(masked[0][0].maps)
    normal_maps = [case.maps for case in cases if not case.anomalous]
    maps = {name: [fake.maps[name] for fake, _, _ in masked] for name in names}
    centre = centre_prior(PIXEL_SIDE)
    maps["baseline_centre"] = [centre] * len(masked)
    paired = [(i, real) for i, (_, real, _) in enumerate(masked) if real is not None]
    pixel: dict[str, Any] = {}
    dsc_rows: dict[str, np.ndarray] = {}
    for name, values in maps.items():
        edges = metrics.pixel_edges(values)
        counts = metrics.pixel_counts(values, truth, weights, edges)
        level = np.quantile([m[name] for m in normal_maps], DSC_QUANTILE) if name in names else np.quantile(centre, 0.8)
        every = metrics.dice(counts)
        at = min(int(np.searchsorted(edges, level, "right")), every.shape[1] - 1)
        dsc_rows[name] = every[:, at]
        best = int(np.argmax(every[0]))
        pixel[name] = {
            "auroc": metrics.interval(metrics.auroc(counts)),
            "ap": metrics.interval(metrics.average_precision(counts)),
            "dsc": metrics.interval(every[:, at]),
            "dsc_best": metrics.interval(every[:, best]),
        }
        if paired and name in names:
            rows = [i for i, _ in paired]
            change = [
                fake_map - real.maps[name]
                for fake_map, (_, real) in zip([values[i] for i in rows], paired, strict=True)
            ]
            theirs = [real.maps[name] for _, real in paired]
            for key, these in (("change_auroc", change), ("partner_auroc", theirs)):
                found = metrics.pixel_counts(
                    these, [truth[i] for i in rows], weights[:, rows], metrics.pixel_edges(these)
                )
                pixel[name][key] = metrics.interval(metrics.auroc(found))
    result: dict[str, Any] = {
        "n_masked": len(masked),
        "pixel_prevalence": round(float(np.mean([m.mean() for m in truth])), 4),
        "default_map": detector.examiner.settings.default_map,
        "pixel": pixel,
        "dsc_threshold": f"{DSC_QUANTILE} quantile of the map over the normal pictures; best: chosen on the test masks",
    }
    if text_pairs and "pixelsnail" in detector.model.priors and paired:
        some = [masked[i] for i, _ in paired[:text_pairs]]
        pixel["text_restoration"] = _text_map_metrics(detector, some)
        result["n_text_restoration"] = len(some)
    return result


def centre_prior(side: int) -> np.ndarray:
    """(side, side) float32, a Gaussian at the centre with sigma a quarter of the side: a map without any model."""
    axis = (np.arange(side) + 0.5) / side - 0.5
    return np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * 0.25**2)).astype(np.float32)


def _text_map_metrics(detector: Detector, masked: list[tuple[Case, Case | None, np.ndarray]]) -> dict[str, Any]:
    """The text's map: PixelSNAIL, S = 15, lambda_p, weighted residual, pooled."""
    fakes = text_restoration_maps(detector, [fake.path for fake, _, _ in masked])
    reals = text_restoration_maps(detector, [real.path for _, real, _ in masked if real is not None])
    truth = [mask for _, _, mask in masked]
    weights = metrics.resample_weights([fake.unit for fake, _, _ in masked], None)
    found: dict[str, Any] = {}
    counts = metrics.pixel_counts(fakes[0], truth, weights, metrics.pixel_edges(fakes[0]))
    found["auroc"] = metrics.interval(metrics.auroc(counts))
    found["ap"] = metrics.interval(metrics.average_precision(counts))
    every = metrics.dice(counts)
    level = np.quantile(reals[0], DSC_QUANTILE)
    at = int(np.searchsorted(metrics.pixel_edges(fakes[0]), level, "right"))
    found["dsc"] = metrics.interval(every[:, min(at, every.shape[1] - 1)])
    found["dsc_best"] = metrics.interval(every[:, int(np.argmax(every[0]))])
    change = [a - b for a, b in zip(fakes[0], reals[0], strict=True)]
    for key, these in (("change_auroc", change), ("partner_auroc", reals[0])):
        found[key] = metrics.interval(
            metrics.auroc(metrics.pixel_counts(these, truth, weights, metrics.pixel_edges(these)))
        )
    found["replaced"] = round(float(np.mean(fakes[1])), 4)
    found["effective_restorations"] = round(float(np.mean(fakes[2])), 2)
    return found


def text_restoration_maps(
    detector: Detector, paths: Sequence[Path]
) -> tuple[list[np.ndarray], list[float], list[float]]:
    """The text's maps of pictures over the whole input at PIXEL_SIDE, the share of codes replaced, and the
    effective number of restorations."""
    model, settings = detector.model, detector.examiner.settings
    maps: list[np.ndarray] = []
    replaced: list[float] = []
    effective: list[float] = []
    for path in paths:
        item = detector.prepare(path, whole_without_face=True)
        image = torch.from_numpy(item.square).permute(2, 0, 1)[None].float().div(255)
        with torch.no_grad():
            codes = model.vqvae.encode(image)
        done = restore(
            image, codes, model.vqvae, model.priors["pixelsnail"], [item.sha256],
            restorations=TEXT_RESTORATIONS, above=settings.lambda_p["pixelsnail"],
        )  # fmt: skip
        whole = drawn_back(pooled(done.residual)[0].numpy(), item.face.box, item.pixels.shape)
        maps.append(cv2.resize(whole, (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA))
        replaced.append(float(done.replaced[0]))
        effective.append(float(done.effective[0]))
    return maps, replaced, effective


def _levels(cases: list[Case], scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Per level of Real-and-Fake-Face: AUROC against all normals, and localisation by part without masks."""
    known = [altered_parts(case.path.name.split(".")[0]) if case.anomalous else None for case in cases]
    if not any(known):
        return {}
    result: dict[str, Any] = {}
    hits: list[bool] = []
    chance: list[float] = []
    for level in LEVELS:
        chosen = ~labels | np.array([bool(item and item[0] == level) for item in known])
        if not (chosen & labels).any():
            continue
        weights = metrics.resample_weights(
            [c.unit for c, yes in zip(cases, chosen, strict=True) if yes], labels[chosen].astype(int)
        )
        result[level] = metrics.score_metrics(metrics.image_counts(scores[chosen], labels[chosen], weights))
        result[level]["n"] = int((chosen & labels).sum())
    for case, item in zip(cases, known, strict=True):
        if item and item[1] and case.has_face and case.maps:
            hottest = hottest_part(case.maps["heatmap"], case.finding.faces[0], read_picture(case.path).pixels.shape)
            hits.append(hottest in item[1])
            chance.append(len(item[1]) / len(PARTS))
    found: dict[str, Any] = {"levels": result}
    if hits:
        weights = metrics.resample_weights([str(i) for i in range(len(hits))], None)
        found["hottest_part_is_altered"] = metrics.interval((weights * np.array(hits)).sum(1) / weights.sum(1))
        found["hottest_part_chance"] = round(float(np.mean(chance)), 4)
        found["hottest_part_n"] = len(hits)
    return found


def hottest_part(heatmap: np.ndarray, face: Face, shape: tuple[int, ...]) -> str:
    """The facial part with the largest mean of a (h, w) map over the whole input of (H, W, 3) `shape`."""
    y, x = heatmap.shape[0] / shape[0], heatmap.shape[1] / shape[1]
    means = {}
    for part in FEATURES:
        centre, axes, angle = feature_ellipse(face, part)
        disc = np.zeros(heatmap.shape, np.uint8)
        half = (max(1, round(axes[0] * x)), max(1, round(axes[1] * y)))
        cv2.ellipse(disc, (round(centre[0] * x), round(centre[1] * y)), half, angle, 0, 360, 1, -1)
        means[part] = float(heatmap[disc > 0].mean()) if disc.any() else 0.0
    return max(means, key=lambda part: means[part])
