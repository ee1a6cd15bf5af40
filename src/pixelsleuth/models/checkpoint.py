"""A model as a folder: config.json, safetensors, nothing pickled; loading is strict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize

from pixelsleuth.errors import ModelError
from pixelsleuth.files import whole_file
from pixelsleuth.models.configuration import (
    DETECTIVE_FILE,
    VAE_FILE,
    ModelConfig,
    PriorConfig,
    digest_of,
    load_config,
    prior_file,
)
from pixelsleuth.models.detective import DeepDetective, Detective, build_detective
from pixelsleuth.models.masked import MaskedPrior
from pixelsleuth.models.pixelsnail import PixelSNAIL
from pixelsleuth.models.prior import Prior
from pixelsleuth.models.vae import VAE
from pixelsleuth.models.vqvae import VQVAE


@dataclass(frozen=True)
class Model:
    """The networks in eval mode on the CPU, and how pictures must be prepared for them.

    Attributes:
        priors: kind -> prior; the first is the default.
        detective: None where the model has none; vae: likewise.
        sha256: over the weight files and the configuration.
    """

    config: ModelConfig
    vqvae: VQVAE
    priors: dict[str, Prior]
    sha256: str
    detective: Detective | DeepDetective | None = None
    vae: VAE | None = None

    def count(self, kind: str) -> int:
        """Parameters of the prior of this kind."""
        prior = self.priors[kind]
        return parameter_count(prior) if isinstance(prior, nn.Module) else 0

    @property
    def networks(self) -> list[nn.Module]:
        every = (self.vqvae, *self.priors.values(), self.detective, self.vae)
        return [network for network in every if isinstance(network, nn.Module)]


def parameter_count(network: nn.Module) -> int:
    """How many parameters a network has, frozen ones included."""
    return sum(p.numel() for p in network.parameters())


def build_prior(config: PriorConfig) -> MaskedPrior | PixelSNAIL:
    """A new prior with random weights."""
    return MaskedPrior(config) if config.kind == "masked" else PixelSNAIL(config)


def save_network(network: nn.Module, path: Path) -> None:
    """Write a network's weights as float32 safetensors, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with whole_file(path) as partial:
        save_file(tensors, partial)
        # The library writes for the owner alone; a model is there to be shared.
        partial.chmod(0o644)


def load_network(network: nn.Module, path: Path) -> None:
    """Load weights strictly.

    Raises:
        ModelError: names the file and the first key that is missing, unknown, or of another shape.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; the model folder is not complete") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error})") from error
    expected = network.state_dict()
    for name, value in expected.items():
        if name not in tensors:
            raise ModelError(f"{path}: key {name!r} is missing")
        if tensors[name].shape != value.shape:
            raise ModelError(
                f"{path}: key {name!r} has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
            )
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise ModelError(f"{path}: key {unknown[0]!r} is not part of this architecture")
    network.load_state_dict(tensors)


def load_model(folder: Path) -> Model:
    """Read a model folder.

    Raises:
        ModelError: a missing file, an unknown format version, an unknown or missing setting, a wrong shape.
    """
    config = load_config(folder)
    vqvae = VQVAE(config.vqvae)
    load_network(vqvae, folder / "vqvae.safetensors")
    priors: dict[str, Prior] = {}
    for number, settings in enumerate(config.priors):
        made = build_prior(settings)
        load_network(made, folder / prior_file(number, settings.kind))
        priors[settings.kind] = made
    grid = vqvae.grid()
    for kind, prior in priors.items():
        if prior.config.grid != grid or prior.config.codes != config.vqvae.codes:
            raise ModelError(
                f"{folder}: the {kind} prior is for a grid {prior.config.grid} of {prior.config.codes} codes, "
                f"the VQ-VAE gives {grid} of {config.vqvae.codes}"
            )
    detective = None
    if config.detective is not None:
        if config.detective.channels != config.vqvae.channels:
            raise ModelError(
                f"{folder}: the detective is for {config.detective.channels} channels, the VQ-VAE for "
                f"{config.vqvae.channels}"
            )
        detective = build_detective(config.detective)
        load_network(detective, folder / DETECTIVE_FILE)
    vae = None
    if config.vae is not None:
        vae = VAE(config.vae)
        load_network(vae, folder / VAE_FILE)
    model = Model(config, vqvae, priors, digest_of(folder, config), detective, vae)
    for network in model.networks:
        bake(network)
        network.eval().requires_grad_(False)
        network.to(memory_format=torch.channels_last)
    return model


def bake(network: nn.Module) -> None:
    """Weight-normed weights become plain ones: a network that is not trained need not norm them at every pass."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
