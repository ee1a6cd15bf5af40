"""Fit what follows the networks on normal training images or slices: thresholds, adjustments, the atlas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pixelsleuth.datasets.store import Store
from pixelsleuth.models.checkpoint import Model, load_model
from pixelsleuth.models.configuration import find_model, load_config, save_config
from pixelsleuth.models.detective import DeepDetective
from pixelsleuth.scoring.atlas import Atlas, fit_atlas, save_atlas
from pixelsleuth.scoring.complexity import fit_adjustment
from pixelsleuth.scoring.measurements import joined, near_scores, raw_scores
from pixelsleuth.scoring.networks import TorchNetworks
from pixelsleuth.scoring.scorer import Crops, Scorer
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
)
from pixelsleuth.sources.duplicates import (
    NO_HASHES,
    TRAINED_ON,
    Hashes,
    load_hashes,
    of_file,
    perceptual_hash,
    save_hashes,
)
from pixelsleuth.sources.faces import NEAR_SIDE
from pixelsleuth.sources.images import decode
from pixelsleuth.training.data import balanced, to_float
from pixelsleuth.training.presets import Settings

#: Training pictures that thresholds and adjustments are fitted on.
FIT_ON = 3000
BATCH = 32
#: Smallest number of training images with a close view that its adjustment is fitted on.
MIN_NEAR = 100
#: What the default score of face models combines with the centre's smoothness; chosen on validation pictures (LOG.md).
FACE_COMBINATION = ("local_max", "mean_nll")
#: Weights of codes and detective in their sum. On pictures that it was not taught on, the detective's score spreads
#: about 1.4 times as far as on those it was taught on, where its spread is fitted (LOG.md).
TRACK_WEIGHTS = (1.0, 0.7)
#: Of each prior's scores, those that are also given adjusted for complexity.
ADJUSTED = ("mean_nll", "nll_minus_entropy", "top_sixteenth")


def fit_image_scores(folder: Path, store: Store, rows: np.ndarray, settings: Settings) -> None:
    """Fit the scores of a model on `rows`, images that its priors were trained on, and write them into its folder, with
    hashes of all that it was trained on."""
    save_scores(folder, fit_scores(load_model(folder), store, rows, lambda done, total: None))
    own = _hashes(store, store.rows("train"))
    # What the networks begin with learned, they know.
    begun = load_hashes(find_model(settings.init)[0]) if settings.init else NO_HASHES
    files, first = np.unique(np.concatenate([own.files, begun.files]), return_index=True)
    save_hashes(folder / TRAINED_ON, Hashes(files, np.concatenate([own.looks, begun.looks])[first]))


def fit_scan_scores(folder: Path, store: Store, rows: np.ndarray, settings: Settings) -> None:
    """Fit the atlas and the scores of a model on `rows`, slices that its priors were trained on, and write them into
    its folder."""
    learned = bool(settings.detective_stage.epochs)
    fitted, atlas = fit_slices(load_model(folder), store, rows, settings.sign, learned)
    save_atlas(folder, atlas)
    save_scores(folder, fitted)


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
        codes = model.vqvae.encode(image, scalars)
        seen = {kind: prior.log_prob(codes, scalars) for kind, prior in model.priors.items()}
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


def _hashes(store: Store, rows: np.ndarray) -> Hashes:
    """Of the images of `rows`, so that none of them is taken for calibration later."""
    looks = [perceptual_hash(decode(store.encoded(int(row))).pixels) for row in rows]
    files = [of_file(sha256) for sha256 in store.table.at("sha256", rows).tolist()]
    return Hashes(np.array(files, np.uint64), np.array(looks, np.uint64))
