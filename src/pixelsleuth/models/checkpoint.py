"""A model as a folder: config.json, safetensors, nothing pickled; loading is strict."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pixelsleuth.errors import ModelError
from pixelsleuth.files import sha256_of, whole_file, write_text
from pixelsleuth.models.detective import DeepDetective, Detective, DetectiveConfig, build_detective
from pixelsleuth.models.masked import MaskedPrior
from pixelsleuth.models.pixelsnail import PixelSNAIL
from pixelsleuth.models.prior import Context, Prior, PriorConfig
from pixelsleuth.models.vae import VAE, VAEConfig
from pixelsleuth.models.vqvae import VQVAE, VQVAEConfig
from pixelsleuth.records import Surprise

FORMAT = 1
DETECTIVE_FILE = "detective.safetensors"
VAE_FILE = "vae.safetensors"
#: What travels of a store's settings where it has them: pictures and videos have some, volumes others.
PREPROCESSING = (
    "size", "crop", "margin", "min_confidence", "edge", "align", "level", "pick",
    "channels", "standard", "frame", "trim", "keep_empty",
)  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """What travels with the weights.

    Attributes:
        preprocessing: `size`, `crop` (`face`, `none` or `volume`), `margin`, `min_confidence`, `edge`, `align`,
            `level` of the training pictures (see sources.faces.Framing), how frames were picked (`pick`); of volumes
            `standard`, `frame`, `trim`, `keep_empty` (see sources.slices.SliceFraming).
        vqvae: architecture.
        priors: architectures, the default one first.
        detective: architecture of the network taught on self-made forgeries, or None.
        vae: architecture of the baseline, or None.
        scoring: what was fitted on training pictures after the networks (see scoring.settings.ScoreSettings).
        training: settings, data and figures of the training run, for the model card.
    """

    preprocessing: dict[str, Any]
    vqvae: VQVAEConfig
    priors: tuple[PriorConfig, ...]
    scoring: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    detective: DetectiveConfig | None = None
    vae: VAEConfig | None = None


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

    @property
    def close_size(self) -> int:
        """Side in pixels of the squares the detective sees; the VQ-VAE's own where there is none."""
        detective = self.config.detective
        return detective.seen(self.config.vqvae.size) if detective else self.config.vqvae.size

    def encode(self, image: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Codes of an image; `scalars` (B, n) of its context reach the VQ-VAE if it was built for them."""
        return self.vqvae.encode(image, scalars if self.config.vqvae.context else None)

    def decode(self, codes: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Image of codes, likewise."""
        return self.vqvae.decode(codes, scalars if self.config.vqvae.context else None)

    def context(self, kind: str, scalars: Tensor | None) -> Context | None:
        """What the prior of this kind is given, likewise."""
        return Context(scalars) if self.priors[kind].config.context and scalars is not None else None

    def surprise(self, kind: str, codes: Tensor, scalars: Tensor | None = None) -> Surprise:
        """Surprise of codes to the prior of this kind."""
        return self.priors[kind].log_prob(codes, self.context(kind, scalars))

    def count(self, kind: str) -> int:
        """Parameters of the prior of this kind."""
        prior = self.priors[kind]
        return sum(p.numel() for p in prior.parameters()) if isinstance(prior, nn.Module) else 0

    @property
    def networks(self) -> list[nn.Module]:
        every = (self.vqvae, *self.priors.values(), self.detective, self.vae)
        return [network for network in every if isinstance(network, nn.Module)]


def build_prior(config: PriorConfig) -> MaskedPrior | PixelSNAIL:
    """A new prior with random weights."""
    return MaskedPrior(config) if config.kind == "masked" else PixelSNAIL(config)


def prior_file(number: int, kind: str) -> str:
    """The default prior is `prior.safetensors`; further ones carry their kind."""
    return "prior.safetensors" if number == 0 else f"prior_{kind}.safetensors"


def save_network(network: nn.Module, path: Path) -> None:
    """Writes a network's weights as float32 safetensors, whole or not at all."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with whole_file(path) as partial:
        save_file(tensors, partial)
        # The library writes for the owner alone; a model is there to be shared.
        partial.chmod(0o644)


def save_config(folder: Path, config: ModelConfig) -> None:
    tree = {"format": FORMAT, **asdict(config)}
    write_text(folder / "config.json", json.dumps(tree, indent=2) + "\n")


def load_network(network: nn.Module, path: Path) -> None:
    """Loads weights strictly.

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


def find_model(model: str | os.PathLike[str]) -> tuple[Path, str]:
    """Folder and name of a bundled model, a local folder, or a Hugging Face Hub repository.

    Raises:
        ModelError: none of these.
    """
    text = os.fspath(model)
    # A bundled name wins over a folder of pictures that happens to be called so; ./faces names the folder.
    bundled = Path(str(resources.files("pixelsleuth") / "assets" / text)) if text.isidentifier() else None
    if bundled is not None and (bundled / "config.json").is_file():
        return bundled, text
    folder = Path(text)
    if folder.is_dir():
        return folder, folder.resolve().name
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        patterns = ["config.json", "calibration.json", "*.safetensors", "README.md", "LICENSE-WEIGHTS"]
        try:
            return Path(snapshot_download(text, allow_patterns=patterns)), text
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{text}: no such folder, and the Hub did not give it ({reason})", "model") from error
    raise ModelError(f"expected a folder, the bundled 'faces', or a Hub id such as user/name; got {text!r}", "model")


def load_model(folder: Path) -> Model:
    """Reads a model folder.

    Raises:
        ModelError: a missing file, an unknown format version, an unknown or missing setting, a wrong shape.
    """
    config = load_config(folder)
    vqvae = VQVAE(config.vqvae)
    load_network(vqvae, folder / "vqvae.safetensors")
    priors: dict[str, Prior] = {}
    names = ["config.json", "vqvae.safetensors"]
    for number, settings in enumerate(config.priors):
        made = build_prior(settings)
        names.append(prior_file(number, settings.kind))
        load_network(made, folder / names[-1])
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
        names.append(DETECTIVE_FILE)
        load_network(detective, folder / names[-1])
    vae = None
    if config.vae is not None:
        vae = VAE(config.vae)
        names.append(VAE_FILE)
        load_network(vae, folder / names[-1])
    digest = hashlib.sha256("".join(sha256_of(folder / name) for name in names).encode()).hexdigest()
    model = Model(config, vqvae, priors, digest, detective, vae)
    for network in model.networks:
        bake(network)
        network.eval().requires_grad_(False)
        network.to(memory_format=torch.channels_last)
    return model


def copy_networks(source: Path, target: Path) -> None:
    """Copies what of a model folder does not depend on its calibration: configuration, weights, their licence."""
    for path in sorted(source.iterdir()):
        if path.name in ("config.json", "LICENSE-WEIGHTS") or path.suffix == ".safetensors":
            shutil.copyfile(path, target / path.name)


def bake(network: nn.Module) -> None:
    """Weight-normed weights become plain ones: a network that is not trained need not norm them at every pass."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def load_config(folder: Path) -> ModelConfig:
    """Reads and checks `config.json`. Raises ModelError as `load_model` does."""
    path = folder / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        version = tree.pop("format", None)
        if version != FORMAT:
            raise ModelError(f"{path}: format version {version!r}, this program reads {FORMAT}")
        config = ModelConfig(
            tree.pop("preprocessing"),
            VQVAEConfig(**tree.pop("vqvae")),
            tuple(PriorConfig(**item) for item in tree.pop("priors")),
            tree.pop("scoring"),
            tree.pop("training"),
            # Models made before there were detectives have no such key.
            DetectiveConfig(**detective) if (detective := tree.pop("detective", None)) else None,
            VAEConfig(**vae) if (vae := tree.pop("vae", None)) else None,
        )
        if tree:
            raise ModelError(f"{path}: key {next(iter(tree))!r} is not known")
        for key in PREPROCESSING[:4]:
            if key not in config.preprocessing:
                raise ModelError(f"{path}: key 'preprocessing.{key}' is missing")
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; expected a model folder made by `pixelsleuth train`") from error
    except KeyError as error:
        raise ModelError(f"{path}: key {error} is missing") from error
    except (TypeError, ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    return config
