"""Calibrate a model on split `calib` of a store: what no network was trained on and others are ranked among."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.shards import Places
from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.files import claimed
from pixelsleuth.models.checkpoint import load_model
from pixelsleuth.scoring.atlas import load_atlas
from pixelsleuth.scoring.calibration import Calibration, save_calibration
from pixelsleuth.scoring.networks import torch_scorer
from pixelsleuth.scoring.settings import settings_from_tree
from pixelsleuth.sources.duplicates import load_hashes, of_file
from pixelsleuth.training.regimes import regime_of


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
        PixelsleuthError: the store was prepared otherwise than the model's, or calibrates with inputs that it trains
            on, or with images that the model was trained on; a source of `without` has no image there, or the store
            holds volumes.
        CalibrationError: too few images or volumes of split `calib`.
    """
    if dtype not in ("float32", "bfloat16"):
        raise PixelsleuthError(f"expected float32 or bfloat16, got {dtype!r}", "dtype")
    model = load_model(folder)
    with claimed(folder), Store(places) as store:
        regime = regime_of(store)
        if dtype not in regime.dtypes:
            raise PixelsleuthError(
                f"models for {regime.inputs} are calibrated in {' or '.join(regime.dtypes)} alone", "dtype"
            )
        wrong = {k: v for k, v in model.config.preprocessing.items() if store.settings.get(k) != v}
        if wrong:
            key, value = next(iter(wrong.items()))
            was = store.settings.get(key)
            raise PixelsleuthError(
                f"{store.path}: prepared with {key} = {was}, the model wants {value}; prepare it again"
            )
        atlas = load_atlas(folder) if regime.atlas else None
        scorer = torch_scorer(model, settings_from_tree(model.config.scoring), dtype, atlas)
        units = regime.units(store)
        check_unlearned(folder, store, np.concatenate(units))
        calibration = regime.rank(scorer, store, units, without, progress)
        save_calibration(folder / "calibration.json", calibration)
    return calibration


def check_unlearned(folder: Path, store: Store, rows: np.ndarray) -> None:
    """Raise PixelsleuthError where one of the rows is a file that the networks learned from, as far as that is known:
    of another store than the model's own its splits do not tell."""
    files = [of_file(sha256) for sha256 in store.table.at("sha256", rows).tolist()]
    learned = int(np.isin(np.array(files, np.uint64), load_hashes(folder).files).sum())
    if learned:
        raise PixelsleuthError(
            f"{store.path}: {learned:,} of {len(rows):,} calibration images are ones that the networks were trained "
            "on; prepare it again without them"
        )
