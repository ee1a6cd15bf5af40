"""p-values from normal images that were neither trained nor selected on, and the thresholds above which maps are
coloured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pixelsleuth.errors import CalibrationError, ModelError
from pixelsleuth.files import write_text
from pixelsleuth.models.configuration import model_files
from pixelsleuth.records import Box, Note, Region
from pixelsleuth.scoring.levelling import Levelling, levelling_from_tree
from pixelsleuth.scoring.origins import Promise, any_source_p, check_promise, conformal_p, fewest, new_source_p
from pixelsleuth.scoring.typicality import Typicality, typicality_from_tree
from pixelsleuth.sources.faces import drawn_back
from pixelsleuth.sources.reencoding import REENCODINGS

FORMAT = 1
#: Key of the scores of one slice a volume; also `about["unit"]` where no calibration volume is healthy throughout.
SLICE = "slice"
#: Smallest number of images in a calibration: n of them promise a rate of 1 / (n + 1), so 19 promise 5%.
MIN_CALIBRATION = 19
#: Share of normal pictures that may show any colour.
COLOUR_RATE = 0.05
#: Share of normal pictures in which it may be full anywhere.
FULL_RATE = 0.001
#: Least level that a place is measured by, in mean levels of all places; chosen on validation pictures (LOG.md).
FLOOR = 2.0
#: Fewest pixels, at the model's size, that make a region.
MIN_REGION = 16
#: Levels at which the map's distribution is kept at each place.
LEVELS = (
    0.0,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.85,
    0.9,
    0.925,
    0.95,
    0.975,
    0.99,
    0.995,
    0.999,
    0.9995,
)
#: Pixels whose values are kept together, in each direction.
CELL = 4


def slice_name(encoding: str) -> str:
    """Name of the calibration scores of one slice a volume, after a re-encoding."""
    return SLICE if encoding == "original" else f"{SLICE}_{encoding}"


@dataclass(frozen=True)
class Calibration:
    """The scores of normal images under a model, from which p-values are taken.

    Attributes:
        score: name of the score that is calibrated, higher is more unusual.
        scores: `original` and each of `REENCODINGS` -> (n,) float64 ascending; of volumes `original`, which verdicts
            rest on, and `slice`, each also after each of `SCAN_REENCODINGS`.
        quantiles: (len(LEVELS), H / CELL, W / CELL) float64, the map's distribution at each place.
        largest: (n,) float64 ascending, each picture's largest `excess`.
        dtype: floating-point type the scores were computed in.
        model_sha256: of the model that was calibrated.
        about: what it was calibrated on, for the model card.
        sources: names of the sources that the pictures come from; none where the file does not say.
        source_of: encoding -> (n,) of each score the number of its source, in the order of `scores`.
        typicality: what is usual of the pictures beside their content; None where it was not measured.
        levelling: what `score` was levelled by, where it was (see scoring.levelling); else None.
        pictures: perceptual hashes of the whole pictures, 16 hexadecimal digits each: none shall be ranked twice.

    Worked out of these once:
        count: n, of `original`.
        groups: encoding -> ascending scores of each source, in the order of `sources`; empty where they are not known.
        levels: (len(LEVELS), H, W) float64, `quantiles` enlarged to the map.
        colour_from: the excess that only `COLOUR_RATE` of normal pictures reach anywhere; colour_full: likewise of
            `FULL_RATE`. Not a number as long as `largest` is empty.
    """

    score: str
    scores: dict[str, np.ndarray]
    quantiles: np.ndarray
    largest: np.ndarray
    dtype: str
    model_sha256: str
    about: dict[str, Any]
    sources: tuple[str, ...] = ()
    source_of: dict[str, np.ndarray] = field(default_factory=dict)
    typicality: Typicality | None = None
    pictures: tuple[str, ...] = ()
    levelling: Levelling | None = None
    count: int = field(init=False)
    groups: dict[str, list[np.ndarray]] = field(init=False, repr=False)
    levels: np.ndarray = field(init=False, repr=False)
    colour_from: float = field(init=False)
    colour_full: float = field(init=False)

    def __post_init__(self) -> None:
        groups = {
            name: [self.scores[name][numbers == number] for number in range(len(self.sources))]
            for name, numbers in self.source_of.items()
        }
        # Linear between cells keeps the levels in order; a spline would not.
        levels = ndimage.zoom(self.quantiles, (1, CELL, CELL), order=1, mode="nearest", grid_mode=True)
        begins = full = math.nan
        if len(self.largest):
            begins, full = (float(np.quantile(self.largest, 1 - rate)) for rate in (COLOUR_RATE, FULL_RATE))
        found = {
            "count": len(self.scores["original"]), "groups": groups, "levels": levels,
            "colour_from": begins, "colour_full": full,
        }  # fmt: skip
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def p_value(self, score: float, encoding: str = "original", promise: Promise = "calibration") -> float:
        """The share of normal pictures at least this unusual, by a promise; all promises but the first need `sources`.

        The first is (1 + #{s_i >= s}) / (n + 1), valid for exchangeable normals (Vovk et al. 2005, conformal p-value).
        """
        if promise == "calibration":
            return conformal_p(self.scores[encoding], score)
        of_groups = any_source_p if promise == "any-source" else new_source_p
        return of_groups(self.groups[encoding], score)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that it says, but for the files it was made with: the same of a model's folder and graph."""
        return _digest(_as_tree(self))

    @property
    def of_each_source(self) -> list[int]:
        """Number of images of each source."""
        return [len(group) for group in self.groups.get("original", ())]

    @property
    def lowest_rate(self) -> float:
        """The lowest rate that can be promised, rounded up to four places."""
        return math.ceil(1e4 / (self.count + 1)) / 1e4

    def rate_for(self, asked: float | None, default: float) -> float:
        """The rate that was asked for, else the default; scans are few, and where they cannot promise the default the
        lowest rate that they can."""
        if asked is not None:
            return asked
        return max(default, self.lowest_rate) if SLICE in self.scores else default

    def raised(self, default: float) -> Note:
        """The note for a rate that was raised to the lowest one that can be promised."""
        return Note(
            "rate_raised",
            f"judged at a rate of {self.lowest_rate:g}, the lowest that the model's {self.count} calibration scans can "
            f"promise; {default:g} needs {fewest(default)} of them",
        )

    def check_rate(self, rate: float, promise: Promise = "calibration") -> None:
        """Raise CalibrationError where n < 1 / rate - 1, so that no picture could reach p <= rate; likewise where the
        calibration sources cannot promise it."""
        if not 0 < rate < 1:
            raise CalibrationError(f"expected a rate between 0 and 1, got {rate}", "max_false_alarm")
        needed = fewest(rate)
        if self.count < needed:
            raise CalibrationError(
                f"{rate:g} needs at least {needed} calibration images, this model has {self.count}; calibrate with "
                f"more, or ask for {self.lowest_rate:g} or above",
                "max_false_alarm",
            )
        if promise != "calibration":
            check_promise(self.sources, self.of_each_source, promise, rate)

    def realised(self, rate: float) -> tuple[float, float]:
        """Between which shares of fresh normal pictures, with 95% confidence, p <= rate: which pictures calibrate is
        chance, too. With k = floor(rate (n + 1)) the share is Beta(k, n + 1 - k)."""
        # Takes a third of a second to import, and judging needs none of it.
        from scipy import stats

        k = math.floor(rate * (self.count + 1) + 1e-9)
        if k == 0:
            return 0.0, 0.0
        low, high = stats.beta.ppf((0.025, 0.975), k, self.count + 1 - k)
        return float(low), float(high)

    def share(self, values: np.ndarray) -> np.ndarray:
        """(H, W) map -> (H, W) float32 in [0, 1): share of normal pixels at that place that are lower."""
        table = self.levels
        result = np.zeros(values.shape, np.float32)
        for low, high, start, end in zip(LEVELS, LEVELS[1:], table, table[1:], strict=False):
            inside = np.clip((values - start) / np.maximum(end - start, 1e-12), 0, 1)
            result += (inside * (high - low)).astype(np.float32)
        # Above the last level what is left shrinks with the distance from it and never reaches 1.
        last, before = table[-1], table[-5]
        beyond = np.maximum(values - last, 0) / np.maximum(last - before, 1e-12)
        return result + ((1 - LEVELS[-1]) * beyond / (1 + beyond)).astype(np.float32)

    def excess(self, values: np.ndarray) -> np.ndarray:
        """(H, W) map -> (H, W) float32 over the 95th percentile at that place, 1 where just there; this is held above
        `FLOOR` times its own mean: where normal pixels hardly vary, nothing would otherwise be too small to alarm."""
        level = self.levels[LEVELS.index(0.95)]
        return np.asarray(values / np.maximum(level, FLOOR * level.mean() + 1e-12)).astype(np.float32)

    def coloured(self, excess: np.ndarray) -> np.ndarray:
        """Excess -> float32 on the scale of colours: 1 where colour begins (`COLOUR_RATE` of normal pictures reach it
        anywhere), 2 where it is full (`FULL_RATE`), more beyond; straight in between, for how far an excess can go is
        the map's own: of a probability hardly beyond what normal pictures reach."""
        begins = max(self.colour_from, 1e-9)
        full = max(self.colour_full, begins * (1 + 1e-6))
        over = 1 + (excess - begins) / (full - begins)
        return np.where(excess < begins, excess / begins, over).astype(np.float32)

    def regions(self, excess: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Connected parts of (H, W) excess above `colour_from`: (mask, p-value), the most unusual first."""
        labels, count = ndimage.label(excess >= self.colour_from)
        found = []
        for number in range(1, count + 1):
            mask = labels == number
            if mask.sum() >= MIN_REGION:
                found.append((mask, conformal_p(self.largest, float(excess[mask].max()))))
        return sorted(found, key=lambda item: (item[1], -int(item[0].sum())))


def map_quantiles(maps: np.ndarray) -> np.ndarray:
    """(n, H, W) maps of normal pictures -> (len(LEVELS), H / CELL, W / CELL), pixels of a cell pooled."""
    count, height, width = maps.shape
    cells = maps.reshape(count, height // CELL, CELL, width // CELL, CELL)
    return np.quantile(cells, LEVELS, axis=(0, 2, 4)).astype(np.float64)


def region_of(mask: np.ndarray, p_value: float, box: Box, shape: tuple[int, int]) -> Region:
    """A region's mask on the square cut at `box` of an (H, W) input -> its rectangle in pixels of the input."""
    if box.angle:
        drawn = drawn_back(mask.astype(np.float32), box, shape) > 0.5
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        if not len(rows):
            # All of it lay beyond the picture's edge.
            return Region(Box(*np.clip(box.as_list(), 0, (*shape[::-1], *shape[::-1])).tolist()), p_value)
        return Region(Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1), p_value)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y, x = box.height / mask.shape[0], box.width / mask.shape[1]
    place = (
        box.x0 + math.floor(columns[0] * x),
        box.y0 + math.floor(rows[0] * y),
        box.x0 + math.ceil((columns[-1] + 1) * x),
        box.y0 + math.ceil((rows[-1] + 1) * y),
    )
    return Region(Box(*np.clip(place, 0, (*shape[::-1], *shape[::-1])).tolist()), p_value)


def save_calibration(path: Path, calibration: Calibration) -> None:
    tree = _as_tree(calibration) | {"files": model_files(path.parent)}
    write_text(path, json.dumps(tree | {"sha256": _digest(tree)}) + "\n")


def _as_tree(calibration: Calibration) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "score": calibration.score,
        "dtype": calibration.dtype,
        "model_sha256": calibration.model_sha256,
        "about": calibration.about,
        "levels": LEVELS,
        "scores": {name: values.tolist() for name, values in calibration.scores.items()},
        "largest": calibration.largest.tolist(),
        "quantiles": np.round(calibration.quantiles, 6).tolist(),
        "sources": list(calibration.sources),
        "source_of": {name: numbers.tolist() for name, numbers in calibration.source_of.items()},
        "typicality": None if calibration.typicality is None else calibration.typicality.as_tree(),
        "pictures": list(calibration.pictures),
        "levelling": None if calibration.levelling is None else calibration.levelling.as_tree(),
    }


def _digest(tree: Mapping[str, Any]) -> str:
    """SHA-256 of all that a calibration says, but for the digest itself."""
    return hashlib.sha256(json.dumps({k: v for k, v in tree.items() if k != "sha256"}).encode()).hexdigest()


def load_calibration(path: Path, model_sha256: str) -> Calibration:
    """Read `calibration.json` of the model with this SHA-256.

    Raises:
        ModelError: missing, of another format, incomplete, or made for other weights.
    """
    try:
        return calibration_from_text(path.read_text(encoding="utf-8"), path, model_sha256, path.parent)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; run `pixelsleuth calibrate` first") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def calibration_from_text(text: str, path: Path, model_sha256: str, folder: Path | None = None) -> Calibration:
    """The calibration that `text` holds, of the file at `path`. Raises ModelError as `load_calibration` does.

    Args:
        folder: of the model, whose files must be those that it was made with; a graph holds none.
    """
    try:
        tree = json.loads(text)
        if tree["format"] != FORMAT:
            raise ModelError(f"{path}: format version {tree['format']!r}, this program reads {FORMAT}")
        if tuple(tree["levels"]) != LEVELS:
            raise ModelError(f"{path}: key 'levels' does not fit this program; run `pixelsleuth calibrate` again")
        # Calibrations made before know neither their own digest nor those of the files.
        if "sha256" in tree and tree["sha256"] != _digest(tree):
            raise ModelError(f"{path} was changed after it was written; run `pixelsleuth calibrate` again")
        if folder is not None:
            _check_files(folder, tree.get("files", {}))
        if tree["model_sha256"] != model_sha256:
            raise ModelError(f"{path} was made for other weights; run `pixelsleuth calibrate` again")
        names = tuple(tree["scores"]) if SLICE in tree["scores"] else ("original", *REENCODINGS)
        sources = tuple(tree.get("sources", ()))
        scores, source_of = {}, {}
        for name in names:
            values = np.array(tree["scores"][name])
            order = np.argsort(values, kind="stable")
            scores[name] = values[order]
            if sources:
                source_of[name] = _numbers(path, tree["source_of"][name], len(values), len(sources))[order]
        return Calibration(
            tree["score"], scores, np.array(tree["quantiles"]), np.sort(np.array(tree["largest"])), tree["dtype"],
            tree["model_sha256"], tree["about"], sources, source_of, typicality_from_tree(tree.get("typicality")),
            tuple(tree.get("pictures", ())), levelling_from_tree(tree.get("levelling")),
        )  # fmt: skip
    except KeyError as error:
        raise ModelError(f"{path}: key {error} is missing") from error
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _check_files(folder: Path, known: Mapping[str, str]) -> None:
    """Raise ModelError naming a file that is not what the model was calibrated with."""
    here = model_files(folder) if known else {}
    for name in sorted(known.keys() | here.keys()):
        if known.get(name) != here.get(name):
            what = "is another than" if name in here else "is missing and was there"
            if name not in known:
                what = "was not there"
            raise ModelError(
                f"{folder / name} {what} when the model was calibrated; restore the folder, or run `pixelsleuth "
                "calibrate` again"
            )


def _numbers(path: Path, given: Sequence[int], count: int, sources: int) -> np.ndarray:
    """(count,) numbers of sources. Raises ModelError where they do not fit the scores, or a source has none."""
    numbers = np.array(given, int)
    if numbers.shape != (count,) or set(numbers.tolist()) != set(range(sources)):
        raise ModelError(
            f"{path}: key 'source_of' does not name one of {sources} sources, each at least once, for each of {count} "
            "scores; run `pixelsleuth calibrate` again"
        )
    return numbers
