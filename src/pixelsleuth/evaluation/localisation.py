"""How well maps show where a picture was altered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.samples import PIXEL_SIDE, ScoredSample
from pixelsleuth.records import Finding
from pixelsleuth.scoring.maps import centre_prior
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.scoring.restoration import pooled
from pixelsleuth.scoring.scorer import stacked
from pixelsleuth.sources.anomalies import partner_mask
from pixelsleuth.sources.faces import drawn_back
from pixelsleuth.sources.images import find_images, read_picture
from pixelsleuth.sources.samples import Sample

#: Pairs on which the map of Marimont & Tarroni 2021 (PixelSNAIL, S = 15) is measured.
TEXT_PAIRS = 50
TEXT_BATCH = 8
#: A map calls a pixel anomalous above this quantile of its values on the normal pictures.
DSC_QUANTILE = 0.95


def masked_cases(
    cases: list[ScoredSample], pairs: list[tuple[ScoredSample, ScoredSample]], masks: Path | None, anomalous: Path
) -> Iterator[tuple[ScoredSample, ScoredSample | None, np.ndarray]]:
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


def pixel_metrics(
    detector: Detector,
    masked: list[tuple[ScoredSample, ScoredSample | None, np.ndarray]],
    cases: list[ScoredSample],
    text_pairs: int,
) -> dict[str, Any]:
    """`pixel` and what goes with it: each map against the masks, its fake-minus-partner change, and the partner's own
    map against the fake's mask, which tells how much of a figure is position alone."""
    truth = [mask for _, _, mask in masked]
    weights = metrics.resample_weights([fake.unit for fake, _, _ in masked], None)
    names = list(masked[0][0].maps)
    normal_maps = [case.maps for case in cases if not case.anomalous]
    maps = {name: [fake.maps[name] for fake, _, _ in masked] for name in names}
    centre = centre_prior(PIXEL_SIDE)
    maps["baseline_centre"] = [centre] * len(masked)
    paired = [(i, real) for i, (_, real, _) in enumerate(masked) if real is not None]
    pixel: dict[str, Any] = {}
    rows: dict[str, dict[str, np.ndarray]] = {}
    for name, values in maps.items():
        level = np.quantile([m[name] for m in normal_maps], DSC_QUANTILE) if name in names else np.quantile(centre, 0.8)
        measured = metrics.map_metrics(values, truth, weights, level=float(level))
        rows[name], pixel[name] = measured.rows, measured.intervals()
        if paired and name in names:
            having = [i for i, _ in paired]
            change = [
                fake_map - real.maps[name]
                for fake_map, (_, real) in zip([values[i] for i in having], paired, strict=True)
            ]
            theirs = [real.maps[name] for _, real in paired]
            for key, these in (("change_auroc", change), ("partner_auroc", theirs)):
                found = metrics.map_metrics(these, [truth[i] for i in having], weights[:, having])
                pixel[name][key] = metrics.interval(found.rows["auroc"])
    default = rows[detector.scorer.settings.default_map]
    result: dict[str, Any] = {
        "pixel_differences": {
            name: {key: metrics.interval(default[key] - values) for key, values in rows[name].items()}
            for name in rows
            if name.startswith("baseline_")
        },
        "n_masked": len(masked),
        "pixel_prevalence": round(float(np.mean([m.mean() for m in truth])), 4),
        "default_map": detector.scorer.settings.default_map,
        "pixel": pixel,
        "dsc_threshold": f"{DSC_QUANTILE} quantile of the map over the normal pictures; best: chosen on the test masks",
    }
    if text_pairs and "pixelsnail" in [prior.kind for prior in detector.model.config.priors] and paired:
        some = [masked[i] for i, _ in paired[:text_pairs]]
        pixel["text_restoration"], text_rows = _text_map_metrics(detector, some)
        result["n_text_restoration"] = len(some)
        # On the same pairs and resamples: what stands above is over all pairs.
        truth = [mask for _, _, mask in some]
        of_some = metrics.resample_weights([fake.unit for fake, _, _ in some], None)
        for label, name in (("text_restoration", result["default_map"]), ("restoration_minus_text", "restoration")):
            if name not in names:
                continue
            ours = [fake.maps[name] for fake, _, _ in some]
            our_rows = metrics.map_metrics(ours, truth, of_some).rows
            result["pixel_differences"][label] = {
                key: metrics.interval(our_rows[key] - text_rows[key]) for key in ("auroc", "ap")
            }
    return result


def _text_map_metrics(
    detector: Detector, masked: list[tuple[ScoredSample, ScoredSample | None, np.ndarray]]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metrics of Marimont & Tarroni's map (PixelSNAIL, S = 15, lambda_p, weighted residual, pooled), and AUROC and AP
    on every resample."""
    fakes = text_restoration_maps(detector, [fake.path for fake, _, _ in masked])
    reals = text_restoration_maps(detector, [real.path for _, real, _ in masked if real is not None])
    truth = [mask for _, _, mask in masked]
    weights = metrics.resample_weights([fake.unit for fake, _, _ in masked], None)
    measured = metrics.map_metrics(fakes[0], truth, weights, level=float(np.quantile(reals[0], DSC_QUANTILE)))
    found: dict[str, Any] = measured.intervals()
    change = [a - b for a, b in zip(fakes[0], reals[0], strict=True)]
    for key, these in (("change_auroc", change), ("partner_auroc", reals[0])):
        found[key] = metrics.interval(metrics.map_metrics(these, truth, weights).rows["auroc"])
    found["replaced"] = round(float(np.mean(fakes[1])), 4)
    found["effective_restorations"] = round(float(np.mean(fakes[2])), 2)
    return found, measured.rows


def text_restoration_maps(
    detector: Detector, paths: Sequence[Path]
) -> tuple[list[np.ndarray], list[float], list[float]]:
    """Marimont & Tarroni's maps of pictures over the whole input at PIXEL_SIDE, the share of codes replaced, and the
    effective number of restorations."""
    maps: list[np.ndarray] = []
    replaced: list[float] = []
    effective: list[float] = []
    networks = torch_of(detector.scorer)
    for start in range(0, len(paths), TEXT_BATCH):
        samples = [_read(detector, path) for path in paths[start : start + TEXT_BATCH]]
        crops = stacked([sample.main.views for sample in samples], [sample.sha256 for sample in samples])
        with torch.no_grad():
            made = networks.reference_restored(networks.encoded(crops), crops.keys)
        for sample, residual in zip(samples, pooled(made.residual).cpu().numpy(), strict=True):
            whole = drawn_back(residual, sample.main.face.box, sample.shape)
            maps.append(cv2.resize(whole, (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA))
        replaced += made.replaced.tolist()
        effective += made.effective.tolist()
    return maps, replaced, effective


def _read(detector: Detector, path: Path) -> Sample:
    sample = detector.read(path, whole_without_face=True)
    if isinstance(sample, Finding):
        raise PixelsleuthError(f"{path}: it was there when it was scored, and is gone")
    return sample
