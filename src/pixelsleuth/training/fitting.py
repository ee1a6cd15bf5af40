"""Fit what follows the networks on normal images or slices: thresholds on train, p-values on calib."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pixelsleuth.datasets.shards import Places
from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import CalibrationError, PixelsleuthError
from pixelsleuth.files import claimed
from pixelsleuth.models.checkpoint import Model, load_model
from pixelsleuth.models.configuration import load_config, save_config
from pixelsleuth.models.detective import DeepDetective
from pixelsleuth.scoring.atlas import Atlas, fit_atlas, load_atlas
from pixelsleuth.scoring.calibration import MIN_CALIBRATION, Calibration, save_calibration
from pixelsleuth.scoring.complexity import fit_adjustment
from pixelsleuth.scoring.measurements import joined, near_scores, raw_scores
from pixelsleuth.scoring.networks import TorchNetworks, torch_scorer
from pixelsleuth.scoring.scorer import Crops, Scorer, stacked
from pixelsleuth.scoring.settings import (
    BOTH_TRACKS,
    CENTRE_AND_RIM,
    CENTRE_SMOOTHNESS,
    COMBINED,
    DETECTIVE,
    DETECTIVE_MAP,
    DETECTIVE_NEAR,
    DETECTIVE_VIEWS,
    LAMBDA_P_QUANTILE,
    LAMBDA_S_QUANTILE,
    MAP_SCORE,
    TWO_WAY,
    ScoreSettings,
    scoring_prior,
    settings_from_tree,
)
from pixelsleuth.sources.duplicates import perceptual_hash
from pixelsleuth.sources.faces import NEAR_SIDE
from pixelsleuth.sources.images import decode
from pixelsleuth.sources.reencoding import REENCODINGS, cut_reencoded
from pixelsleuth.sources.traits import traits_of
from pixelsleuth.training.data import balanced, to_float
from pixelsleuth.training.ranking import CalibrationBatch, ranked, ranked_volumes
from pixelsleuth.training.units import image_units, volume_units

#: Training pictures that thresholds and adjustments are fitted on.
FIT_ON = 3000
BATCH = 32
#: Smallest number of training images with a close view that its adjustment is fitted on.
MIN_NEAR = 100
#: Largest number of calibration images of one source where there are several.
MAX_PER_SOURCE = 500
#: What the default score of face models combines with the centre's smoothness; chosen on validation pictures (LOG.md).
FACE_COMBINATION = ("local_max", "mean_nll")
#: Weights of codes and detective in their sum. On pictures that it was not taught on, the detective's score spreads
#: about 1.4 times as far as on those it was taught on, where its spread is fitted (LOG.md).
TRACK_WEIGHTS = (1.0, 0.7)
#: Of each prior's scores, those that are also given adjusted for complexity.
ADJUSTED = ("mean_nll", "nll_minus_entropy", "top_sixteenth")


def fit_scores(model: Model, store: Store, rows: np.ndarray, progress: Callable[[int, int], None]) -> ScoreSettings:
    """Thresholds lambda_s and lambda_p (quantiles over normal codes) and the adjustments for complexity, all on
    `rows`, pictures that the networks were trained on."""
    rows = _fitted_on(store, rows)
    networks = TorchNetworks(model, ScoreSettings())
    scorer = Scorer(networks)
    parts = []
    for start in range(0, len(rows), BATCH):
        parts.append(networks.measure(crops_of(store, rows[start : start + BATCH], scorer)))
        progress(min(start + BATCH, len(rows)), len(rows))
    whole = joined(parts)
    settings = thresholds({kind: seen.nll.double().numpy() for kind, seen in whole.surprise.items()})
    scores, features = raw_scores(whole, settings), whole.complexity
    assert features is not None, "images have complexity"
    if isinstance(model.detective, DeepDetective):
        scores[DETECTIVE_NEAR] = near_scores(whole).double().cpu().numpy()
    kind = scoring_prior(model.priors)
    # Mirror images mean something only to networks that were taught with them.
    if kind == "pixelsnail" and model.config.training["settings"]["prior_stage"]["augment"] != "none":
        kind = TWO_WAY
    names = [f"{kind}_{name}" for kind in model.priors for name in ADJUSTED]
    names += [
        *(f"{kind}_{name}" for name in FACE_COMBINATION),
        *(name for name in (CENTRE_AND_RIM, CENTRE_SMOOTHNESS, DETECTIVE) if name in scores),
    ]
    try:
        settings = replace(settings, adjusted={n: fit_adjustment(scores[n], features) for n in names})
        settings = _fitted_views(settings, scores, features)
    except ValueError:
        # Too few pictures to regress on: the raw score is all there is.
        return replace(settings, default=f"{kind}_local_max")
    if model.config.preprocessing["crop"] == "face":
        chosen = (*(f"{kind}_{name}_adjusted" for name in FACE_COMBINATION), f"{CENTRE_SMOOTHNESS}_adjusted")
        settings = replace(settings, default=COMBINED, combined=chosen)
        if model.detective is None:
            return settings
        track = DETECTIVE_VIEWS if settings.views_spread else f"{DETECTIVE}_adjusted"
        return replace(
            settings, default=BOTH_TRACKS, tracks=(COMBINED, track), track_weights=TRACK_WEIGHTS,
            default_map=DETECTIVE_MAP,
        )  # fmt: skip
    # An edit changes complexity too. Where normal pictures are all alike in it, as scans or parts are, the adjustment
    # would explain the anomaly away.
    return replace(settings, default=f"{kind}_local_max")


def fit_slices(model: Model, store: Store, rows: np.ndarray, sign: int, learned: bool) -> tuple[ScoreSettings, Atlas]:
    """Thresholds lambda_s and lambda_p (quantiles over codes of healthy training slices), defaults, and the atlas.

    Args:
        learned: whether the model has, or will have, a detective; it may see the atlas, so it is taught after this.
    """
    nll: dict[str, list[np.ndarray]] = {kind: [] for kind in model.priors}
    first = next(iter(model.priors))
    position = store.table["position"][rows]

    @torch.no_grad()
    def slices(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = to_float(torch.from_numpy(store.pixels(rows[numbers])))
        scalars = torch.from_numpy(position[numbers].astype(np.float32))[:, None]
        codes = model.encode(image, scalars)
        seen = {kind: model.surprise(kind, codes, scalars) for kind in model.priors}
        for kind, one in seen.items():
            nll[kind].append(one.nll.numpy().ravel())
        return image[:, 0].numpy(), (seen[first].nll - seen[first].entropy).numpy()

    atlas = fit_atlas(slices, position)
    settings = thresholds({kind: np.concatenate(parts) for kind, parts in nll.items()})
    # Where the sequence tells the sign, what was learnt and what is bright are independent evidence.
    learned_map = "detective_x_brightness" if sign else DETECTIVE_MAP
    default, default_map = (DETECTIVE, learned_map) if learned else (MAP_SCORE, "restoration")
    return replace(settings, default=default, default_map=default_map, sign=sign), atlas


def thresholds(nll: dict[str, np.ndarray]) -> ScoreSettings:
    """lambda_s, lambda_p and the mean of each prior's negative log-likelihoods of normal training codes, in nats."""
    return ScoreSettings(
        lambda_s={kind: float(np.quantile(values, LAMBDA_S_QUANTILE)) for kind, values in nll.items()},
        lambda_p={kind: float(np.quantile(values, LAMBDA_P_QUANTILE)) for kind, values in nll.items()},
        mean_nll={kind: float(values.mean()) for kind, values in nll.items()},
    )


def _fitted_on(store: Store, rows: np.ndarray) -> np.ndarray:
    """At most `FIT_ON` of the rows; of several sources each in proportion to the root of its size."""
    if len(rows) <= FIT_ON:
        return rows
    sources = store.sources(rows)
    if len(set(sources)) == 1:
        return rows[np.linspace(0, len(rows) - 1, FIT_ON).astype(int)]
    return np.sort(np.random.default_rng(0).choice(rows, FIT_ON, replace=False, p=balanced(sources, 0.5)))


def _fitted_views(settings: ScoreSettings, scores: dict[str, np.ndarray], features: np.ndarray) -> ScoreSettings:
    """The adjustment of the view from near, and the spread of both views' sum, on the pictures that have one; unchanged
    where they are too few."""
    there = np.isfinite(scores[DETECTIVE_NEAR]) if DETECTIVE_NEAR in scores else np.zeros(0, bool)
    if there.sum() < MIN_NEAR:
        return settings
    near = fit_adjustment(scores[DETECTIVE_NEAR][there], features[there])
    far = settings.adjusted[f"{DETECTIVE}"]
    both = far(scores[DETECTIVE][there], features[there]) + near(scores[DETECTIVE_NEAR][there], features[there])
    return replace(settings, adjusted={**settings.adjusted, DETECTIVE_NEAR: near}, views_spread=float(both.std()))


def crops_of(store: Store, rows: np.ndarray, scorer: Scorer) -> Crops:
    """Stored images as a scorer takes them."""
    sizes = scorer.sizes
    close = store.pixels(rows, sizes.close) if sizes.close != sizes.square else None
    which = np.array([i for i, row in enumerate(rows) if sizes.near and store.box(int(row)).width >= NEAR_SIDE], int)
    near = store.pixels(rows[which], sizes.near) if len(which) else None
    keys = store.table.at("sha256", rows).tolist()
    return Crops(store.pixels(rows), keys, close, near, which if len(which) else None)


def save_scores(folder: Path, settings: ScoreSettings) -> None:
    """Write fitted settings into a model folder's config.json."""
    save_config(folder, replace(load_config(folder), scoring=settings.as_tree()))


def calibration_units(store: Store) -> list[np.ndarray]:
    """The rows that are ranked as one unit, see training.units."""
    return volume_units(store) if store.holds_volumes else image_units(store)


def evened_out(store: Store, rows: np.ndarray) -> np.ndarray:
    """The rows, of several sources at most `MAX_PER_SOURCE` each, those with the lowest SHA-256: one large source would
    otherwise speak for all."""
    sources = np.array(store.sources(rows))
    if len(set(sources.tolist())) == 1:
        return rows
    kept = []
    for name in sorted(set(sources.tolist())):
        here = rows[sources == name]
        kept.append(here[np.argsort(store.table.at("sha256", here))][:MAX_PER_SOURCE])
    return np.sort(np.concatenate(kept))


def calibrate(
    folder: Path,
    places: Places,
    *,
    dtype: str = "float32",
    without: Collection[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Rank the images or volumes of split `calib` and write `calibration.json` into the model folder.

    Args:
        without: sources of images that are not ranked, to see what a source gets that the calibration does not know.

    Raises:
        PixelsleuthError: the store was prepared otherwise than the model's, or shares inputs with its training; a
            source of `without` has no image there, or the store holds volumes.
        CalibrationError: too few images or volumes of split `calib`.
    """
    if dtype not in ("float32", "bfloat16"):
        raise PixelsleuthError(f"expected float32 or bfloat16, got {dtype!r}", "dtype")
    model = load_model(folder)
    with claimed(folder), Store(places) as store:
        if store.holds_volumes and without:
            raise PixelsleuthError("sources are left out of images alone", "without")
        if store.holds_volumes and dtype != "float32":
            raise PixelsleuthError("models for volumes are calibrated in float32 alone", "dtype")
        wrong = {k: v for k, v in model.config.preprocessing.items() if store.settings.get(k) != v}
        if wrong:
            key, value = next(iter(wrong.items()))
            was = store.settings.get(key)
            raise PixelsleuthError(
                f"{store.path}: prepared with {key} = {was}, the model wants {value}; prepare it again"
            )
        units = calibration_units(store)
        atlas = load_atlas(folder) if store.holds_volumes else None
        scorer = torch_scorer(model, settings_from_tree(model.config.scoring), dtype, atlas)
        if store.holds_volumes:
            calibration = ranked_volumes(scorer, store, units, progress)
        else:
            rows = evened_out(store, np.concatenate(units))
            rows = _without(store, rows, without)
            rows = np.random.default_rng(0).permutation(rows)
            calibration = ranked(scorer, _batches(store, rows, scorer, progress))
        save_calibration(folder / "calibration.json", calibration)
    return calibration


def _without(store: Store, rows: np.ndarray, names: Collection[str]) -> np.ndarray:
    """The rows of other sources. A name that is not there would leave its source in, unseen."""
    sources = np.array(store.sources(rows))
    if unknown := set(names) - set(sources.tolist()):
        raise PixelsleuthError(f"expected sources of {store.path}, got {', '.join(sorted(unknown))}", "without")
    kept = rows[~np.isin(sources, list(names))]
    if len(kept) < MIN_CALIBRATION:
        raise CalibrationError(
            f"{store.path} has {len(kept)} images without these sources, {MIN_CALIBRATION} are needed"
        )
    return kept


def _batches(
    store: Store, rows: np.ndarray, scorer: Scorer, progress: Callable[[int, int], None]
) -> Iterator[CalibrationBatch]:
    for start in range(0, len(rows), BATCH):
        yield _ranked_rows(store, rows[start : start + BATCH], scorer)
        progress(min(start + BATCH, len(rows)), len(rows))


def _ranked_rows(store: Store, rows: np.ndarray, scorer: Scorer) -> CalibrationBatch:
    """Stored images as they are ranked."""
    crops = crops_of(store, rows, scorer)
    encoded = [store.encoded(int(row)) for row in rows]
    boxes = [store.box(int(row)) for row in rows]
    pixels = [decode(data).pixels for data in encoded]
    reencoded = {}
    for name in REENCODINGS:
        views = [cut_reencoded(p, box, scorer.sizes, name) for p, box in zip(pixels, boxes, strict=True)]
        reencoded[name] = stacked(views, crops.keys)
    traits = [
        traits_of(square, box.width, data, store.points(int(row)))
        for square, box, data, row in zip(crops.square, boxes, encoded, rows, strict=True)
    ]
    pictures = [f"{int(perceptual_hash(p)):016x}" for p in pixels]
    return CalibrationBatch(crops, reencoded, store.sources(rows), np.stack(traits), pictures)
