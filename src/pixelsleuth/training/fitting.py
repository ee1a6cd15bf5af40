"""What is fitted on normal pictures after the networks: thresholds and adjustments on train, p-values on calib."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pixelsleuth.errors import CalibrationError, PixelsleuthError
from pixelsleuth.models.detective import DeepDetective
from pixelsleuth.models.folder import Model, load_config, load_model, save_config
from pixelsleuth.records import Surprise
from pixelsleuth.scoring.calibration import FEWEST, Calibration, save_calibration
from pixelsleuth.scoring.complexity import fit_adjustment
from pixelsleuth.scoring.examine import (
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
    TWO_WAY,
    Evidence,
    Examiner,
    ScoreSettings,
    Squares,
    judge_of,
    near_scores,
    raw_scores,
    settings_from_tree,
    stacked,
)
from pixelsleuth.sources.faces import NEAR_SIDE
from pixelsleuth.sources.images import decode
from pixelsleuth.sources.reencoding import REENCODINGS, cut_reencoded
from pixelsleuth.sources.store import Store
from pixelsleuth.sources.traits import traits_of
from pixelsleuth.training.data import balanced
from pixelsleuth.training.ranking import Ranked, ranked

#: Training pictures that thresholds and adjustments are fitted on.
FIT_ON = 3000
BATCH = 32
#: Fewest training pictures with a view from near that its adjustment is fitted on.
FEWEST_NEAR = 100
#: Most calibration pictures of one source where there are several.
MOST_OF_SOURCE = 500
#: What the default score of face models combines with the centre's smoothness; chosen on validation pictures (LOG.md).
FACE_COMBINATION = ("local_max", "mean_nll")
#: Of each prior's scores, those that are also given adjusted for complexity.
ADJUSTED = ("mean_nll", "nll_minus_entropy", "top_sixteenth")


def fit_scores(model: Model, store: Store, rows: np.ndarray, progress: Callable[[int, int], None]) -> ScoreSettings:
    """Thresholds lambda_s and lambda_p (quantiles over normal codes) and the adjustments for complexity, all on
    `rows`, pictures that the networks were trained on."""
    rows = _fitted_on(store, rows)
    examiner = Examiner(model, ScoreSettings())
    parts = []
    for start in range(0, len(rows), BATCH):
        parts.append(examiner.evidence(_squares(store, rows[start : start + BATCH], examiner)))
        progress(min(start + BATCH, len(rows)), len(rows))
    whole = joined(parts)
    nll = {kind: seen.nll.double().numpy() for kind, seen in whole.surprise.items()}
    settings = ScoreSettings(
        lambda_s={kind: float(np.quantile(v, LAMBDA_S_QUANTILE)) for kind, v in nll.items()},
        lambda_p={kind: float(np.quantile(v, LAMBDA_P_QUANTILE)) for kind, v in nll.items()},
        mean_nll={kind: float(v.mean()) for kind, v in nll.items()},
    )
    scores = raw_scores(whole, settings)
    if isinstance(model.detective, DeepDetective):
        scores[DETECTIVE_NEAR] = near_scores(whole)
    kind = judge_of(model.priors)
    # Mirror images mean something only to networks that were taught with them.
    if kind == "pixelsnail" and model.config.training["settings"]["prior_stage"]["augment"] != "none":
        kind = TWO_WAY
    names = [f"{kind}_{name}" for kind in model.priors for name in ADJUSTED]
    names += [
        *(f"{kind}_{name}" for name in FACE_COMBINATION),
        *(name for name in (CENTRE_AND_RIM, CENTRE_SMOOTHNESS, DETECTIVE) if name in scores),
    ]
    try:
        settings = replace(settings, adjusted={n: fit_adjustment(scores[n], whole.complexity) for n in names})
        settings = _fitted_views(settings, scores, whole.complexity)
    except ValueError:
        # Too few pictures to regress on: the raw score is all there is.
        return replace(settings, default=f"{kind}_local_max")
    if model.config.preprocessing["crop"] == "face":
        chosen = (*(f"{kind}_{name}_adjusted" for name in FACE_COMBINATION), f"{CENTRE_SMOOTHNESS}_adjusted")
        settings = replace(settings, default=COMBINED, combined=chosen)
        if model.detective is None:
            return settings
        track = DETECTIVE_VIEWS if settings.views_spread else f"{DETECTIVE}_adjusted"
        return replace(settings, default=BOTH_TRACKS, tracks=(COMBINED, track), default_map=DETECTIVE_MAP)
    # An edit changes complexity too. Where normal pictures are all alike in it, as scans or parts are, the adjustment
    # would explain the anomaly away.
    return replace(settings, default=f"{kind}_local_max")


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
    if there.sum() < FEWEST_NEAR:
        return settings
    near = fit_adjustment(scores[DETECTIVE_NEAR][there], features[there])
    far = settings.adjusted[f"{DETECTIVE}"]
    both = far(scores[DETECTIVE][there], features[there]) + near(scores[DETECTIVE_NEAR][there], features[there])
    return replace(settings, adjusted={**settings.adjusted, DETECTIVE_NEAR: near}, views_spread=float(both.std()))


def _squares(store: Store, rows: np.ndarray, examiner: Examiner) -> Squares:
    """Stored pictures as an examiner takes them."""
    sizes = examiner.sizes
    close = store.pixels(rows, sizes.close) if sizes.close != sizes.square else None
    which = np.array([i for i, row in enumerate(rows) if sizes.near and store.box(int(row)).width >= NEAR_SIDE], int)
    near = store.pixels(rows[which], sizes.near) if len(which) else None
    return Squares(store.pixels(rows), close, near, which if len(which) else None)


def joined(parts: list[Evidence]) -> Evidence:
    """Evidence of several batches as of one."""

    def surprise(pieces: list[Surprise]) -> Surprise:
        return Surprise(torch.cat([p.nll for p in pieces]), torch.cat([p.entropy for p in pieces]))

    return Evidence(
        torch.cat([p.codes for p in parts]),
        {kind: surprise([p.surprise[kind] for p in parts]) for kind in parts[0].surprise},
        surprise([p.rim for p in parts if p.rim is not None]) if parts[0].rim is not None else None,
        surprise([p.two_way for p in parts if p.two_way is not None]) if parts[0].two_way is not None else None,
        np.concatenate([p.smoothness for p in parts]),
        np.concatenate([p.complexity for p in parts]),
        None
        if parts[0].altered is None
        else (
            torch.cat([p.altered[0] for p in parts if p.altered is not None]),
            torch.cat([p.altered[1] for p in parts if p.altered is not None]),
        ),
        _joined_near(parts),
    )


def _joined_near(parts: list[Evidence]) -> tuple[np.ndarray, torch.Tensor, torch.Tensor] | None:
    first, found = 0, []
    for part in parts:
        if part.near is not None:
            found.append((part.near[0] + first, *part.near[1:]))
        first += len(part.smoothness)
    if not found:
        return None
    which, places, windows = zip(*found, strict=True)
    return np.concatenate(which), torch.cat(places), torch.cat(windows)


def save_scores(folder: Path, settings: ScoreSettings) -> None:
    """Writes fitted settings into a model folder's config.json."""
    save_config(folder, replace(load_config(folder), scoring=settings.as_tree()))


def one_of_each_group(store: Store, rows: np.ndarray) -> np.ndarray:
    """One row of each group, drawn by hash: frames of one video are not exchangeable with those of others. Rows
    without a group all stay."""
    kept: dict[str, int] = {}
    for row in rows:
        group = str(store.table["group"][row]) or f"\0{row}"
        if group not in kept or store.table["sha256"][row] < store.table["sha256"][kept[group]]:
            kept[group] = int(row)
    return np.array(sorted(kept.values()), int)


def check_calibration_rows(store: Store) -> np.ndarray:
    """Rows of the calibration pictures.

    Raises:
        CalibrationError: fewer than `FEWEST`.
        PixelsleuthError: a picture or a group stands in `calib` and in `train` or `val`.
    """
    rows = one_of_each_group(store, store.rows("calib"))
    if len(rows) < FEWEST:
        raise CalibrationError(
            f"{store.path} has {len(rows)} normal pictures of split 'calib' (one of each group counts), at least "
            f"{FEWEST} are needed; put pictures into a folder named 'calib'"
        )
    others = store.rows("train", "val")
    for column in ("sha256", "group"):
        seen = set(store.table[column][others].tolist()) - {""}
        if seen & set(store.table[column][rows].tolist()):
            what = "pictures" if column == "sha256" else "groups (videos, persons)"
            raise PixelsleuthError(f"{store.path}: {what} stand in 'calib' and in 'train' or 'val'; prepare it again")
    return rows


def evened_out(store: Store, rows: np.ndarray) -> np.ndarray:
    """The rows, of several sources at most `MOST_OF_SOURCE` each, those with the lowest SHA-256: one large source would
    otherwise speak for all."""
    sources = np.array(store.sources(rows))
    if len(set(sources.tolist())) == 1:
        return rows
    kept = []
    for name in sorted(set(sources.tolist())):
        here = rows[sources == name]
        kept.append(here[np.argsort(store.table["sha256"][here])][:MOST_OF_SOURCE])
    return np.sort(np.concatenate(kept))


def calibrate(
    folder: Path,
    store_path: Path,
    *,
    dtype: str = "float32",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Ranks the pictures of split `calib` and writes `calibration.json` into the model folder.

    Raises:
        PixelsleuthError: the store was prepared otherwise than the model's, or shares pictures with its training.
        CalibrationError: fewer than 19 pictures of split `calib`.
    """
    if dtype not in ("float32", "bfloat16"):
        raise PixelsleuthError(f"expected float32 or bfloat16, got {dtype!r}", "dtype")
    model = load_model(folder)
    examiner = Examiner(model, settings_from_tree(model.config.scoring), dtype)
    with Store(store_path) as store:
        wrong = {k: v for k, v in model.config.preprocessing.items() if store.settings.get(k) != v}
        if wrong:
            key, value = next(iter(wrong.items()))
            was = store.settings.get(key)
            raise PixelsleuthError(
                f"{store_path}: prepared with {key} = {was}, the model wants {value}; prepare it again"
            )
        rows = np.random.default_rng(0).permutation(evened_out(store, check_calibration_rows(store)))

        def batches() -> Iterator[Ranked]:
            for start in range(0, len(rows), BATCH):
                yield _ranked_rows(store, rows[start : start + BATCH], examiner)
                progress(min(start + BATCH, len(rows)), len(rows))

        calibration = ranked(model, dtype, batches())
    save_calibration(folder / "calibration.json", calibration)
    return calibration


def _ranked_rows(store: Store, rows: np.ndarray, examiner: Examiner) -> Ranked:
    """Stored pictures as they are ranked."""
    squares = _squares(store, rows, examiner)
    encoded = [store.encoded(int(row)) for row in rows]
    boxes = [store.box(int(row)) for row in rows]
    pixels = [decode(data).pixels for data in encoded]
    reencoded = {
        name: stacked([cut_reencoded(p, box, examiner.sizes, name) for p, box in zip(pixels, boxes, strict=True)])
        for name in REENCODINGS
    }
    traits = [
        traits_of(square, box.width, data, store.points(int(row)))
        for square, box, data, row in zip(squares.square, boxes, encoded, rows, strict=True)
    ]
    return Ranked(
        squares, reencoded, store.table["sha256"][rows].tolist(), store.sources(rows), np.stack(traits),
        [f"{int(h):016x}" for h in store.table["phash"][rows]],
    )  # fmt: skip
