"""Run crops through the networks with torch: codes, surprise, restorations, raw scores, maps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.models.backbone import fold
from pixelsleuth.models.checkpoint import Model, load_model
from pixelsleuth.models.detective import DeepDetective
from pixelsleuth.models.masked import MaskedPrior
from pixelsleuth.records import Surprise
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.scoring.complexity import complexity
from pixelsleuth.scoring.maps import Maps
from pixelsleuth.scoring.measurements import (
    Measurements,
    centre_of,
    centre_smoothness,
    raw_scores,
    slice_scores,
    surprise_map,
)
from pixelsleuth.scoring.restoration import Restored, pooled, restore
from pixelsleuth.scoring.scorer import Crops, Scorer, Scores, Wanted
from pixelsleuth.scoring.settings import DETECTIVE_MAP, ScoreSettings, scoring_prior

#: S of the map of Marimont & Tarroni 2021, which only `evaluate` makes.
REFERENCE_RESTORATIONS = 15
#: Of a slice, a code is drawn anew where the detective gives its cell more than this probability.
NAMED_FROM = 0.5
#: Crops scored together unless told otherwise: on a CPU more is not faster; it holds some 12 MB a crop.
BATCH = 32
BATCH_ON_GPU = 256


class Encoded(NamedTuple):
    """A batch on the networks' device.

    Attributes:
        image: (B, C, H, W) float32 in [0, 1]; codes: (B, h, w) int64.
        scalars: (B, n) float32, where slices lie; of images n is 0.
        close, near, which: as in `Crops`, float32 in [0, 1], channels first.
        usual: (B, 1, H, W) float32, of slices standard scores against the atlas, where the detective sees them.
    """

    image: Tensor
    codes: Tensor
    scalars: Tensor
    close: Tensor | None = None
    near: Tensor | None = None
    which: Tensor | None = None
    usual: Tensor | None = None


class TorchNetworks:
    """A model's networks as torch runs them, with its fitted settings; see `scorer.Networks`."""

    def __init__(
        self, model: Model, settings: ScoreSettings, dtype: str = "float32", atlas: Atlas | None = None
    ) -> None:
        if atlas is None and model.config.detective is not None and model.config.detective.atlas:
            raise ValueError("atlas: expected the model's, which its detective sees; got none")
        self.model, self.settings, self.dtype, self.atlas = model, settings, dtype, atlas
        self.device = next(model.vqvae.parameters()).device
        self.size, self.close_size = model.config.vqvae.size, model.config.close_size
        self.batch = BATCH if self.device.type == "cpu" else BATCH_ON_GPU
        self.precision = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        # Here, not where a model is read: only here it is known in which type it will run.
        if self.precision == torch.float32:
            for network in model.networks:
                fold(network)

    @torch.no_grad()
    def measure(self, crops: Crops) -> Measurements:
        """Measure everything of images that scores are fitted on, unadjusted."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            seen = self.measured_images(self.encoded(crops), set(self.model.priors), rim=True)
        return replace(seen, complexity=np.stack([complexity(pixels) for pixels in crops.square]))

    def encoded(self, crops: Crops) -> Encoded:
        """The crops on the device, and their codes. Raises ValueError where the detective wants another size than it is
        given."""
        image = self._image(crops.square)
        if crops.position is not None:
            scalars = torch.from_numpy(crops.position.astype(np.float32))[:, None].to(self.device)
            usual = self.usual(image, crops.position)
            return Encoded(image, self.model.vqvae.encode(image, scalars), scalars, usual=usual)
        close = near = which = None
        size = (crops.square if crops.close is None else crops.close).shape[1]
        if size != self.close_size:
            raise ValueError(f"close: expected {self.close_size} px crops, got {size} px")
        if crops.close is not None:
            close = self._image(crops.close)
        if crops.near is not None and crops.which is not None and isinstance(self.model.detective, DeepDetective):
            near = self._image(crops.near)
            which = torch.from_numpy(np.asarray(crops.which, np.int64)).to(self.device)
        return Encoded(image, self.model.vqvae.encode(image), nothing_told(image), close, near, which)

    def usual(self, image: Tensor, position: np.ndarray) -> Tensor | None:
        """Standard scores of slices against the atlas, where the detective sees them."""
        detective = self.model.config.detective
        if detective is None or not detective.atlas or self.atlas is None:
            return None
        return torch.from_numpy(self.atlas.z(image[:, 0].cpu().numpy(), position))[:, None].to(self.device)

    def measured(self, encoded: Encoded, kinds: Collection[str]) -> tuple[Measurements, Tensor]:
        """Measure a batch by the priors of these kinds and the detective, and decode its codes as they are, (B, C, H,
        W) float32."""
        model, codes, scalars = self.model, encoded.codes, encoded.scalars
        surprise: dict[str, Surprise] = {}
        two_way = None
        for kind in model.priors:
            if kind == "pixelsnail" and kind in kinds:
                surprise[kind], two_way = both_surprises(model, encoded)
            elif kind in kinds:
                surprise[kind] = model.priors[kind].log_prob(codes, scalars)
        decoded = model.vqvae.decode(codes, scalars)
        seen = Measurements(codes, surprise, two_way=two_way)
        altered, near, looks = self._altered(seen, decoded, encoded)
        return replace(seen, altered=altered, near=near, appearance=looks), decoded

    def measured_images(self, encoded: Encoded, kinds: Collection[str], rim: bool) -> Measurements:
        """Measure a batch of images, whose face is in the middle.

        Args:
            kinds: of the priors to ask.
            rim: also ask the masked prior for centre and rim in turn.
        """
        seen, decoded = self.measured(encoded, kinds)
        codes, masked = encoded.codes, self.model.priors.get("masked")
        centre, around = centre_of((int(codes.shape[1]), int(codes.shape[2])), codes.device), None
        if isinstance(masked, MaskedPrior) and rim:
            around = masked.log_prob(codes, partition=centre.long(), parts=2)
        return replace(seen, rim=around, smoothness=centre_smoothness(decoded.mean(1), centre))

    def restored(self, encoded: Encoded, seen: Measurements, keys: Sequence[str], kind: str = "") -> Restored:
        """Restorations by the prior of this kind, the default one unless given."""
        kind = kind or next(iter(self.model.priors))
        # The masked prior's flags are known beforehand; PixelSNAIL's depend on what it has restored.
        flags: dict[str, Any] = {"where": self.flagged(encoded, seen, kind)}
        if kind == "pixelsnail" and not self.model.config.of_volumes:
            flags = {"above": self.settings.lambda_p[kind]}
        return restore(
            encoded.image, encoded.codes, self.model.vqvae, self.model.priors[kind], keys,
            restorations=self.settings.restorations, scalars=encoded.scalars, **flags,
        )  # fmt: skip

    def flagged(self, encoded: Encoded, seen: Measurements, kind: str) -> Tensor:
        """(B, h, w) bool, the codes to draw anew: above lambda_p, or of slices those that the detective names."""
        if not self.model.config.of_volumes or seen.altered is None:
            return seen.surprise[kind].nll > self.settings.lambda_p[kind]
        altered = place_map(seen.altered[0], (self.size, self.size))
        return F.adaptive_max_pool2d(altered[:, None], seen.codes.shape[1:])[:, 0] > NAMED_FROM

    @torch.no_grad()
    def reference_restored(self, encoded: Encoded, keys: Sequence[str]) -> Restored:
        """Restore as Marimont & Tarroni 2021 do: resample codes above lambda_p given the restored prefix, S = 15."""
        kind = scoring_prior(self.model.priors)
        return restore(
            encoded.image, encoded.codes, self.model.vqvae, self.model.priors[kind], keys,
            restorations=REFERENCE_RESTORATIONS, above=self.settings.lambda_p[kind], scalars=encoded.scalars,
        )  # fmt: skip

    @torch.no_grad()
    def images(self, crops: Crops, wanted: Wanted) -> Scores:
        """As the protocol says."""
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            encoded = self.encoded(crops)
            seen = self.measured_images(encoded, wanted.kinds, wanted.rim)
            restored = self.restored(encoded, seen, crops.keys) if wanted.restored else None
        maps = self.image_maps(seen) if wanted.maps else {}
        if restored is not None:
            maps["restoration"] = pooled(restored.residual)
        made: Maps = {name: values.cpu().numpy() for name, values in maps.items()}
        looks = None if seen.appearance is None else seen.appearance.cpu().numpy()
        pixels = None if restored is None else to_pixels(restored.mean)
        return Scores(raw_scores(seen, self.settings), made, pixels, looks)

    @torch.no_grad()
    def slices(self, crops: Crops, wanted: Wanted) -> Scores:
        """As the protocol says."""
        model, sign = self.model, self.settings.sign
        encoded = self.encoded(crops)
        seen, decoded = self.measured(encoded, wanted.kinds)
        maps, pixels = self.slice_maps(seen, encoded.image, decoded), None
        if wanted.restored:
            restored = self.restored(encoded, seen, crops.keys)
            maps["restoration"] = signed(encoded.image - restored.mean, sign)
            pixels = to_pixels(restored.mean)
        if wanted.baselines and model.vae is not None:
            maps["baseline_vae"] = signed(encoded.image - model.vae.reconstruct(encoded.image), sign)
        if wanted.reference:
            maps["text_restoration"] = self.reference_restored(encoded, crops.keys).residual
        raw = {name: values.float().cpu().numpy() for name, values in maps.items()}
        return Scores(slice_scores(seen, self.settings), raw, pixels)

    def image_maps(self, seen: Measurements) -> dict[str, Tensor]:
        """(B, H, W) maps of images by name, of what was measured."""
        found, mapping, size = {}, next(iter(self.model.priors)), (self.size, self.size)
        if mapping in seen.surprise:
            found["surprise"] = surprise_map(seen.surprise[mapping], size)
        if seen.altered is not None:
            found[DETECTIVE_MAP] = altered_map(seen, size)
        return found

    def slice_maps(self, seen: Measurements, image: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        """(B, H, W) maps of slices by name, without restorations; `decoded` as `measured` gives it."""
        mapping, size = next(iter(self.model.priors)), (self.size, self.size)
        found = {
            "surprise": surprise_map(seen.judging, size),
            "masked_surprise": surprise_map(seen.surprise[mapping], size),
            "reconstruction": signed(image - decoded, self.settings.sign),
        }
        if seen.altered is not None:
            found[DETECTIVE_MAP] = place_map(seen.altered[0], size)
        return found

    def _image(self, pixels: np.ndarray) -> Tensor:
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return image.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)

    def _altered(
        self, seen: Measurements, decoded: Tensor, encoded: Encoded
    ) -> tuple[tuple[Tensor, Tensor] | None, tuple[Tensor, Tensor, Tensor] | None, Tensor | None]:
        """The detective's logits of places and of crops, those of the crops that are looked at from near, and how the
        crops look to a deep one."""
        detective = self.model.detective
        if isinstance(detective, DeepDetective):
            places, whole, looks = detective.seen(encoded.image if encoded.close is None else encoded.close)
            if encoded.near is None or encoded.which is None:
                return (places, whole), None, looks
            return (places, whole), (encoded.which, *detective.windows(encoded.near)), looks
        if detective is None:
            return None, None, None
        return detective(encoded.image, decoded, seen.judging, encoded.close, encoded.usual), None, None


def load_networks(
    folder: Path, settings: ScoreSettings, dtype: str, device: str | None, atlas: Atlas | None
) -> TorchNetworks:
    """The networks of a model folder, on `device`; on a GPU where there is one unless given. Raises ModelError."""
    model = load_model(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu":
        # TF32 keeps 10 bits: scores would leave their calibration.
        torch.backends.cudnn.allow_tf32 = False
        for network in model.networks:
            network.to(device)
    return TorchNetworks(model, settings, dtype, atlas)


def torch_scorer(model: Model, settings: ScoreSettings, dtype: str = "float32", atlas: Atlas | None = None) -> Scorer:
    """A scorer whose networks torch runs."""
    return Scorer(TorchNetworks(model, settings, dtype, atlas))


def torch_of(scorer: Scorer) -> TorchNetworks:
    """The networks of a scorer. Raises PixelsleuthError where torch does not run them."""
    if not isinstance(scorer.networks, TorchNetworks):
        raise PixelsleuthError("this needs the networks themselves, a graph does not hold them", "runtime")
    return scorer.networks


def nothing_told(image: Tensor) -> Tensor:
    """(B, 0) float32, what networks are told of images beside them."""
    return torch.zeros(image.shape[0], 0, device=image.device)


def altered_map(seen: Measurements, size: tuple[int, int]) -> Tensor:
    """(B, H, W) float32, how likely each place was altered; where there is a view from near the mean of both."""
    assert seen.altered is not None
    found = place_map(seen.altered[0], size)
    if seen.near is not None:
        which, places, _ = seen.near
        found[which] = (found[which] + place_map(places, size)) / 2
    return found


def place_map(places: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) logits -> (B, H, W) float32 probabilities in [0, 1], smoothly enlarged."""
    return F.interpolate(places[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0].sigmoid()


def signed(difference: Tensor, sign: int) -> Tensor:
    """(B, 1, H, W) image less what is healthy -> (B, H, W), what counts of it where the sequence tells the sign."""
    return difference[:, 0].abs() if sign == 0 else (sign * difference[:, 0]).clamp_min(0)


def to_pixels(image: Tensor) -> np.ndarray:
    """(B, C, H, W) float32 in [0, 1] -> (B, H, W, C) uint8."""
    return image.permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()


def both_surprises(model: Model, encoded: Encoded) -> tuple[Surprise, Surprise]:
    """PixelSNAIL's surprise, and its average over an image and its mirror image, turned back."""
    codes, scalars = encoded.codes, encoded.scalars
    prior, mirrored = model.priors["pixelsnail"], model.vqvae.encode(encoded.image.flip(3), scalars)
    if torch.compiler.is_exporting():
        # A graph would otherwise hold the network twice.
        both = prior.log_prob(torch.cat([codes, mirrored]), scalars.repeat(2, 1))
        nll, entropy = (values.unflatten(0, (2, -1)) for values in (both.nll, both.entropy))
        there, back = Surprise(nll[0], entropy[0]), Surprise(nll[1], entropy[1])
    else:
        there = prior.log_prob(codes, scalars)
        back = prior.log_prob(mirrored, scalars)
    return there, Surprise((there.nll + back.nll.flip(2)) / 2, (there.entropy + back.entropy.flip(2)) / 2)


@torch.no_grad()
def judging_surprise(model: Model, encoded: Encoded) -> Surprise:
    """Surprise of the prior that scores, as a detective sees it: PixelSNAIL's over image and mirror image where the
    model has one, else the default prior's."""
    kind = scoring_prior(model.priors)
    if kind != "pixelsnail":
        return model.priors[kind].log_prob(encoded.codes, encoded.scalars)
    return both_surprises(model, encoded)[1]
