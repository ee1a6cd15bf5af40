"""Take crops to their scores and maps, whatever runs the networks. Knows neither files nor torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from pixelsleuth.models.configuration import ModelConfig
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.scoring.combination import with_combined
from pixelsleuth.scoring.complexity import complexity
from pixelsleuth.scoring.levelling import LEVELLED, Levelling
from pixelsleuth.scoring.maps import Maps, top_of, volume_maps, within
from pixelsleuth.scoring.settings import (
    BOTH_TRACKS,
    CENTRE_AND_RIM,
    COMBINED,
    DETECTIVE,
    DETECTIVE_MAP,
    DETECTIVE_NEAR,
    DETECTIVE_VIEWS,
    MAP_SCORE,
    TAIL_SUM,
    ScoreSettings,
    scoring_prior,
)
from pixelsleuth.sources.faces import Sizes, Views


class Crops(NamedTuple):
    """A batch of crops as the networks see them.

    Attributes:
        square: (B, size, size, C) uint8; RGB, or of slices grey.
        keys: of the random draws, 64 hexadecimal digits each.
        close: the same at the detective's size; None where that is the same.
        near: (k, 2 S, 2 S, 3) uint8, those that are looked at from near, of the rows `which` (k,); None for none.
        inside: (B, size, size) bool, of slices the head; position: (B,) float32 in [-0.5, 0.5], where they lie. None of
            images.
    """

    square: np.ndarray
    keys: Sequence[str] = ()
    close: np.ndarray | None = None
    near: np.ndarray | None = None
    which: np.ndarray | None = None
    inside: np.ndarray | None = None
    position: np.ndarray | None = None


@dataclass(frozen=True)
class ScoreOptions:
    """What to compute beside the scores that a verdict rests on.

    Attributes:
        maps: also map. Of slices the default map is always made, for a score rests on it.
        restorations: with maps, also restore; else only where the default map rests on restorations.
        every_score: take every score there is; else those the verdict rests on and what came with them.
        baselines: of slices, also make the maps that name no anomaly by learning (`baseline_...`).
        reference: of slices, also make the map of Marimont & Tarroni 2021.
    """

    maps: bool = True
    restorations: bool = True
    every_score: bool = True
    baselines: bool = False
    reference: bool = False


#: Maps, restorations and every score.
EVERYTHING = ScoreOptions()
#: What a verdict takes: no map, and no score beside those it rests on.
PLAIN = ScoreOptions(maps=False, restorations=False, every_score=False)


@dataclass(frozen=True)
class Scores:
    """The scores, maps and restorations of crops.

    Attributes:
        scores: name -> (B,) float64.
        maps: name -> (B, H, W) float32, raw, not yet calibrated; of slices 0 outside the head.
        restoration: (B, H, W, C) uint8, the default prior's weighted mean restoration; None unless restored.
        appearance: (B, F) float32, how images look to a deep detective's trunk; None without one.
    """

    scores: dict[str, np.ndarray]
    maps: Maps
    restoration: np.ndarray | None
    appearance: np.ndarray | None = None

    def part(self, rows: slice) -> Scores:
        """The scores of some of the crops."""
        return Scores(
            {name: values[rows] for name, values in self.scores.items()},
            {name: values[rows] for name, values in self.maps.items()},
            None if self.restoration is None else self.restoration[rows],
            None if self.appearance is None else self.appearance[rows],
        )


class Wanted(NamedTuple):
    """What the networks are asked to compute.

    Attributes:
        kinds: of the priors to ask.
        rim: also ask the masked prior for centre and rim in turn.
        maps: map; restored: also restore.
        baselines, reference: as in `ScoreOptions`.
    """

    kinds: frozenset[str]
    rim: bool
    maps: bool
    restored: bool
    baselines: bool = False
    reference: bool = False


class Described(Protocol):
    """The description of a model beside its networks."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def sha256(self) -> str: ...


class Networks(Protocol):
    """Runs a model's networks: with torch (scoring.networks), or as an exported graph (scoring.graphs).

    Attributes:
        settings: what was fitted on normal training images.
        dtype: floating-point type that scores are computed in.
        atlas: of volumes, what healthy slices look like; None of images.
        batch: crops scored together unless told otherwise.
    """

    settings: ScoreSettings
    dtype: str
    atlas: Atlas | None
    batch: int

    @property
    def model(self) -> Described: ...

    def images(self, crops: Crops, wanted: Wanted) -> Scores:
        """Raw scores of one batch of images, and their maps."""
        ...

    def slices(self, crops: Crops, wanted: Wanted) -> Scores:
        """Raw scores of one batch of slices, and their maps, not pooled yet."""
        ...


class Scorer:
    """A model's networks, and the arithmetic from what they say to scores and maps.

    Attributes:
        size: side of the crops in pixels; sizes: sides of their views.
        judging: kinds of the priors that a verdict needs; resting: raw scores that it is made of.
    """

    def __init__(self, networks: Networks, levelling: Levelling | None = None) -> None:
        """`levelling` gives the score `LEVELLED` of images; where there is one, verdicts rest on it."""
        self.networks, self.levelling = networks, levelling
        self.model, self.settings, self.dtype = networks.model, networks.settings, networks.dtype
        config, detective = self.model.config, self.model.config.detective
        deep = detective is not None and detective.kind == "deep"
        self.size = config.vqvae.size
        self._restores = "restoration" in self.settings.default_map
        self.sizes = Sizes(self.size, config.close_size, 2 * config.close_size if deep else 0)
        # The default prior first.
        self.kinds = [prior.kind for prior in config.priors]
        self.resting = _resting_on(self.settings)
        self.judging = {kind for kind in self.kinds if any(name.startswith(f"{kind}_") for name in self.resting)}
        if TAIL_SUM in self.resting:
            self.judging.add(scoring_prior(self.settings.lambda_s or self.kinds))
        if detective is not None and detective.kind == "light":
            self.judging.add(scoring_prior(self.kinds))

    def score(self, batches: Iterable[Crops], options: ScoreOptions = EVERYTHING) -> Scores:
        """Scores crops batch by batch. Slices must be those of one volume, in order: maps are pooled within it."""
        wanted = self._wanted(options)
        if self.model.config.of_volumes:
            return self._volume(list(batches), wanted, options)
        parts = []
        for crops in batches:
            raw = self.networks.images(crops, wanted)
            features = np.stack([complexity(pixels) for pixels in crops.square])
            scores = with_combined(raw.scores, features, self.settings)
            if self.levelling is not None and raw.appearance is not None:
                scores[LEVELLED] = self.levelling(scores[self.settings.default], raw.appearance)
            parts.append(replace(raw, scores=scores))
        return _joined(parts)

    def _wanted(self, options: ScoreOptions) -> Wanted:
        """What the networks are asked for."""
        restored = options.maps and (options.restorations or self._restores)
        kinds = set(self.kinds)
        if not options.every_score:
            # The detective's map is drawn without the prior that the others are made of.
            others = options.maps and (options.restorations or self.settings.default_map != DETECTIVE_MAP)
            kinds = self.judging | ({self.kinds[0]} if others else set())
        rim = options.every_score or CENTRE_AND_RIM in self.resting
        return Wanted(frozenset(kinds), rim, options.maps, restored, options.baselines, options.reference)

    def _volume(self, crops: Sequence[Crops], wanted: Wanted, options: ScoreOptions) -> Scores:
        """The scores of all slices with their maps pooled within the volume, and the score that rests on these."""
        # The default map is always made, and with it every score.
        both = frozenset({self.kinds[0], scoring_prior(self.kinds)})
        wanted = wanted._replace(kinds=both, restored=wanted.restored or self._restores)
        scores = _joined([self.networks.slices(part, wanted) for part in crops])
        pixels, inside, position = (
            np.concatenate([getattr(part, name) for part in crops]) for name in ("square", "inside", "position")
        )
        image, head = pixels[..., 0].astype(np.float32) / 255, within(inside)
        atlas = self.networks.atlas if options.baselines else None
        maps = volume_maps(scores.maps, image, position, head, self.settings.sign, atlas)
        top = top_of(maps[self.settings.default_map], head)
        return Scores({**scores.scores, MAP_SCORE: top}, maps, scores.restoration)


def _resting_on(settings: ScoreSettings) -> set[str]:
    """Raw scores that the verdict is made of."""
    names = {settings.default}
    for whole, parts in ((BOTH_TRACKS, settings.tracks), (COMBINED, settings.combined)):
        if whole in names:
            names = (names - {whole}) | set(parts)
    if DETECTIVE_VIEWS in names:
        names = (names - {DETECTIVE_VIEWS}) | {DETECTIVE, DETECTIVE_NEAR}
    return {name.removesuffix("_adjusted") for name in names}


def stacked(views: Sequence[Views], keys: Sequence[str] = ()) -> Crops:
    """Views of several crops, all of images or all of slices, as one batch."""
    which = [row for row, one in enumerate(views) if one.near is not None]

    def of(name: str) -> np.ndarray | None:
        parts = [getattr(one, name) for one in views if getattr(one, name) is not None]
        return np.stack(parts) if parts else None

    square = np.stack([one.square for one in views])
    rows = np.array(which) if which else None
    return Crops(square, keys, of("close"), of("near"), rows, of("inside"), of("position"))


def _joined(parts: Sequence[Scores]) -> Scores:
    """Scores of several batches, or of none, as of one."""
    if len(parts) < 2:
        return parts[0] if parts else Scores({}, {}, None)
    restored = [part.restoration for part in parts if part.restoration is not None]
    looks = [part.appearance for part in parts if part.appearance is not None]
    return Scores(
        {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
        {name: np.concatenate([part.maps[name] for part in parts]) for name in parts[0].maps},
        np.concatenate(restored) if restored else None,
        np.concatenate(looks) if looks else None,
    )
