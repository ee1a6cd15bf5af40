"""What is fitted on healthy slices after the networks: thresholds and the atlas on train, p-values on calib."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pixelsleuth.errors import CalibrationError, PixelsleuthError
from pixelsleuth.models.folder import Model, load_model
from pixelsleuth.scoring.atlas import Atlas, fit_atlas, load_atlas
from pixelsleuth.scoring.calibration import SLICE, Calibration, map_quantiles, save_calibration
from pixelsleuth.scoring.maps import within
from pixelsleuth.scoring.measurements import volume_scores
from pixelsleuth.scoring.scorer import Crops, Scorer, Scores
from pixelsleuth.scoring.settings import (
    DETECTIVE,
    DETECTIVE_MAP,
    LAMBDA_P_QUANTILE,
    LAMBDA_S_QUANTILE,
    MAP_SCORE,
    ScoreSettings,
    settings_from_tree,
)
from pixelsleuth.sources.store import Store
from pixelsleuth.training.data import to_float

#: Slices scored together.
BATCH = 16
#: Fewest volumes to calibrate on: with them a rate of 10% can be promised.
FEWEST = 9
#: What of healthy slices a map may mark when it is made a segmentation.
MARKED = 0.005


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
    joined = {kind: np.concatenate(parts) for kind, parts in nll.items()}
    return ScoreSettings(
        default=DETECTIVE if learned else MAP_SCORE,
        # Where the sequence tells the sign, what was learnt and what is bright are independent evidence.
        default_map=("detective_x_brightness" if sign else DETECTIVE_MAP) if learned else "restoration",
        lambda_s={kind: float(np.quantile(v, LAMBDA_S_QUANTILE)) for kind, v in joined.items()},
        lambda_p={kind: float(np.quantile(v, LAMBDA_P_QUANTILE)) for kind, v in joined.items()},
        mean_nll={kind: float(v.mean()) for kind, v in joined.items()},
        sign=sign,
    ), atlas


def calibrate_slices(
    folder: Path, store_path: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Calibration:
    """Ranks the volumes of split `calib`: whole ones where all their slices are healthy, else one healthy slice of
    each, drawn by hash, for slices of one head are not exchangeable with those of others.

    Raises:
        PixelsleuthError: the store was prepared otherwise than the model's, or shares volumes with its training.
        CalibrationError: fewer than 9 volumes of split `calib`.
    """
    model = load_model(folder)
    settings = settings_from_tree(model.config.scoring)
    scorer = Scorer(model, settings, atlas=load_atlas(folder))
    with Store(store_path) as store:
        for key, value in model.config.preprocessing.items():
            if store.settings.get(key) != value:
                was = store.settings.get(key)
                raise PixelsleuthError(
                    f"{store_path}: prepared with {key} = {was}, the model wants {value}; prepare it again"
                )
        volumes = check_calibration_volumes(store)
        label = store.table["label"]
        healthy = all((label[rows] != "anomalous").all() for rows in volumes)
        units, slices, maps = [], [], []
        for number, rows in enumerate(volumes, 1):
            # The whole volume is examined, for its maps are pooled; what is anomalous in it is then left out.
            seen = scored(scorer, store, rows)
            normal = np.flatnonzero(label[rows] != "anomalous")
            one = normal[int(np.argmin(store.table["sha256"][rows][normal]))]
            values = seen.scores[settings.default]
            slices.append(float(values[one]))
            units.append(volume_scores(seen.scores)[settings.default] if healthy else float(values[one]))
            maps.append(seen.maps[settings.default_map][normal])
            progress(number, len(volumes))
        inside = np.concatenate([
            m[within(store.inside(r[label[r] != "anomalous"]))] for m, r in zip(maps, volumes, strict=True)
        ])  # fmt: skip
        sources = Counter(
            f"{Path(s).parent.name}/{Path(s).name}" for s in store.table["source"][np.concatenate(volumes)]
        )
    quantiles = map_quantiles(np.concatenate(maps))
    about = {
        "images": len(units), "unit": "volume" if healthy else SLICE, "sources": dict(sources),
        "maps": sum(map(len, maps)), "marked_from": float(np.quantile(inside, 1 - MARKED)),
    }  # fmt: skip
    scores = {"original": np.sort(units), SLICE: np.sort(slices)}
    calibration = Calibration(settings.default, scores, quantiles, np.zeros(0), "float32", model.sha256, about)
    # The largest excess of a volume: its regions are compared with volumes'.
    largest = np.sort([max(float(calibration.excess(one).max()) for one in block) for block in maps])
    calibration = Calibration(settings.default, scores, quantiles, largest, "float32", model.sha256, about)
    save_calibration(folder / "calibration.json", calibration)
    return calibration


def check_calibration_volumes(store: Store) -> list[np.ndarray]:
    """Rows of each calibration volume that has a healthy slice.

    Raises:
        CalibrationError: fewer than `FEWEST` volumes.
        PixelsleuthError: a volume stands in `calib` and in `train` or `val`.
    """
    rows = store.rows("calib", normal_only=False)
    group, label = store.table["group"], store.table["label"]
    names = list(dict.fromkeys(group[rows].tolist()))
    volumes = [rows[group[rows] == name] for name in names]
    volumes = [r for r in volumes if (label[r] != "anomalous").any()]
    if len(volumes) < FEWEST:
        raise CalibrationError(
            f"{store.path} has {len(volumes)} volumes of split 'calib', at least {FEWEST} are needed; put volumes "
            "into a folder named 'calib', or give at least 20 to train on, of which some will calibrate"
        )
    others = store.rows("train", "val", normal_only=False)
    for column in ("sha256", "group"):
        if set(store.table[column][others].tolist()) & set(store.table[column][rows].tolist()):
            raise PixelsleuthError(f"{store.path}: volumes stand in 'calib' and in 'train' or 'val'; prepare it again")
    return volumes


def scored(scorer: Scorer, store: Store, rows: np.ndarray) -> Scores:
    """The slices of one stored volume through the networks."""
    keys, position = store.table["sha256"][rows].tolist(), store.table["position"][rows]
    some = [slice(i, i + BATCH) for i in range(0, len(rows), BATCH)]
    batches = (Crops(store.pixels(rows[s]), keys[s], inside=store.inside(rows[s]), position=position[s]) for s in some)
    return scorer.score(batches, maps=False)
