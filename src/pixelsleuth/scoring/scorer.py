"""The path of crops through the networks: codes, surprise, restorations, scores, maps. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsleuth.models.checkpoint import Model
from pixelsleuth.models.detective import DeepDetective, Detective
from pixelsleuth.models.masked import MaskedPrior
from pixelsleuth.records import Surprise
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.scoring.complexity import complexity, local_sharpness
from pixelsleuth.scoring.maps import Maps, place_map, signed, top_of, volume_maps, within
from pixelsleuth.scoring.measurements import Measurements, fitted_scores, slice_scores
from pixelsleuth.scoring.restoration import Restored, pooled, restore
from pixelsleuth.scoring.settings import (
    BOTH_TRACKS,
    CENTRE_AND_RIM,
    COMBINED,
    DETECTIVE,
    DETECTIVE_MAP,
    DETECTIVE_NEAR,
    DETECTIVE_VIEWS,
    MAP_SCORE,
    TEXT_SCORE,
    ScoreSettings,
    judge_of,
)
from pixelsleuth.scoring.surprise import surprise_map
from pixelsleuth.sources.faces import Sizes, Views

#: S of the map of Marimont & Tarroni 2021, which only `evaluate` makes.
REFERENCE_RESTORATIONS = 15
#: Of a slice, a code is drawn anew where the detective gives its cell more than this probability.
NAMED_FROM = 0.5


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


class Encoded(NamedTuple):
    """A batch on the networks' device: images (B, C, H, W) float32 in [0, 1], their codes (B, h, w), and (B, n) float32
    scalars of their context, None of images."""

    image: Tensor
    codes: Tensor
    scalars: Tensor | None


@dataclass(frozen=True)
class ScoreOptions:
    """What is made of crops beside the scores that a verdict rests on.

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
    """What a model says of crops.

    Attributes:
        scores: name -> (B,) float64.
        maps: name -> (B, H, W) float32, raw, not yet calibrated; of slices 0 outside the head.
        restoration: (B, H, W, C) uint8, the default prior's weighted mean restoration; None unless restored.
    """

    scores: dict[str, np.ndarray]
    maps: Maps
    restoration: np.ndarray | None

    def part(self, rows: slice) -> Scores:
        """Of some of the crops."""
        return Scores(
            {name: values[rows] for name, values in self.scores.items()},
            {name: values[rows] for name, values in self.maps.items()},
            None if self.restoration is None else self.restoration[rows],
        )


class Scorer:
    """A model with its fitted settings.

    Attributes:
        atlas: of volumes, what healthy slices look like; None of images.
    """

    def __init__(
        self, model: Model, settings: ScoreSettings, dtype: str = "float32", atlas: Atlas | None = None
    ) -> None:
        if atlas is None and model.config.detective is not None and model.config.detective.atlas:
            raise ValueError("atlas: expected the model's, which its detective sees; got none")
        self.model, self.settings, self.dtype, self.atlas = model, settings, dtype, atlas
        self.device = next(model.vqvae.parameters()).device

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return self.model.config.vqvae.size

    @property
    def sizes(self) -> Sizes:
        """Sides in pixels of the views of a crop."""
        close = self.model.close_size
        return Sizes(self.size, close, 2 * close if isinstance(self.model.detective, DeepDetective) else 0)

    @torch.no_grad()
    def score(self, batches: Iterable[Crops], options: ScoreOptions = EVERYTHING) -> Scores:
        """Scores crops batch by batch. Slices must be those of one volume, in order: maps are pooled within it."""
        needed = "restoration" in self.settings.default_map
        restoring = options.maps and (options.restorations or needed)
        parts, kept = [], []
        for crops in batches:
            if crops.position is None:
                parts.append(self._images(crops, options, restoring))
            else:
                parts.append(self._slices(crops, options, restoring or needed))
                kept.append(crops)
        scores = _joined(parts)
        return self._volume(scores, kept, options) if kept else scores

    @torch.no_grad()
    def measure(self, crops: Crops) -> Measurements:
        """All that scores are fitted on, nothing adjusted."""
        with self._precision():
            return self.measured(crops, self.encoded(crops), set(self.model.priors), rim=True)[0]

    def encoded(self, crops: Crops) -> Encoded:
        """The crops on the device, and their codes."""
        image, scalars = self._image(crops.square), None
        if crops.position is not None:
            scalars = torch.from_numpy(crops.position.astype(np.float32))[:, None].to(self.device)
        return Encoded(image, self.model.encode(image, scalars), scalars)

    def measured(self, crops: Crops, encoded: Encoded, kinds: set[str], rim: bool) -> tuple[Measurements, Tensor]:
        """What the networks say of a batch, and its codes decoded as they are, (B, C, H, W) float32.

        Args:
            kinds: of the priors to ask.
            rim: also ask the masked prior for centre and rim in turn.
        """
        model, (image, codes, scalars) = self.model, encoded
        surprise = {kind: model.surprise(kind, codes, scalars) for kind in model.priors if kind in kinds}
        two_way = None
        if "pixelsnail" in surprise:
            two_way = two_way_surprise(model, encoded, surprise["pixelsnail"])
        decoded = model.decode(codes, scalars)
        seen = Measurements(codes, surprise, None, two_way)
        if crops.position is None:
            seen = self._more_of_images(seen, decoded, crops, rim)
        altered, near = self._altered(seen, image, decoded, crops)
        return replace(seen, altered=altered, near=near), decoded

    def restored(self, encoded: Encoded, seen: Measurements, keys: Sequence[str], kind: str = "") -> Restored:
        """Restorations by the prior of this kind, the default one unless given."""
        image, codes, scalars = encoded
        kind = kind or next(iter(self.model.priors))
        # The masked prior's flags are known beforehand; PixelSNAIL's depend on what it has restored.
        flags: dict[str, Any] = {"where": self.flagged(encoded, seen, kind)}
        if kind == "pixelsnail" and scalars is None:
            flags = {"above": self.settings.lambda_p[kind]}
        return restore(
            image, codes, self.model.vqvae, self.model.priors[kind], keys,
            restorations=self.settings.restorations, scalars=scalars, **flags,
        )  # fmt: skip

    def flagged(self, encoded: Encoded, seen: Measurements, kind: str) -> Tensor:
        """(B, h, w) bool, the codes to draw anew: above lambda_p, or of slices those that the detective names."""
        if encoded.scalars is None or seen.altered is None:
            return seen.surprise[kind].nll > self.settings.lambda_p[kind]
        altered = place_map(seen.altered[0], (self.size, self.size))
        return F.adaptive_max_pool2d(altered[:, None], seen.codes.shape[1:])[:, 0] > NAMED_FROM

    @torch.no_grad()
    def reference_restored(self, encoded: Encoded, keys: Sequence[str]) -> Restored:
        """As Marimont & Tarroni 2021 restore: codes above lambda_p given the restored prefix, S = 15."""
        kind = judge_of(self.model.priors)
        return restore(
            encoded.image, encoded.codes, self.model.vqvae, self.model.priors[kind], keys,
            restorations=REFERENCE_RESTORATIONS, above=self.settings.lambda_p[kind], scalars=encoded.scalars,
        )  # fmt: skip

    def _images(self, crops: Crops, options: ScoreOptions, restoring: bool) -> Scores:
        """One batch of images."""
        mapping, size = next(iter(self.model.priors)), (self.size, self.size)
        kinds = set(self.model.priors)
        if not options.every_score:
            kinds = self._judging() | ({mapping} if options.maps else set())
        with self._precision():
            encoded = self.encoded(crops)
            rim = options.every_score or CENTRE_AND_RIM in self._resting_on()
            seen, _ = self.measured(crops, encoded, kinds, rim)
            restored = self.restored(encoded, seen, crops.keys) if restoring else None
        made: Maps = {}
        if options.maps:
            made["surprise"] = surprise_map(seen.surprise[mapping], size).cpu().numpy()
        if options.maps and seen.altered is not None:
            made[DETECTIVE_MAP] = altered_map(seen, size).cpu().numpy()
        if restored is not None:
            made["restoration"] = pooled(restored.residual).cpu().numpy()
        return Scores(fitted_scores(seen, self.settings), made, None if restored is None else to_pixels(restored.mean))

    def _slices(self, crops: Crops, options: ScoreOptions, restoring: bool) -> Scores:
        """One batch of slices; the maps are not pooled yet."""
        model, sign, size = self.model, self.settings.sign, (self.size, self.size)
        mapping = next(iter(model.priors))
        encoded = self.encoded(crops)
        seen, decoded = self.measured(crops, encoded, {mapping, judge_of(model.priors)}, rim=False)
        maps = {
            "surprise": surprise_map(seen.judging, size),
            "masked_surprise": surprise_map(seen.surprise[mapping], size),
            "reconstruction": signed(encoded.image - decoded, sign),
        }
        if seen.altered is not None:
            maps[DETECTIVE_MAP] = place_map(seen.altered[0], size)
        pixels = None
        if restoring:
            restored = self.restored(encoded, seen, crops.keys)
            maps["restoration"] = signed(encoded.image - restored.mean, sign)
            pixels = to_pixels(restored.mean)
        if options.baselines and model.vae is not None:
            maps["baseline_vae"] = signed(encoded.image - model.vae.reconstruct(encoded.image), sign)
        if options.reference:
            maps["text_restoration"] = self.reference_restored(encoded, crops.keys).residual
        raw = {name: values.float().cpu().numpy() for name, values in maps.items()}
        return Scores(slice_scores(seen, self.settings), raw, pixels)

    def _volume(self, scores: Scores, crops: Sequence[Crops], options: ScoreOptions) -> Scores:
        """The scores of all slices with their maps pooled within the volume, and the score that rests on these."""
        pixels, inside, position = (
            np.concatenate([getattr(part, name) for part in crops]) for name in ("square", "inside", "position")
        )
        image, head = pixels[..., 0].astype(np.float32) / 255, within(inside)
        atlas = self.atlas if options.baselines else None
        maps = volume_maps(scores.maps, image, position, head, self.settings.sign, atlas)
        top = top_of(maps[self.settings.default_map], head)
        return Scores({**scores.scores, MAP_SCORE: top}, maps, scores.restoration)

    def _resting_on(self) -> set[str]:
        """Raw scores that the verdict is made of."""
        names = {self.settings.default}
        for whole, parts in ((BOTH_TRACKS, self.settings.tracks), (COMBINED, self.settings.combined)):
            if whole in names:
                names = (names - {whole}) | set(parts)
        if DETECTIVE_VIEWS in names:
            names = (names - {DETECTIVE_VIEWS}) | {DETECTIVE, DETECTIVE_NEAR}
        return {name.removesuffix("_adjusted") for name in names}

    def _judging(self) -> set[str]:
        """Kinds of the priors that the verdict needs."""
        text = {judge_of(self.settings.lambda_s)} if TEXT_SCORE in self._resting_on() else set()
        if isinstance(self.model.detective, Detective):
            text.add(judge_of(self.model.priors))
        return text | {kind for kind in self.model.priors if any(n.startswith(f"{kind}_") for n in self._resting_on())}

    def _image(self, pixels: np.ndarray) -> Tensor:
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return image.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)

    def _close(self, crops: Crops) -> Tensor | None:
        """The crops at the detective's size. Raises ValueError where it wants another size than it is given."""
        given = crops.square if crops.close is None else crops.close
        if given.shape[1] != self.model.close_size:
            raise ValueError(f"close: expected {self.model.close_size} px crops, got {given.shape[1]} px")
        return None if crops.close is None else self._image(crops.close)

    def _precision(self) -> Any:
        reduced = torch.bfloat16 if self.dtype == "bfloat16" else torch.float32
        return torch.autocast(self.device.type, reduced, enabled=self.dtype != "float32")

    def _more_of_images(self, seen: Measurements, decoded: Tensor, crops: Crops, rim: bool) -> Measurements:
        """With what is measured of images alone."""
        codes, grid = seen.codes, (int(seen.codes.shape[1]), int(seen.codes.shape[2]))
        centre, masked, around = centre_of(grid), self.model.priors.get("masked"), None
        if isinstance(masked, MaskedPrior) and rim:
            partition = torch.from_numpy(centre.astype(np.int64)).to(codes.device)
            around = masked.log_prob(codes, partition=partition)
        sharpness = local_sharpness(decoded.mean(1).cpu().numpy(), grid)
        smoothness = sharpness[:, ~centre].mean(1) - sharpness[:, centre].mean(1)
        return replace(
            seen, rim=around, smoothness=smoothness, complexity=np.stack([complexity(p) for p in crops.square])
        )

    def _altered(
        self, seen: Measurements, image: Tensor, decoded: Tensor, crops: Crops
    ) -> tuple[tuple[Tensor, Tensor] | None, tuple[np.ndarray, Tensor, Tensor] | None]:
        """The detective's logits of places and of crops, and those of the crops that are looked at from near."""
        detective = self.model.detective
        close = self._close(crops) if crops.position is None else None
        if isinstance(detective, DeepDetective):
            altered = detective(image, close=close)
            if crops.near is None or crops.which is None:
                return altered, None
            return altered, (crops.which, *detective.windows(self._image(crops.near)))
        if detective is None:
            return None, None
        usual = None
        if detective.config.atlas and self.atlas is not None and crops.position is not None:
            z = self.atlas.z(image[:, 0].cpu().numpy(), crops.position)
            usual = torch.from_numpy(z)[:, None].to(self.device)
        return detective(image, decoded, seen.judging, close, usual), None


def altered_map(seen: Measurements, size: tuple[int, int]) -> Tensor:
    """(B, H, W) float32, how likely each place was altered; where there is a view from near the mean of both."""
    assert seen.altered is not None
    found = place_map(seen.altered[0], size)
    if seen.near is not None:
        which, places, _ = seen.near
        found[which] = (found[which] + place_map(places, size)) / 2
    return found


def stacked(views: Sequence[Views], keys: Sequence[str] = ()) -> Crops:
    """Views of several crops as one batch."""
    close = [one.close for one in views if one.close is not None]
    which = [row for row, one in enumerate(views) if one.near is not None]
    near = [one.near for one in views if one.near is not None]
    return Crops(
        np.stack([one.square for one in views]),
        keys,
        np.stack(close) if close else None,
        np.stack(near) if near else None,
        np.array(which) if near else None,
    )


def to_pixels(image: Tensor) -> np.ndarray:
    """(B, C, H, W) float32 in [0, 1] -> (B, H, W, C) uint8."""
    return image.permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()


def _joined(parts: Sequence[Scores]) -> Scores:
    """Scores of several batches, or of none, as of one."""
    if len(parts) < 2:
        return parts[0] if parts else Scores({}, {}, None)
    restored = [part.restoration for part in parts if part.restoration is not None]
    return Scores(
        {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
        {name: np.concatenate([part.maps[name] for part in parts]) for name in parts[0].maps},
        np.concatenate(restored) if restored else None,
    )


def two_way_surprise(model: Model, encoded: Encoded, there: Surprise) -> Surprise:
    """PixelSNAIL's surprise averaged over an image and its mirror image, turned back; `there` is the former."""
    image, _, scalars = encoded
    back = model.surprise("pixelsnail", model.encode(image.flip(3), scalars), scalars)
    return Surprise((there.nll + back.nll.flip(2)) / 2, (there.entropy + back.entropy.flip(2)) / 2)


@torch.no_grad()
def judging_surprise(model: Model, encoded: Encoded) -> Surprise:
    """Surprise of the prior that scores, as a detective sees it: PixelSNAIL's over image and mirror image where the
    model has one, else the default prior's."""
    kind = judge_of(model.priors)
    there = model.surprise(kind, encoded.codes, encoded.scalars)
    return there if kind != "pixelsnail" else two_way_surprise(model, encoded, there)


def centre_of(grid: tuple[int, int]) -> np.ndarray:
    """(h, w) bool, the middle five eighths in each direction: of a face crop the face, without hair and background."""
    row = np.abs(np.arange(grid[0]) - (grid[0] - 1) / 2) < grid[0] * 5 / 16
    column = np.abs(np.arange(grid[1]) - (grid[1] - 1) / 2) < grid[1] * 5 / 16
    return row[:, None] & column[None, :]
