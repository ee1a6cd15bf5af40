"""The configuration stored with a model's weights: architectures, preprocessing, fitted settings. Reading it loads no
network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pixelsleuth.errors import ModelError
from pixelsleuth.files import sha256_of, write_text

FORMAT = 1
#: z-scores against the atlas are clipped to +-MAX_Z.
MAX_Z = 6.0
#: Files of a model's folder that travel.
MODEL_FILES = ("config.json", "calibration.json", "*.safetensors", "*.npy", "README.md", "LICENSE-WEIGHTS")
DETECTIVE_FILE = "detective.safetensors"
VAE_FILE = "vae.safetensors"
#: What travels of a store's settings where it has them: pictures and videos have some, volumes others.
PREPROCESSING = (
    "size", "crop", "margin", "min_confidence", "edge", "align", "level", "pick",
    "channels", "standard", "frame", "trim", "keep_empty",
)  # fmt: skip


@dataclass(frozen=True)
class VQVAEConfig:
    """Architecture of a VQ-VAE.

    Attributes:
        kind: `fast` (0.9M parameters, trains on a CPU) or `paper` (Marimont & Tarroni 2021).
        size: side of the square image in pixels.
        channels: of the image, 3 or 1.
        codes: K.
        dimensions: D of a codebook entry.
        widths: `fast`: channels at stride 4 and 8. `paper`: one per resolution, the last at the code grid.
        decay: of the codebook's moving average; None: the codebook learns by gradient.
        context: scalars given with an image (slice position), a constant plane each before encoder and decoder, as in
            Marimont & Tarroni 2021; 0 for none.
    """

    kind: str = "fast"
    size: int = 128
    channels: int = 3
    codes: int = 512
    dimensions: int = 32
    widths: tuple[int, ...] = (64, 128)
    decay: float | None = 0.98
    context: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.kind not in ("fast", "paper"):
            raise ValueError(f"vqvae.kind: expected 'fast' or 'paper', got {self.kind!r}")


@dataclass(frozen=True)
class PriorConfig:
    """Architecture of a prior.

    Attributes:
        kind: `masked` (bidirectional) or `pixelsnail` (causal, raster order).
        codes: K.
        grid: (h, w).
        width: channels.
        blocks: residual blocks (`masked`) or PixelSNAIL blocks.
        pairs: `pixelsnail`: vertical/horizontal pairs in a block.
        attention_every: `masked`: an attention layer after this many blocks.
        attention_stride: `pixelsnail`: of the grid that attention runs on.
        heads: `masked`: attention heads.
        embedding: `pixelsnail`: dimensions a code is embedded in; 0: one-hot, as in the paper.
        dropout: in residual blocks.
        context: scalars given with a grid (slice position), 0 for none.
        classes: 0; models of earlier versions could be built for classes, which nothing gave.
    """

    kind: str = "masked"
    codes: int = 512
    grid: tuple[int, int] = (16, 16)
    width: int = 128
    blocks: int = 8
    pairs: int = 4
    attention_every: int = 2
    attention_stride: int = 2
    heads: int = 4
    embedding: int = 0
    dropout: float = 0.0
    context: int = 0
    classes: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if self.kind not in ("masked", "pixelsnail"):
            raise ValueError(f"prior.kind: expected 'masked' or 'pixelsnail', got {self.kind!r}")
        if self.classes:
            raise ValueError(f"prior.classes: expected 0, got {self.classes}; no input gives classes")


@dataclass(frozen=True)
class DetectiveConfig:
    """Architecture of a detective.

    Attributes:
        kind: `light`, or `deep` (EfficientNet-lite0; of what follows it has `size` and `pretrained` alone).
        size: of a deep one, side of the square it sees in pixels.
        pretrained: of a deep one, whether its training begins with the weights learnt on ImageNet.
        width: channels at half the image's resolution; twice and three times as many below.
        residual, surprise: whether it sees them.
        scale: how many times the side of what the VQ-VAE sees it sees of the same square; the grids of the network, and
            so its cost, stay.
        detail: whether it sees `local_detail`.
        channels: of the image, 3 (RGB) or 1.
        mirror: whether it sees how the image differs from its mirror image, as heads differ little.
        atlas: whether it sees standard scores against what healthy scans look like at the place (scoring.atlas).
    """

    width: int = 32
    residual: bool = True
    surprise: bool = True
    scale: int = 1
    detail: bool = False
    channels: int = 3
    mirror: bool = False
    atlas: bool = False
    kind: str = "light"
    size: int = 192
    pretrained: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("light", "deep"):
            raise ValueError(f"detective.kind: expected 'light' or 'deep', got {self.kind!r}")
        if self.size % 32:
            raise ValueError(f"detective.size: expected a multiple of 32, got {self.size}")
        if self.scale not in (1, 2):
            raise ValueError(f"detective.scale: expected 1 or 2, got {self.scale}")
        if self.channels not in (1, 3):
            raise ValueError(f"detective.channels: expected 1 or 3, got {self.channels}")

    def seen(self, size: int) -> int:
        """Side in pixels of the squares it sees where the VQ-VAE sees `size`."""
        return self.size if self.kind == "deep" else size * self.scale

    @property
    def cell(self) -> int:
        """Side, in pixels of what it sees, of a cell of its first grid."""
        return 2 * self.scale


@dataclass(frozen=True)
class VAEConfig:
    """Architecture: side in pixels (a multiple of 32), channels of the image, channels at each halving, latents."""

    size: int = 160
    channels: int = 1
    widths: tuple[int, ...] = (16, 32, 64, 64, 64)
    latents: int = 128

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.size % 2 ** len(self.widths):
            raise ValueError(f"vae.size: expected a multiple of {2 ** len(self.widths)}, got {self.size}")


@dataclass(frozen=True)
class ModelConfig:
    """The configuration stored with a model's weights.

    Attributes:
        preprocessing: `size`, `crop` (`face`, `none` or `volume`), `margin`, `min_confidence`, `edge`, `align`,
            `level` of the training pictures (see sources.faces.Framing), how frames were picked (`pick`); of volumes
            `standard`, `frame`, `trim`, `keep_empty` (see sources.scans.slices.SliceFraming).
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

    @property
    def of_volumes(self) -> bool:
        """Whether its inputs are volumes, whose slices it sees; else images and videos."""
        return bool(self.preprocessing["crop"] == "volume")

    @property
    def close_size(self) -> int:
        """Side in pixels of the squares the detective sees; the VQ-VAE's own where there is none."""
        return self.detective.seen(self.vqvae.size) if self.detective else self.vqvae.size


def prior_file(number: int, kind: str) -> str:
    """The default prior is `prior.safetensors`; further ones carry their kind."""
    return "prior.safetensors" if number == 0 else f"prior_{kind}.safetensors"


def weight_files(config: ModelConfig) -> list[str]:
    """Names of the weights of a model's networks, in the order in which its digest takes them."""
    names = ["vqvae.safetensors"]
    names += [prior_file(number, settings.kind) for number, settings in enumerate(config.priors)]
    names += [DETECTIVE_FILE] if config.detective is not None else []
    return names + ([VAE_FILE] if config.vae is not None else [])


def digest_of(folder: Path, config: ModelConfig) -> str:
    """SHA-256 over the digests of the configuration and of the weights. Raises ModelError naming a file that is
    missing."""
    digests = []
    for name in ("config.json", *weight_files(config)):
        try:
            digests.append(sha256_of(folder / name))
        except OSError as error:
            raise ModelError(f"{folder / name} is missing; the model folder is not complete") from error
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def model_files(folder: Path) -> dict[str, str]:
    """Map the name of each file of a model folder that findings rest on, except its calibration, to its SHA-256."""
    found = [path for path in sorted(folder.glob("*")) if path.name == "config.json" or path.suffix == ".safetensors"]
    return {path.name: sha256_of(path) for path in found if not path.name.startswith(".")}


def save_config(folder: Path, config: ModelConfig) -> None:
    tree = {"format": FORMAT, **asdict(config)}
    write_text(folder / "config.json", json.dumps(tree, indent=2) + "\n")


def find_model(model: str | os.PathLike[str], **where: Any) -> tuple[Path, str]:
    """Folder and name of a bundled model, a local folder, or a Hugging Face Hub repository.

    Args:
        model: of the Hub `user/name`, or `user/name@REVISION`: a branch, a tag or the hash of a commit.
        where: of the Hub, what `huggingface_hub.snapshot_download` takes beside the revision.

    Raises:
        ModelError: none of these.
    """
    text = os.fspath(model)
    # A bundled name wins over a folder of pictures that happens to be called so; ./faces names the folder.
    bundled = Path(str(resources.files("pixelsleuth") / "assets" / text)) if text.isidentifier() else None
    if bundled is not None and os.path.isfile(bundled / "config.json"):
        return bundled, text
    folder = Path(text)
    if os.path.isdir(folder):
        return folder, folder.resolve().name
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        name, _, revision = text.partition("@")
        try:
            found = snapshot_download(name, revision=revision or None, allow_patterns=list(MODEL_FILES), **where)
            return Path(found), text
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"{text}: no such folder, and the Hub did not give it ({reason})", "model") from error
    raise ModelError(f"expected a folder, the bundled 'faces', or a Hub id such as user/name; got {text!r}", "model")


def copy_networks(source: Path, target: Path) -> None:
    """Copy what of a model folder does not depend on its calibration: configuration, weights, their licence."""
    for path in sorted(source.iterdir()):
        if path.name in ("config.json", "LICENSE-WEIGHTS", "trained_on.npy") or path.suffix == ".safetensors":
            shutil.copyfile(path, target / path.name)


#: What a training run writes first, and leaves.
RUN_NOTE = "training/settings.json"


def load_config(folder: Path) -> ModelConfig:
    """Read and check `config.json`. Raises ModelError as `load_model` does."""
    path = folder / "config.json"
    try:
        return config_from_text(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError as error:
        if (folder / RUN_NOTE).is_file():
            raise ModelError(f"{folder}: its training is not finished; resume it") from error
        raise ModelError(f"{path} is missing; expected a model folder made by `pixelsleuth train`") from error
    except (UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def config_from_text(text: str, path: Path) -> ModelConfig:
    """The configuration that `text` holds, of the file at `path`. Raises ModelError as `load_model` does."""
    try:
        tree = json.loads(text)
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
    except KeyError as error:
        raise ModelError(f"{path}: key {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    return config
