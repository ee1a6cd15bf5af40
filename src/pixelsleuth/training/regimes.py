"""How a model is trained on images, and how on scans.

`regime_of` alone asks which of them a store holds; what differs is read from the record that it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.models.checkpoint import Model
from pixelsleuth.scoring.atlas import load_atlas
from pixelsleuth.scoring.calibration import Calibration
from pixelsleuth.scoring.scorer import Scorer
from pixelsleuth.synthesis.anomalies import KINDS
from pixelsleuth.synthesis.lesions import KINDS as LESIONS
from pixelsleuth.training.fitting import fit_image_scores, fit_scan_scores
from pixelsleuth.training.forging import Forged, forge
from pixelsleuth.training.presets import Settings
from pixelsleuth.training.ranking import ranked_images, ranked_volumes
from pixelsleuth.training.units import image_units, volume_units
from pixelsleuth.training.volume_forging import forge_slices

#: Fits scores in a model folder, given the store, the (n,) rows that priors were trained on, and the settings.
Fit = Callable[[Path, Store, np.ndarray, Settings], None]
Forge = Callable[[Path, Model, Store, np.ndarray, Settings], Forged]
Rank = Callable[[Scorer, Store, Sequence[np.ndarray], Collection[str], Callable[[int, int], None]], Calibration]


@dataclass(frozen=True)
class Regime:
    """What training and calibration do in one way for images and in another for scans.

    Attributes:
        inputs: what they are called in sentences.
        preset: the one that suits them, taken where none is named.
        advised: fewest training rows that go without a warning.
        channels: of the stored squares.
        scalars: how many a network may be given as context: the position of a slice.
        atlas: whether there is one, which a detective may see.
        forgeries: kinds that a light detective can be taught.
        dtypes: in which the networks may run to calibrate.
        forge: makes pairs of training rows, with the networks of a model folder as far as they are trained.
        before_detective, after_detective: fit and write what follows the networks; one of the two does nothing.
        units: collects the rows that are ranked as one, see training.units. Raises CalibrationError for too few.
        rank: scores these units and makes a calibration of them, without some sources. Raises PixelsleuthError for
            sources that cannot be left out.
    """

    inputs: str
    preset: str
    advised: int
    channels: int
    scalars: int
    atlas: bool
    forgeries: tuple[str, ...]
    dtypes: tuple[str, ...]
    forge: Forge
    before_detective: Fit
    after_detective: Fit
    units: Callable[[Store], list[np.ndarray]]
    rank: Rank


def regime_of(store: Store) -> Regime:
    """The regime of what a store holds."""
    return SCANS if store.holds_volumes else IMAGES


def _forged_images(folder: Path, model: Model, store: Store, rows: np.ndarray, settings: Settings) -> Forged:
    """One forgery each of as many images as there shall be pairs, evenly spaced."""
    rows = rows[np.linspace(0, len(rows) - 1, min(settings.pairs, len(rows))).astype(int)]
    return forge(model, store, rows, settings.forgeries, settings.seed + 1, settings.detective.scale)


def _forged_slices(folder: Path, model: Model, store: Store, rows: np.ndarray, settings: Settings) -> Forged:
    """As many forgeries as there shall be pairs, several of a slice where slices are fewer."""
    atlas = load_atlas(folder) if settings.detective.atlas else None
    return forge_slices(store, rows, settings.pairs, settings.forgeries, settings.seed + 1, settings.sign, atlas)


def _nothing(folder: Path, store: Store, rows: np.ndarray, settings: Settings) -> None:
    """All is fitted on the other side of the detective."""


def _ranked_scans(
    scorer: Scorer,
    store: Store,
    units: Sequence[np.ndarray],
    without: Collection[str],
    progress: Callable[[int, int], None],
) -> Calibration:
    if without:
        raise PixelsleuthError("sources are left out of images alone", "without")
    return ranked_volumes(scorer, store, units, progress)


IMAGES = Regime(
    inputs="images",
    preset="fast",
    advised=1000,
    channels=3,
    scalars=0,
    atlas=False,
    forgeries=KINDS,
    dtypes=("float32", "bfloat16"),
    forge=_forged_images,
    # The detective's scores are adjusted for complexity, too, so it comes first.
    before_detective=_nothing,
    after_detective=fit_image_scores,
    units=image_units,
    rank=ranked_images,
)

SCANS = Regime(
    inputs="volumes",
    preset="scans",
    # One volume is many slices, and few volumes are all that most have.
    advised=0,
    channels=1,
    scalars=1,
    atlas=True,
    forgeries=LESIONS,
    dtypes=("float32",),
    forge=_forged_slices,
    # The detective may be taught to see the atlas, so that comes first.
    before_detective=fit_scan_scores,
    after_detective=_nothing,
    units=volume_units,
    rank=_ranked_scans,
)
