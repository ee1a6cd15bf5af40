"""The path of slices through the networks: codes, surprise, the detective, restoration, and maps of a whole volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from pixelsleuth.models.detective import MOST_Z
from pixelsleuth.models.folder import Model
from pixelsleuth.records import Surprise
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.scoring.examine import (
    DETECTIVE,
    DETECTIVE_MAP,
    TEXT_SCORE,
    ScoreSettings,
    judge_of,
    judging_surprise,
    place_map,
)
from pixelsleuth.scoring.restoration import restoration_weights, uniforms_of
from pixelsleuth.scoring.surprise import surprise_map, surprise_scores

#: Slices examined together.
BATCH = 16
#: A code is drawn anew where the detective gives its cell more than this probability.
NAMED_FROM = 0.5
#: Score of a slice: mean of the default map's most unusual pixels, this share of the head.
TOP_SHARE = 0.01
MAP_SCORE = "map_top"
#: Score of a volume: mean of its most unusual slices' scores, this share of them; the text's is the sum over slices.
TOP_SLICES = 0.25
#: A volume with as many slices as a slice has pixels is pooled as deep as it is wide; thin stacks are not.
TEXT_POOL = (3, 7)
#: Rim of the head, as a share of its side, in which nothing is counted: partial volumes and scalp.
RIM = 0.02

Maps = dict[str, np.ndarray]


@dataclass(frozen=True)
class SliceEvidence:
    """What is measured of n slices of one volume.

    Attributes:
        scores: name -> (n,) float64.
        maps: name -> (n, H, W) float32, raw, 0 outside the head; empty where none were asked for.
        restoration: (n, H, W) uint8, None unless restored.
    """

    scores: dict[str, np.ndarray]
    maps: Maps
    restoration: np.ndarray | None


class SliceExaminer:
    """A model for volumes with its fitted settings. Knows nothing of files or of calibration."""

    def __init__(self, model: Model, settings: ScoreSettings, atlas: Atlas | None = None) -> None:
        if atlas is None and model.config.detective is not None and model.config.detective.atlas:
            raise ValueError("atlas: expected the model's, which its detective sees; got none")
        self.model, self.settings, self.atlas = model, settings, atlas
        self.device = next(model.vqvae.parameters()).device

    @torch.no_grad()
    def examine(
        self,
        pixels: np.ndarray,
        inside: np.ndarray,
        position: np.ndarray,
        keys: Sequence[str],
        *,
        restore: bool = True,
        baselines: bool = False,
        text: int = 0,
    ) -> SliceEvidence:
        """Examines the slices of one volume, in order; maps are pooled within the volume.

        Args:
            pixels: (n, size, size, 1) uint8; inside: (n, size, size) bool; position: (n,) in [-0.5, 0.5].
            keys: of the slices, for the random draws.
            restore: also draw codes anew and decode; without, maps that need it are left out.
            baselines: also the maps that name no anomaly by learning (`baseline_...`); needs the atlas.
            text: S of the text's own map (PixelSNAIL, absolute residual, lambda_p), 0: leave it out.
        """
        parts = [
            self._batch(
                pixels[i : i + BATCH],
                position[i : i + BATCH],
                keys[i : i + BATCH],
                restore=restore,
                text=text,
                baselines=baselines,
            )
            for i in range(0, len(pixels), BATCH)
        ]
        raw = {name: np.concatenate([maps[name] for _, maps, _ in parts]) for name in parts[0][1]}
        scores = {name: np.concatenate([s[name] for s, _, _ in parts]) for name in parts[0][0]}
        image = pixels[..., 0].astype(np.float32) / 255
        head = within(inside)
        if baselines and self.atlas is not None:
            raw |= self._baselines(image, position)
        raw |= self._products(raw, image)
        maps = {name: smoothed(values, name) * head for name, values in raw.items()}
        scores[MAP_SCORE] = top_of(maps[self.settings.default_map], head)
        restored = [r for _, _, r in parts if r is not None]
        return SliceEvidence(scores, maps, np.concatenate(restored) if restored else None)

    def _batch(
        self,
        pixels: np.ndarray,
        position: np.ndarray,
        keys: Sequence[str],
        *,
        restore: bool,
        text: int,
        baselines: bool,
    ) -> tuple[dict[str, np.ndarray], Maps, np.ndarray | None]:
        model, size = self.model, pixels.shape[1:3]
        image = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float().div(255)
        image = image.contiguous(memory_format=torch.channels_last)
        scalars = torch.from_numpy(position.astype(np.float32))[:, None].to(self.device)
        codes = model.encode(image, scalars)
        kind, mapping = judge_of(model.priors), next(iter(model.priors))
        seen = {name: model.surprise(name, codes, scalars) for name in {kind, mapping}}
        judged = judging_surprise(model, image, codes, scalars, seen[kind])
        maps = {"surprise": surprise_map(judged, (size[0], size[1]))}
        found = surprise_scores(seen[kind], self.settings.lambda_s[kind], 0.0)
        scores = {
            TEXT_SCORE: found["tail_sum"],
            "mean_nll": judged.nll.mean((1, 2)),
            "nll_minus_entropy": (judged.nll - judged.entropy).mean((1, 2)),
        }
        masked = seen[mapping]
        maps["masked_surprise"] = surprise_map(masked, (size[0], size[1]))
        made = model.decode(codes, scalars)
        maps["reconstruction"] = self._signed(image - made)
        if model.detective is not None:
            places, whole = self.altered(image, made, judged, position)
            maps[DETECTIVE_MAP] = place_map(places, (size[0], size[1]))
            scores[DETECTIVE] = whole
        picture = None
        if restore:
            where = self.named(maps.get(DETECTIVE_MAP), masked, codes)
            residual, mean = self._restored(image, codes, where, scalars, keys, mapping)
            maps["restoration"] = residual
            picture = mean[:, 0].mul(255).round().byte().cpu().numpy()
        if baselines and model.vae is not None:
            maps["baseline_vae"] = self._signed(image - model.vae.reconstruct(image))
        if text:
            maps["text_restoration"] = self._text(image, codes, scalars, keys, text)
        return (
            {name: values.double().cpu().numpy() for name, values in scores.items()},
            {name: values.float().cpu().numpy() for name, values in maps.items()},
            picture,
        )

    def altered(self, image: Tensor, made: Tensor, judged: Surprise, position: np.ndarray) -> tuple[Tensor, Tensor]:
        """The detective on slices (B, 1, H, W) in [0, 1] at positions (B,): logits of places and of slices."""
        assert self.model.detective is not None
        usual = None
        if self.model.detective.config.atlas and self.atlas is not None:
            usual = torch.from_numpy(self.atlas.z(image[:, 0].cpu().numpy(), position))[:, None].to(self.device)
        places, whole = self.model.detective(image, made, judged, None, usual)
        return places, whole

    def _signed(self, difference: Tensor) -> Tensor:
        """(B, 1, H, W) image less what is healthy -> (B, H, W), what counts of it where the sequence tells the sign."""
        sign = self.settings.sign
        return difference[:, 0].abs() if sign == 0 else (sign * difference[:, 0]).clamp_min(0)

    def named(self, altered: Tensor | None, surprise: Surprise, codes: Tensor) -> Tensor:
        """(B, h, w) bool, the codes to draw anew: those the detective names, and without one those above lambda_p."""
        if altered is None:
            return surprise.nll > self.settings.lambda_p[next(iter(self.model.priors))]
        cells = F.adaptive_max_pool2d(altered[:, None], codes.shape[1:])[:, 0]
        return cells > NAMED_FROM

    def _restored(
        self, image: Tensor, codes: Tensor, where: Tensor, scalars: Tensor, keys: Sequence[str], kind: str
    ) -> tuple[Tensor, Tensor]:
        """Weighted mean over S restorations: signed residual (B, H, W), and the restored image (B, 1, H, W)."""
        copies = self.settings.restorations
        uniforms = uniforms_of(list(keys), copies, (codes.shape[1], codes.shape[2])).to(codes.device)
        drawn = self.model.priors[kind].resample(
            codes, uniforms, where=where, context=self.model.context(kind, scalars)
        )
        decoded = self.model.decode(drawn.flatten(0, 1), scalars.repeat_interleave(copies, 0))
        decoded = decoded.view(len(codes), copies, *image.shape[1:])
        distance = (decoded - image[:, None]).abs()
        weights = restoration_weights(distance.mean((2, 3, 4)) * 2, 3.0)[:, :, None, None, None]
        mean = (decoded * weights).sum(1)
        return self._signed(image - mean), mean

    def _text(self, image: Tensor, codes: Tensor, scalars: Tensor, keys: Sequence[str], copies: int) -> Tensor:
        """The text's map before pooling: codes above lambda_p given the restored prefix, weighted |X - restoration|."""
        kind = "pixelsnail" if "pixelsnail" in self.model.priors else next(iter(self.model.priors))
        uniforms = uniforms_of(list(keys), copies, (codes.shape[1], codes.shape[2])).to(codes.device)
        drawn = self.model.priors[kind].resample(
            codes, uniforms, above=self.settings.lambda_p[kind], context=self.model.context(kind, scalars)
        )
        decoded = self.model.decode(drawn.flatten(0, 1), scalars.repeat_interleave(copies, 0))
        distance = (decoded.view(len(codes), copies, *image.shape[1:]) - image[:, None]).abs()
        weights = restoration_weights(distance.mean((2, 3, 4)) * 2, 3.0)[:, :, None, None, None]
        return (distance * weights).sum(1)[:, 0]

    def _baselines(self, image: np.ndarray, position: np.ndarray) -> Maps:
        assert self.atlas is not None
        z = self.atlas.z(image, position)
        sign = self.settings.sign
        mirrored = image - image[:, :, ::-1]
        return {
            "baseline_brightness": image,
            "baseline_atlas": np.abs(z) if sign == 0 else np.maximum(sign * z, 0),
            "baseline_asymmetry": np.abs(mirrored) if sign == 0 else np.maximum(sign * mirrored, 0),
            "baseline_position": np.maximum(self.atlas.usual_surprise(position, image.shape[1:]), 0) * image,
            "baseline_centre": np.broadcast_to(_centre(image.shape[1]), image.shape),
        }

    def _products(self, raw: Maps, image: np.ndarray) -> Maps:
        """Products of evidence that is independent: what was learnt, and what the sequence shows as it is."""
        light = image if self.settings.sign >= 0 else 1 - image
        found = {"surprise_x_brightness": np.maximum(raw["masked_surprise"], 0) * light} if self.settings.sign else {}
        if DETECTIVE_MAP not in raw:
            return found
        if self.settings.sign:
            found["detective_x_brightness"] = raw[DETECTIVE_MAP] * light
        if "restoration" in raw:
            found["detective_x_restoration"] = raw[DETECTIVE_MAP] * raw["restoration"]
        if "baseline_atlas" in raw:
            found["detective_x_atlas"] = raw[DETECTIVE_MAP] * np.minimum(raw["baseline_atlas"], MOST_Z)
        return found


def within(inside: np.ndarray) -> np.ndarray:
    """(n, H, W) bool, the head without its rim."""
    depth = max(1, round(RIM * inside.shape[1]))
    return np.stack([ndimage.binary_erosion(one, iterations=depth) for one in inside])


def smoothed(values: np.ndarray, name: str) -> np.ndarray:
    """(n, H, W) of one volume, pooled as its kind wants: residuals and grey levels as the text does, 3x3(x3) minimum,
    then 7x7(x7) mean, deep only as far as slices lie dense; what networks drew smoothly a little."""
    depth = _odd(TEXT_POOL[1] * len(values) / values.shape[1])
    if name in (DETECTIVE_MAP, "surprise", "masked_surprise", "baseline_centre", "baseline_position"):
        return np.asarray(ndimage.uniform_filter(values, (depth, 1, 1), mode="nearest"), np.float32)
    least = ndimage.minimum_filter(values, (1 if depth == 1 else 3, TEXT_POOL[0], TEXT_POOL[0]), mode="nearest")
    return np.asarray(ndimage.uniform_filter(least, (depth, TEXT_POOL[1], TEXT_POOL[1]), mode="nearest"), np.float32)


def _odd(value: float) -> int:
    return max(1, 2 * int(value // 2) + 1)


def top_of(values: np.ndarray, head: np.ndarray) -> np.ndarray:
    """(n,) float64: mean of each slice's largest values within the head, `TOP_SHARE` of it."""
    found = np.zeros(len(values))
    for k, (one, where) in enumerate(zip(values, head, strict=True)):
        chosen = one[where]
        if len(chosen):
            count = max(1, round(TOP_SHARE * len(chosen)))
            found[k] = float(np.partition(chosen, -count)[-count:].mean())
    return found


def volume_scores(scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Scores of a volume from its slices': the text's tail sum is summed, of the others the mean of the most unusual
    quarter is taken."""
    found = {}
    for name, values in scores.items():
        count = max(1, round(TOP_SLICES * len(values)))
        top = float(np.sort(values)[-count:].mean())
        found[name] = float(values.sum()) if name == TEXT_SCORE else top
    return found


def _centre(side: int) -> np.ndarray:
    axis = (np.arange(side) + 0.5) / side - 0.5
    return np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * 0.25**2)).astype(np.float32)
