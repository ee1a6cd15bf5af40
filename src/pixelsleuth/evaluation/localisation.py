"""Measure how well maps show where an input was altered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evaluation import metrics
from pixelsleuth.evaluation.metrics import MapMetrics
from pixelsleuth.evaluation.samples import PIXEL_SIDE, ScoredSample, folder_of
from pixelsleuth.records import Finding
from pixelsleuth.scoring.maps import centre_prior
from pixelsleuth.scoring.networks import torch_of
from pixelsleuth.scoring.restoration import pooled
from pixelsleuth.scoring.scorer import stacked
from pixelsleuth.sources.faces import drawn_back
from pixelsleuth.sources.images import find_images, read_picture
from pixelsleuth.sources.samples import Sample
from pixelsleuth.synthesis.anomalies import partner_mask

#: Pairs on which the map of Marimont & Tarroni 2021 (PixelSNAIL, S = 15) is measured.
TEXT_PAIRS = 50
TEXT_BATCH = 8
#: A map calls a pixel anomalous above this quantile of its values on the normal pictures.
DSC_QUANTILE = 0.95


def measure_maps(
    cases: Sequence[ScoredSample],
    names: Iterable[str],
    levels: Mapping[str, float],
    quantiles: np.ndarray = metrics.EVEN,
    all_pixels_of: int | None = 64,
) -> dict[str, MapMetrics]:
    """Compare the maps of samples with their masks, by the map's name; samples are resampled by unit.

    Args:
        levels: of the maps for which Dice coefficients are taken: above it a pixel is called anomalous.
        quantiles, all_pixels_of: see `metrics.pixel_edges`.
    """
    weights = metrics.resample_weights([case.unit for case in cases], None)
    truth = [case.marked() for case in cases]
    found = {}
    for name in names:
        values = [case.values(name) for case in cases]
        edges = metrics.pixel_edges(values, quantiles, all_pixels_of)
        found[name] = metrics.map_metrics(values, truth, weights, edges, levels.get(name))
    return found


def map_differences(
    measured: Mapping[str, MapMetrics], first: str, others: Iterable[str]
) -> dict[str, dict[str, metrics.Interval]]:
    """Subtract the figures of the other maps from those of the first, on the same resamples."""
    ours = measured[first].rows
    return {
        name: {key: metrics.interval(ours[key] - row) for key, row in measured[name].rows.items() if key in ours}
        for name in others
    }


def read_masks(folder: Path, anomalous: Path, paths: Iterable[Path]) -> dict[Path, np.ndarray]:
    """Read the masks of images below `anomalous`: by the image's path, (PIXEL_SIDE, PIXEL_SIDE) bool.

    They match by relative path without suffix. Not 0 is altered; what is transparent is not.

    Raises:
        PixelsleuthError: no image has a mask, or one has two; a mask cannot be read; or nothing could be measured by
            them, since they mark nothing, or everything.
    """
    files: dict[str, list[Path]] = {}
    for file in find_images(folder):
        files.setdefault(file.relative_to(folder).with_suffix("").as_posix(), []).append(file)
    root = folder_of(anomalous)
    found: dict[Path, np.ndarray] = {}
    for path in paths:
        name = path.relative_to(root).with_suffix("").as_posix() if path.is_relative_to(root) else ""
        there = files.get(name, [])
        if len(there) > 1:
            raise PixelsleuthError(
                f"{there[0]} and {there[1].name}: expected one mask of {path.name}, got two", "masks"
            )
        if there:
            found[path] = _mask(there[0])
    if not found:
        raise PixelsleuthError(
            f"{folder}: none of its {len(files)} images is named like one of {anomalous}; a mask has the relative path "
            "of its image, without suffix",
            "masks",
        )
    if not tells_pixels_apart(found.values()):
        what = "everything" if next(iter(found.values())).any() else "nothing"
        raise PixelsleuthError(
            f"{folder}: expected masks that mark a part of their images; at {PIXEL_SIDE} px the {len(found)} here mark "
            f"{what}",
            "masks",
        )
    return found


def _mask(file: Path) -> np.ndarray:
    try:
        # Editors save what is not painted over as transparent, of any colour.
        grey = read_picture(file, ground="black").pixels.max(2)
    except InputError as error:
        raise PixelsleuthError(f"{file}: {error.sentence}", "masks") from error
    return np.asarray(cv2.resize((grey > 0).astype(np.float32), (PIXEL_SIDE,) * 2, interpolation=cv2.INTER_AREA) > 0.5)


def tells_pixels_apart(masks: Iterable[np.ndarray]) -> bool:
    """Whether there are pixels that are marked, and others that are not: without both no figure of maps is defined."""
    masks = list(masks)
    return any(mask.any() for mask in masks) and not all(mask.all() for mask in masks)


def masked_cases(
    cases: Sequence[ScoredSample],
    pairs: Sequence[tuple[ScoredSample, ScoredSample]],
    masks: Mapping[Path, np.ndarray] | None,
) -> Iterator[ScoredSample]:
    """The mapped anomalous images with a mask, as `truth` at PIXEL_SIDE, and their partners. No video has a map of its
    own.

    Args:
        masks: as `read_masks` gives them; None: those that the partners of `pairs` tell.
    """
    if masks is not None:
        partner = {fake.path: real for fake, real in pairs if real.maps}
        for case in cases:
            if case.maps and case.path in masks:
                yield replace(case, truth=masks[case.path], partner=partner.get(case.path))
        return
    for fake, real in pairs:
        if fake.maps and real.maps:
            mask = partner_mask(read_picture(fake.path).pixels, read_picture(real.path).pixels, PIXEL_SIDE)
            if mask is not None:
                yield replace(fake, truth=mask, partner=real)


def pixel_metrics(
    detector: Detector, masked: Sequence[ScoredSample], normal: Sequence[ScoredSample], text_pairs: int
) -> dict[str, Any]:
    """Measure `pixel` and what goes with it: each map against the masks, its fake-minus-partner change, and the
    partner's own map against the fake's mask, which tells how much of a figure is position alone.

    Args:
        masked: images with a mask; normal: those whose maps give the levels above which a pixel is called anomalous;
            without any, maps have no `dsc`.
    """
    default = detector.scorer.settings.default_map
    names = list(masked[0].maps)
    centre = centre_prior(PIXEL_SIDE)
    levels = {name: float(np.quantile([case.maps[name] for case in normal], DSC_QUANTILE)) for name in names if normal}
    levels["baseline_centre"] = float(np.quantile(centre, 0.8))
    drawn = [replace(case, maps={**case.maps, "baseline_centre": centre}) for case in masked]
    measured = measure_maps(drawn, [*names, "baseline_centre"], levels)
    pixel: dict[str, Any] = {name: found.intervals() for name, found in measured.items()}
    weights = metrics.resample_weights([case.unit for case in masked], None)
    for name in names:
        pixel[name] |= _against_partners(masked, name, weights)
    result: dict[str, Any] = {
        "pixel_differences": map_differences(measured, default, (n for n in measured if n.startswith("baseline_"))),
        "n_masked": len(masked),
        "pixel_prevalence": round(float(np.mean([case.truth.mean() for case in masked])), 4),
        "default_map": default,
        "pixel": pixel,
        "dsc_threshold": f"{DSC_QUANTILE} quantile of the map over the normal pictures; best: chosen on the test masks",
    }
    some = [case for case in masked if case.partner is not None][:text_pairs]
    if tells_pixels_apart(case.truth for case in some) and "pixelsnail" in [
        prior.kind for prior in detector.model.config.priors
    ]:
        pixel["text_restoration"], differences = _text_metrics(detector, some, default)
        result["n_text_restoration"] = len(some)
        result["pixel_differences"] |= differences
    return result


def _against_partners(cases: Sequence[ScoredSample], name: str, weights: np.ndarray) -> dict[str, metrics.Interval]:
    """AUROC of a map minus the partner's, and of the partner's own map, of the samples that have a partner; (R, n)
    weights of all."""
    paired = [(case, case.partner) for case in cases if case.partner is not None]
    if not tells_pixels_apart(case.truth for case, _ in paired):
        return {}
    weights = weights[:, [case.partner is not None for case in cases]]
    truth = [case.marked() for case, _ in paired]
    change = [fake.values(name) - real.values(name) for fake, real in paired]
    theirs = [real.values(name) for _, real in paired]
    return {
        key: metrics.interval(metrics.map_metrics(values, truth, weights).rows["auroc"])
        for key, values in (("change_auroc", change), ("partner_auroc", theirs))
    }


def _text_metrics(
    detector: Detector, masked: Sequence[ScoredSample], default: str
) -> tuple[dict[str, Any], dict[str, dict[str, metrics.Interval]]]:
    """Metrics of Marimont & Tarroni's map (PixelSNAIL, S = 15, lambda_p, weighted residual, pooled) on samples with a
    partner, and differences to it on the same samples and resamples: what other maps have is over all pairs."""
    name = "text_restoration"
    fakes, replaced, effective = text_restoration_maps(detector, [case.path for case in masked])
    pairs = [(case, case.partner) for case in masked if case.partner is not None]
    reals, _, _ = text_restoration_maps(detector, [real.path for _, real in pairs])
    drawn = [
        replace(case, maps={**case.maps, name: theirs}, partner=replace(real, maps={**real.maps, name: own}))
        for (case, real), theirs, own in zip(pairs, fakes, reals, strict=True)
    ]
    rivals = {name: default, "restoration_minus_text": "restoration"}
    rivals = {label: rival for label, rival in rivals.items() if rival in masked[0].maps}
    measured = measure_maps(drawn, {name, *rivals.values()}, {name: float(np.quantile(reals, DSC_QUANTILE))})
    weights = metrics.resample_weights([case.unit for case in drawn], None)
    found: dict[str, Any] = measured[name].intervals() | _against_partners(drawn, name, weights)
    found["replaced"] = round(float(np.mean(replaced)), 4)
    found["effective_restorations"] = round(float(np.mean(effective)), 2)
    return found, {label: map_differences(measured, rival, [name])[name] for label, rival in rivals.items()}


def text_restoration_maps(
    detector: Detector, paths: Sequence[Path]
) -> tuple[list[np.ndarray], list[float], list[float]]:
    """Make Marimont & Tarroni's maps of images over the whole input at PIXEL_SIDE; give also the share of codes
    replaced, and the effective number of restorations."""
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
