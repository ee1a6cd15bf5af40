"""Settings of a training run, and the named presets."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.models.configuration import DetectiveConfig, PriorConfig, VAEConfig, VQVAEConfig
from pixelsleuth.synthesis.anomalies import KINDS
from pixelsleuth.synthesis.face_edits import SHARES


@dataclass(frozen=True)
class Stage:
    """How one network is trained.

    Attributes:
        epochs: passes over the training pictures (over the groups, where batches are drawn by group).
        batch: pictures in a batch; with `groups`, groups x pictures of a group must equal it.
        groups: groups (videos, volumes) in a batch, 0: pictures are drawn one by one.
        optimizer: `adamw` with cosine decay after a warm-up, or `adam` at a constant rate.
        clip_value: gradients are clipped to this by value; 0: not.
        clip_norm: gradients are clipped to this by norm; 0: not.
        augment: `none`, `flip`, `faces` (flip, brightness .3, hue .2, rotation 10 degrees), or `scans` (flip, elastic,
            scale 6%, rotation 5 degrees, brightness, noise).
        precision: `32-true`, `bf16-mixed` (used only where the processor has it) or `16-mixed`, Lightning's names.
        balance: a source of m pictures is drawn in proportion to m to this power; 1: as often as it has pictures.
        most_images: use only the first of the training pictures, 0: all.
    """

    epochs: float = 10
    batch: int = 32
    groups: int = 0
    learning_rate: float = 2e-3
    optimizer: str = "adamw"
    warmup_steps: int = 200
    clip_value: float = 0.0
    clip_norm: float = 1.0
    augment: str = "flip"
    precision: str = "bf16-mixed"
    balance: float = 1.0
    most_images: int = 0


@dataclass(frozen=True)
class LossWeights:
    """Weights of the VQ-VAE's loss: reconstruction terms, codebook term and beta (van den Oord et al. 2017, eq. 3)."""

    l1: float = 1.0
    l2: float = 4.0
    gradient: float = 0.5
    codebook: float = 1.0
    commitment: float = 0.05


@dataclass(frozen=True)
class Settings:
    """All settings of a training run; saved with the model.

    Attributes:
        priors: the default prior first; its kind names its file and scores.
        detective: architecture of the network taught on self-made forgeries.
        detective_stage: how it is taught, a batch counting pairs; 0 epochs: the model has none.
        forgeries: kinds it is taught on (synthesis.anomalies.KINDS; of a deep one synthesis.face_edits.SHARES, drawn as
            often as it says there; of volumes synthesis.lesions.KINDS).
        pairs: training pictures that a forgery is made of; of slices, which are few, each is taken several times.
        vae, vae_stage: a plain VAE that `evaluate` compares with; 0 epochs: the model has none.
        sign: of volumes: 1 where anomalies are brighter in this sequence, as lesions on FLAIR are, -1 darker, 0 either.
        init: a model (a bundled name or a folder) whose networks are trained on; with 0 epochs VQ-VAE and priors stay
            as they are. "": they begin at random, a deep detective's trunk with ImageNet's weights.
    """

    preset: str = "fast"
    seed: int = 0
    vqvae: VQVAEConfig = field(default_factory=VQVAEConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    vqvae_stage: Stage = field(default_factory=Stage)
    priors: tuple[PriorConfig, ...] = (
        PriorConfig(),
        PriorConfig(kind="pixelsnail", width=64, blocks=3, pairs=2, attention_stride=1, embedding=64, dropout=0.05),
    )
    prior_stage: Stage = field(default_factory=lambda: Stage(epochs=8, learning_rate=2e-3))
    detective: DetectiveConfig = field(default_factory=lambda: DetectiveConfig(scale=2, detail=True))
    detective_stage: Stage = field(default_factory=lambda: Stage(epochs=0, batch=24))
    forgeries: tuple[str, ...] = KINDS
    pairs: int = 6000
    sign: int = 0
    vae: VAEConfig = field(default_factory=VAEConfig)
    vae_stage: Stage = field(default_factory=lambda: Stage(epochs=0))
    init: str = ""


_PAPER_VQVAE = VQVAEConfig("paper", 128, 3, 128, 256, (16, 32, 64, 256), None)
_PAPER_PRIOR = PriorConfig("pixelsnail", 128, (16, 16), width=128, blocks=4, pairs=4, dropout=0.1)
_PAPER_LOSS = LossWeights(l1=1, l2=0, gradient=0, codebook=1, commitment=1)
_PAPER_STAGE = Stage(
    epochs=30, batch=64, learning_rate=1e-4, optimizer="adam", warmup_steps=0, clip_value=1.0, clip_norm=0.0,
    augment="faces", precision="32-true",
)  # fmt: skip
_PAPER = Settings(
    "paper-ffhq",
    0,
    _PAPER_VQVAE,
    _PAPER_LOSS,
    _PAPER_STAGE,
    (_PAPER_PRIOR,),
    replace(_PAPER_STAGE, augment="flip"),
)
_PAPER_GROUPED = replace(_PAPER_STAGE, epochs=200, groups=8)
_MOOD_STAGE = replace(_PAPER_STAGE, epochs=600, groups=8, augment="none")

PRESETS: dict[str, Settings] = {
    "fast": Settings(),
    # Faces of many origins, drawn in proportion to the root of how many there are, and the deep detective.
    "faces": Settings(
        "faces",
        vqvae_stage=Stage(epochs=4, balance=0.5),
        prior_stage=Stage(epochs=6, batch=64, balance=0.5),
        detective=DetectiveConfig(kind="deep", size=256),
        detective_stage=Stage(
            epochs=0.95, batch=12, learning_rate=4e-4, augment="none", precision="32-true", balance=0.5
        ),
        forgeries=tuple(SHARES),
    ),
    # Slices of volumes on a CPU: few scans, so many passes over random views of them.
    "scans": Settings(
        "scans",
        0,
        VQVAEConfig(size=160, channels=1, codes=256, widths=(32, 96)),
        LossWeights(),
        Stage(epochs=30, augment="scans"),
        (
            PriorConfig(codes=256, grid=(20, 20), width=64, blocks=6),
            PriorConfig(
                kind="pixelsnail",
                codes=256,
                grid=(20, 20),
                width=48,
                blocks=2,
                pairs=2,
                attention_stride=2,
                embedding=48,
                dropout=0.05,
            ),
        ),
        Stage(epochs=16, augment="scans"),
        DetectiveConfig(width=24, channels=1, detail=True, mirror=True, atlas=True),
        Stage(epochs=5, batch=24),
        # What is hardest to see stands twice.
        ("noise", "constant", "shift", "deform", "deform", "foreign", "foreign", "blur"),
        6000,
        vae_stage=Stage(epochs=20, learning_rate=1e-3, augment="scans"),
    ),
    # FFHQ as Deepfake CSI trained it: 30 + 30 epochs, batch 64.
    "paper-ffhq": _PAPER,
    # FaceForensics++: 200 + 200 epochs, 8 videos x 8 frames.
    "paper-ffpp": replace(
        _PAPER,
        preset="paper-ffpp",
        vqvae_stage=_PAPER_GROUPED,
        prior_stage=replace(_PAPER_GROUPED, augment="flip"),
    ),
    # MOOD: 600 + 600 epochs, 8 volumes x 8 slices; slice position as context of encoder, decoder and prior.
    "paper-mood-brain": replace(
        _PAPER,
        preset="paper-mood-brain",
        vqvae=replace(_PAPER_VQVAE, size=160, channels=1, context=1),
        vqvae_stage=_MOOD_STAGE,
        priors=(replace(_PAPER_PRIOR, grid=(20, 20), context=1),),
        prior_stage=_MOOD_STAGE,
    ),
    "paper-mood-abdomen": replace(
        _PAPER,
        preset="paper-mood-abdomen",
        vqvae=replace(_PAPER_VQVAE, size=160, channels=1, widths=(16, 32, 64, 128, 256), context=1),
        vqvae_stage=_MOOD_STAGE,
        priors=(replace(_PAPER_PRIOR, grid=(10, 10), context=1),),
        prior_stage=_MOOD_STAGE,
    ),
}


# Small and quick: slices of 96 px and one prior, for phantoms and for a first look at scans of one's own.
PRESETS["scans-small"] = Settings(
    "scans-small",
    0,
    VQVAEConfig(size=96, channels=1, codes=128, widths=(32, 64)),
    LossWeights(),
    Stage(epochs=10, augment="scans", warmup_steps=50),
    (PriorConfig(codes=128, grid=(12, 12), width=48, blocks=4),),
    Stage(epochs=8, augment="scans", warmup_steps=50),
    DetectiveConfig(width=16, channels=1, detail=True, mirror=True, atlas=True),
    Stage(epochs=3, batch=24, warmup_steps=50),
    PRESETS["scans"].forgeries,
    2000,
)
# Sequences on which lesions are bright, such as FLAIR: what is learnt from is brighter, or foreign.
PRESETS["scans-bright"] = replace(
    PRESETS["scans"],
    preset="scans-bright",
    detective=DetectiveConfig(width=16, channels=1, mirror=True, atlas=True),
    detective_stage=Stage(epochs=5, batch=24),
    forgeries=("constant", "shift", "foreign"),
    pairs=3000,
    sign=1,
)

#: The least and the most that a setting may be, by its name, wherever it stands; numbers must be finite.
RANGES: dict[str, tuple[float, float]] = {
    # A step's seed is this one times a million, and more; torch takes 64 bits.
    "seed": (0, 2**32 - 1),
    **dict.fromkeys(("epochs", "groups", "warmup_steps", "clip_value", "clip_norm", "most_images"), (0, math.inf)),
    **dict.fromkeys(("l1", "l2", "gradient", "codebook", "commitment", "embedding", "context"), (0, math.inf)),
    **dict.fromkeys(("batch", "pairs", "size", "codes", "dimensions", "widths", "grid", "width"), (1, math.inf)),
    **dict.fromkeys(("blocks", "attention_every", "attention_stride", "heads", "latents"), (1, math.inf)),
    "learning_rate": (1e-12, math.inf),
    **dict.fromkeys(("balance", "decay"), (0, 1)),
    "dropout": (0, 0.99),
}
#: What else a setting may be.
CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": ("adamw", "adam"),
    "augment": ("none", "flip", "faces", "scans"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
    "sign": (-1, 0, 1),
    "preset": tuple(PRESETS),
}


def resolve(preset: str = "fast", config: Path | None = None, overrides: list[str] | None = None) -> Settings:
    """The preset, then the YAML file's values, then `key=value` pairs with dotted keys (`prior_stage.epochs=3`).

    Raises:
        PixelsleuthError: an unknown preset or key, or a value of the wrong type; the valid names are listed.
    """
    if preset not in PRESETS:
        raise PixelsleuthError(f"expected one of {', '.join(PRESETS)}; got {preset!r}", "preset")
    settings = PRESETS[preset]
    if config is not None:
        try:
            tree = _from_yaml(config.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError) as error:
            raise PixelsleuthError(f"{config} cannot be read as YAML ({error})", "config") from error
        if not isinstance(tree, dict):
            raise PixelsleuthError(f"{config}: expected keys and values, got {type(tree).__name__}", "config")
        settings = _updated(settings, tree, "")
    for text in overrides or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise PixelsleuthError(f"expected KEY=VALUE, got {text!r}", "set")
        try:
            tree = _from_yaml(value)
        except ValueError as error:
            raise PixelsleuthError(f"{key}: {value!r} cannot be read as YAML ({error})", "set") from error
        for name in reversed(key.strip().split(".")):
            tree = {name: tree}
        settings = _updated(settings, tree, "")
    if settings.preset != preset:
        raise PixelsleuthError(
            f"preset: a setting of this name only says what the others were taken from, here {preset}; begin with the "
            f"preset {settings.preset}, or leave it out"
        )
    return settings


def _from_yaml(text: str) -> Any:
    """What YAML says. Raises ValueError of one line."""
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def as_tree(settings: Any) -> dict[str, Any]:
    """Settings as plain dictionaries and lists, ready for JSON or YAML."""
    return dataclasses.asdict(settings)


def _updated(current: Any, tree: Any, place: str) -> Any:
    if not isinstance(tree, dict):
        raise PixelsleuthError(f"{place.rstrip('.')}: expected settings by their names, got {tree!r}")
    names = {f.name for f in dataclasses.fields(current)}
    hints = typing.get_type_hints(type(current))
    changes: dict[str, Any] = {}
    for key, value in tree.items():
        where = f"{place}{key}"
        if key not in names:
            raise PixelsleuthError(f"{where}: unknown setting; expected one of {', '.join(sorted(names))}")
        old = getattr(current, key)
        try:
            if key == "priors":
                changes[key] = tuple(_priors(old, value, where))
            elif dataclasses.is_dataclass(old):
                changes[key] = _updated(old, value, where + ".")
            else:
                changes[key] = _checked(value, old, hints[key], where)
                _check_range(key, changes[key], where)
        except (TypeError, ValueError, AttributeError) as error:
            raise PixelsleuthError(f"{where}: {error}") from error
    try:
        return replace(current, **changes)
    except ValueError as error:
        raise PixelsleuthError(str(error)) from error


def _priors(old: tuple[PriorConfig, ...], value: Any, where: str) -> list[PriorConfig]:
    """A list replaces the priors; a mapping `{0: {...}}` changes those numbered."""
    if isinstance(value, dict):
        priors = list(old)
        for number, change in value.items():
            if int(number) not in range(len(old)):
                raise PixelsleuthError(f"{where}.{number}: expected a number below {len(old)}")
            priors[int(number)] = _updated(priors[int(number)], change, f"{where}.{number}.")
        return priors
    if not isinstance(value, list | tuple) or not value:
        raise PixelsleuthError(f"{where}: expected a list of at least one prior, got {value!r}")
    return [_updated(PriorConfig(), dict(item), f"{where}.") for item in value]


def _check_range(key: str, value: Any, where: str) -> None:
    """Raise PixelsleuthError where a setting, or one of those in a list, can mean nothing."""
    if key in CHOICES and value not in CHOICES[key]:
        raise PixelsleuthError(f"{where}: expected one of {', '.join(map(str, CHOICES[key]))}; got {value!r}")
    least, most = RANGES.get(key, (-math.inf, math.inf))
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not (math.isfinite(number) and least <= number <= most):
            span = f"from {least:g} to {most:g}" if most < math.inf else f"of {least:g} or more"
            raise PixelsleuthError(f"{where}: expected a number {span}, got {number!r}")


def _checked(value: Any, old: Any, hint: Any, where: str) -> Any:
    if isinstance(old, tuple):
        if not isinstance(value, list | tuple) or not value:
            raise PixelsleuthError(f"{where}: expected a list such as {list(old[:2])}, got {value!r}")
        return tuple(type(old[0])(v) for v in value)
    if value is None or old is None:
        if hint == float | None:
            return None if value is None else float(value)
        raise PixelsleuthError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
    if isinstance(old, bool):
        if not isinstance(value, bool):
            raise PixelsleuthError(f"{where}: expected true or false, got {value!r}")
        return value
    kind = hint if hint in (int, float, str) else type(old)
    # YAML 1.1 reads 1e-3, without a point, as text.
    if kind is float and isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        value = float(value)
    expected = {str: str, int: int}.get(kind, int | float)
    if isinstance(value, bool) or not isinstance(value, expected):
        raise PixelsleuthError(f"{where}: expected {kind.__name__}, got {value!r}")
    return kind(value)
