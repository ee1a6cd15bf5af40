"""Which rows of a store calibrate a model together: an image is a unit of its own, the slices of a volume are one."""

from __future__ import annotations

import numpy as np

from pixelsleuth.datasets.shards import BLOCK
from pixelsleuth.datasets.store import Store
from pixelsleuth.errors import CalibrationError, PixelsleuthError
from pixelsleuth.scoring.calibration import MIN_CALIBRATION

#: Fewest calibration volumes, with which a rate of 10% can be promised.
MIN_VOLUMES = 9


def image_units(store: Store) -> list[np.ndarray]:
    """Collect the normal calibration images, one of each group.

    Returns:
        Of each image its row, (1,) int.

    Raises:
        CalibrationError: fewer than `MIN_CALIBRATION` images.
        PixelsleuthError: an image or its group stands in `calib` and in `train` or `val`.
    """
    rows = one_of_each_group(store, store.rows("calib"))
    what = "normal images"
    _enough(store, len(rows), MIN_CALIBRATION, what, "put images into a folder named 'calib'")
    _apart(store, rows, store.rows("train", "val"), what)
    return list(rows[:, None])


def volume_units(store: Store) -> list[np.ndarray]:
    """Collect the calibration volumes that have a healthy slice.

    Returns:
        Of each volume the rows of all its slices, (n,) int.

    Raises:
        CalibrationError: fewer than `MIN_VOLUMES` volumes.
        PixelsleuthError: a slice or its group stands in `calib` and in `train` or `val`.
    """
    rows = store.rows("calib", normal_only=False)
    group, label = store.table["group"], store.table["label"]
    units = [rows[group[rows] == name] for name in dict.fromkeys(group[rows].tolist())]
    units = [unit for unit in units if (label[unit] != "anomalous").any()]
    what = "volumes"
    advice = "put volumes into a folder named 'calib', or give at least 20 to train on, of which some will calibrate"
    _enough(store, len(units), MIN_VOLUMES, what, advice)
    _apart(store, rows, store.rows("train", "val", normal_only=False), what)
    return units


def one_of_each_group(store: Store, rows: np.ndarray) -> np.ndarray:
    """Keep one row of each group, drawn by hash: frames of one video are not exchangeable with those of others. Rows
    without a group all stay."""
    kept: dict[str, tuple[str, int]] = {}
    for row, group, sha256 in zip(rows, store.table["group"][rows], store.table.at("sha256", rows), strict=True):
        name = str(group) or f"\0{row}"
        kept[name] = min(kept.get(name, (sha256, int(row))), (sha256, int(row)))
    return np.array(sorted(row for _, row in kept.values()), int)


def _enough(store: Store, count: int, fewest: int, what: str, advice: str) -> None:
    if count < fewest:
        raise CalibrationError(
            f"{store.path} has {count} {what} of split 'calib' (one of each group counts), at least {fewest} are "
            f"needed; {advice}"
        )


def _apart(store: Store, rows: np.ndarray, others: np.ndarray, what: str) -> None:
    """Raises PixelsleuthError where one of the calibration `rows`, or its group, is among the `others`."""
    for column, name in (("sha256", what), ("group", "groups (patients, videos, persons)")):
        calibrating = set(store.table.at(column, rows).tolist()) - {""}
        # A part at a time: others may be millions.
        parts = (others[first : first + BLOCK] for first in range(0, len(others), BLOCK))
        if any(calibrating.intersection(store.table.at(column, part).tolist()) for part in parts):
            raise PixelsleuthError(f"{store.path}: {name} stand in 'calib' and in 'train' or 'val'; prepare it again")
