"""Ranking normal pictures that no network was trained on, whatever they were read from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pixelsleuth.models.folder import Model
from pixelsleuth.scoring.calibration import Calibration, map_quantiles
from pixelsleuth.scoring.examine import Examiner, Squares, settings_from_tree
from pixelsleuth.scoring.origins import conformal_p
from pixelsleuth.scoring.typicality import fit_typicality
from pixelsleuth.sources.reencoding import REENCODINGS

#: Calibration pictures that maps are made of: restorations are what calibration spends its time on.
MOST_MAPS = 1000
#: Rates that are looked at for sources left out.
RATES = (0.01, 0.05, 0.1)


@dataclass(frozen=True)
class Ranked:
    """A batch of calibration pictures, as an examiner takes them.

    Attributes:
        squares: B of them; reencoded: the same after each of `REENCODINGS`.
        sha256: of each picture, for random draws.
        sources: the name of each picture's source.
        traits: (B, T) float64, see sources.traits.
        pictures: perceptual hashes, 16 hexadecimal digits each.
    """

    squares: Squares
    reencoded: dict[str, Squares]
    sha256: Sequence[str]
    sources: Sequence[str]
    traits: np.ndarray
    pictures: Sequence[str]


def ranked(model: Model, dtype: str, batches: Iterable[Ranked]) -> Calibration:
    """The calibration of a model on pictures in an order that says nothing of them: the first `MOST_MAPS` get maps."""
    settings = settings_from_tree(model.config.scoring)
    examiner = Examiner(model, settings, dtype)
    restore = settings.default_map == "restoration"
    scores: dict[str, list[np.ndarray]] = {name: [] for name in ("original", *REENCODINGS)}
    maps: list[np.ndarray] = []
    traits: list[np.ndarray] = []
    sources: list[str] = []
    pictures: list[str] = []
    for batch in batches:
        mapped = len(sources) < MOST_MAPS
        found = examiner.examine(batch.squares, batch.sha256, maps=mapped, restorations=restore, every_score=False)
        scores["original"].append(found.scores[settings.default])
        if found.maps:
            maps.append(found.maps[settings.default_map])
        for name in REENCODINGS:
            again = examiner.examine(batch.reencoded[name], batch.sha256, maps=False, every_score=False)
            scores[name].append(again.scores[settings.default])
        traits.append(batch.traits)
        sources += batch.sources
        pictures += batch.pictures
    names = tuple(sorted(set(sources)))
    numbers = np.array([names.index(name) for name in sources])
    ascending, source_of = {}, {}
    for name, parts in scores.items():
        values = np.concatenate(parts)
        order = np.argsort(values, kind="stable")
        ascending[name], source_of[name] = values[order], numbers[order]
    about = {"images": len(sources), "sources": dict(Counter(sources)), "maps": sum(map(len, maps))}
    # Only of faces it is known what is content and what is not.
    faces = model.config.preprocessing["crop"] == "face"
    typicality = fit_typicality(np.concatenate(traits), np.array(sources)) if faces else None
    calibration = Calibration(
        settings.default, ascending, map_quantiles(np.concatenate(maps)), np.zeros(0), dtype, model.sha256, about,
        names, source_of, typicality, tuple(sorted(pictures)),
    )  # fmt: skip
    largest = np.sort([float(calibration.excess(one).max()) for block in maps for one in block])
    if len(names) > 1:
        about["left_out"] = left_out_rates(ascending["original"], np.array(names)[source_of["original"]])
    return replace(calibration, largest=largest)


def left_out_rates(scores: np.ndarray, sources: np.ndarray) -> dict[str, dict[str, float]]:
    """Of each source of (n,) calibration scores, the share of its pictures at or below each rate when they are ranked
    against the other sources alone: what to expect of a source that was not there."""
    found = {}
    for name in sorted(set(sources.tolist())):
        others = np.sort(scores[sources != name])
        p = np.array([conformal_p(others, float(score)) for score in scores[sources == name]])
        found[name] = {f"{rate:g}": round(float((p <= rate).mean()), 4) for rate in RATES}
    return found
