"""Export a model's networks as ONNX graphs that include pre- and post-processing: from uint8 crops to codes, surprise,
raw scores and maps, and from codes to restorations. `graphs.GraphNetworks` runs them."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.errors import PixelsleuthError, needs_extra
from pixelsleuth.models.masked import LATTICES, MaskedPrior, lattices
from pixelsleuth.scoring.atlas import BINS, MIN_SPREAD
from pixelsleuth.scoring.measurements import raw_tensors, slice_tensors
from pixelsleuth.scoring.networks import Encoded, TorchNetworks, nothing_told, signed
from pixelsleuth.scoring.restoration import TEMPERATURE, pooled, restoration_weights

OPSET = 20
#: Bytes from which a tensor is worth sharing: small ones are read faster where they are.
WORTH_SHARING = 4096


class ScoresOfImages(nn.Module):
    """(B, size, size, 3) uint8 crops, the same at the detective's size, and (k, 2 S, 2 S, 3) uint8 crops from near of
    the rows `which` (k,) -> outputs by name."""

    inputs: tuple[str, ...]

    def __init__(self, networks: TorchNetworks) -> None:
        super().__init__()
        self.networks = networks
        self.parts = nn.ModuleList(networks.model.networks)
        config = networks.model.config
        deep = config.detective is not None and config.detective.kind == "deep"
        self.inputs = ("square",)
        self.inputs += ("close",) if config.close_size != config.vqvae.size else ()
        self.inputs += ("near", "which") if deep else ()

    def examples(self) -> dict[str, Tensor]:
        config = self.networks.model.config
        sides = {"square": config.vqvae.size, "close": config.close_size, "near": 2 * config.close_size}
        made = {
            name: torch.randint(0, 256, (2 if name == "near" else 3, side, side, 3), dtype=torch.uint8)
            for name, side in sides.items()
            if name in self.inputs
        }
        return made | ({"which": torch.tensor([0, 2])} if "which" in self.inputs else {})

    def forward(
        self, square: Tensor, close: Tensor | None = None, near: Tensor | None = None, which: Tensor | None = None
    ) -> dict[str, Tensor]:
        networks = self.networks
        model, image = networks.model, _float(square)
        encoded = Encoded(
            image, model.vqvae.encode(image), nothing_told(image), None if close is None else _float(close),
            None if near is None else _float(near), which,
        )  # fmt: skip
        seen = networks.measured_images(encoded, set(model.priors), rim=True)
        first = next(iter(model.priors))
        found = {"codes": seen.codes, "flagged": networks.flagged(encoded, seen, first)}
        for kind, surprise in seen.surprise.items():
            found |= {f"nll.{kind}": surprise.nll, f"entropy.{kind}": surprise.entropy}
        found |= {f"score.{name}": values for name, values in raw_tensors(seen, networks.settings).items()}
        found |= {f"map.{name}": values for name, values in networks.image_maps(seen).items()}
        if seen.appearance is not None:
            found["appearance"] = seen.appearance
        return found


class ScoresOfSlices(nn.Module):
    """(B, size, size, 1) uint8 slices at positions (B,) float32 -> outputs by name."""

    inputs = ("square", "position")

    def __init__(self, networks: TorchNetworks) -> None:
        super().__init__()
        self.networks = networks
        self.parts = nn.ModuleList(networks.model.networks)
        detective = networks.model.config.detective
        self.atlas = networks.atlas if detective is not None and detective.atlas else None
        for name in ("mean", "spread") if self.atlas is not None else ():
            self.register_buffer(name, torch.from_numpy(getattr(self.atlas, name)))

    def examples(self) -> dict[str, Tensor]:
        side = self.networks.size
        square = torch.randint(0, 256, (3, side, side, 1), dtype=torch.uint8)
        return {"square": square, "position": torch.tensor([-0.3, 0.0, 0.2])}

    def forward(self, square: Tensor, position: Tensor) -> dict[str, Tensor]:
        networks = self.networks
        model = networks.model
        image, scalars = _float(square), position[:, None]
        encoded = Encoded(image, model.vqvae.encode(image, scalars), scalars, usual=self._usual(image, position))
        seen, decoded = networks.measured(encoded, set(model.priors))
        first = next(iter(model.priors))
        found = {"codes": seen.codes, "flagged": networks.flagged(encoded, seen, first)}
        for kind, surprise in seen.surprise.items():
            found |= {f"nll.{kind}": surprise.nll, f"entropy.{kind}": surprise.entropy}
        found |= {f"score.{name}": values for name, values in slice_tensors(seen, networks.settings).items()}
        found |= {f"map.{name}": values for name, values in networks.slice_maps(seen, image, decoded).items()}
        return found

    def _usual(self, image: Tensor, position: Tensor) -> Tensor | None:
        """`Atlas.z` in torch."""
        if self.atlas is None:
            return None
        bins = ((position + 0.5) * BINS).long().clamp(0, BINS - 1)
        mean, spread = (
            F.interpolate(part[bins][:, None], image.shape[2:], mode="bilinear", align_corners=False)
            for part in (self.mean, self.spread)
        )
        return (image - mean) / spread.clamp_min(MIN_SPREAD)


class Restorations(nn.Module):
    """Crops as above, (B, h, w) int64 codes, those to draw anew (B, h, w) bool, and (B, S, h, w) float64 uniforms ->
    codes (B, S, h, w), and what `restoration.Restored` holds of them; by the masked prior alone."""

    def __init__(self, networks: TorchNetworks) -> None:
        super().__init__()
        self.networks = networks
        self.parts = nn.ModuleList(networks.model.networks)
        self.of_slices = networks.model.config.of_volumes
        self.inputs = ("square", "codes", "flagged", "uniforms") + (("position",) if self.of_slices else ())

    def examples(self) -> dict[str, Tensor]:
        networks = self.networks
        side, channels = networks.size, networks.model.config.vqvae.channels
        grid, codes = networks.model.config.priors[0].grid, networks.model.config.vqvae.codes
        made = {
            "square": torch.randint(0, 256, (3, side, side, channels), dtype=torch.uint8),
            "codes": torch.randint(0, codes, (3, *grid)),
            "flagged": torch.rand(3, *grid) > 0.5,
            "uniforms": torch.rand(3, 2, *grid, dtype=torch.float64),
        }
        return made | ({"position": torch.tensor([-0.3, 0.0, 0.2])} if self.of_slices else {})

    def forward(
        self, square: Tensor, codes: Tensor, flagged: Tensor, uniforms: Tensor, position: Tensor | None = None
    ) -> dict[str, Tensor]:
        networks = self.networks
        model, copies = networks.model, uniforms.shape[1]
        image = _float(square)
        prior = next(iter(model.priors.values()))
        assert isinstance(prior, MaskedPrior)
        told = nothing_told(image) if position is None else position[:, None]
        scalars = told.repeat_interleave(copies, 0)
        restored = codes[:, None].expand(-1, copies, -1, -1).flatten(0, 1)
        hidden = flagged[:, None].expand(-1, copies, -1, -1).flatten(0, 1)
        drawn = uniforms.flatten(0, 1)
        partition = lattices(prior.config.grid)
        for number in range(LATTICES):
            logits = prior(restored, hidden, scalars).permute(0, 2, 3, 1)
            now = hidden & (partition == number)
            restored = torch.where(now, _draw(logits, drawn), restored)
            hidden = hidden & ~now
        decoded = model.vqvae.decode(restored, scalars).unflatten(0, (-1, copies))
        distance = (decoded - image[:, None]).abs()
        weights = restoration_weights(distance.mean((2, 3, 4)) * 2, TEMPERATURE)
        spread = weights[:, :, None, None, None]
        mean = (decoded * spread).sum(1)
        if self.of_slices:
            shown = signed(image - mean, networks.settings.sign)
        else:
            shown = pooled((distance * spread).sum(1).mean(1))
        return {
            "restored": restored.unflatten(0, (-1, copies)),
            "restoration": mean.permute(0, 2, 3, 1).mul(255).round().to(torch.uint8),
            "map.restoration": shown,
        }


def _float(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float() / 255


def _draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """`prior.draw` without a search, which ONNX lacks: the count of cumulative probabilities up to the uniform."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    return (cumulative <= uniforms[..., None]).sum(-1).clamp_max(logits.shape[-1] - 1)


def can_restore(networks: TorchNetworks) -> bool:
    """Whether the default prior draws in a fixed number of steps; PixelSNAIL walks from place to place."""
    return isinstance(next(iter(networks.model.priors.values())), MaskedPrior)


def graph_of(networks: TorchNetworks) -> nn.Module:
    """The scoring graph of a model, as a module."""
    if networks.dtype != "float32":
        raise PixelsleuthError(
            f"expected a model calibrated in float32, got {networks.dtype}: graphs compute in float32", "model"
        )
    return ScoresOfSlices(networks) if networks.model.config.of_volumes else ScoresOfImages(networks)


@torch.no_grad()
def write_graph(module: Any, path: Path, about: Mapping[str, str]) -> None:
    """Export a module of this file to one ONNX file with `about` as its metadata.

    Raises:
        PixelsleuthError: the packages that export are not installed.
    """
    with needs_extra("onnx", "an export"):
        import onnx
        import onnxscript  # noqa: F401
    examples = module.examples()
    names = list(examples)
    batch, copies, near = (torch.export.Dim(name, min=1) for name in ("batch", "copies", "near"))
    shapes = {}
    for name in names:
        shapes[name] = {0: near if name in ("near", "which") else batch} | ({1: copies} if name == "uniforms" else {})
    module.eval()
    outputs = list(module(**examples))
    # By itself the exporter would give up a dimension that it cannot keep free; here it is an error.
    with _quiet():
        traced = torch.export.export(module, (), kwargs=examples, dynamic_shapes=shapes, strict=False)
        program = torch.onnx.export(
            traced, kwargs=examples, dynamo=True, opset_version=OPSET, input_names=names, output_names=outputs,
            verbose=False,
        )  # fmt: skip
    made = program.model_proto
    onnx.helper.set_model_props(made, dict(about))
    onnx.save(made, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own remarks (its deprecations, packages that it can do without), of which no user could
    make anything; errors are raised as ever."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def share_weights(path: Path, folder: Path) -> None:
    """Let a graph in a model's own folder take the weights that it holds unchanged from the folder's safetensors,
    whose bytes ONNX's external data can name; nothing is then stored twice."""
    with needs_extra("onnx", "an export"):
        import onnx
    places: dict[bytes, tuple[str, int, int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for digest, offset, length in _tensors(file):
            places.setdefault(digest, (file.name, offset, length))
    graph = onnx.load(path)
    for tensor in graph.graph.initializer:
        found = places.get(hashlib.sha256(tensor.raw_data).digest()) if len(tensor.raw_data) >= WORTH_SHARING else None
        if found is not None:
            onnx.external_data_helper.set_external_data(tensor, *found)
            tensor.ClearField("raw_data")
    onnx.save(graph, path)


def _tensors(file: Path) -> Iterator[tuple[bytes, int, int]]:
    """Of each tensor of a safetensors file the SHA-256 of its bytes, where they begin, and how many they are."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    for name, about in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = (8 + length + at for at in about["data_offsets"])
            yield hashlib.sha256(data[start:end]).digest(), start, end - start
