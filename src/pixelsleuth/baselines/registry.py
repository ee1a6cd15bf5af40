"""Baselines by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

from pixelsleuth.baselines.baseline import Baseline
from pixelsleuth.baselines.features import Features, PaDiM, PatchCore, imagenet_trunk
from pixelsleuth.baselines.monai import MonaiTransformer
from pixelsleuth.baselines.pixelsnail import OtherModel
from pixelsleuth.baselines.spectrum import Spectrum
from pixelsleuth.baselines.supervised import NETWORKS, Supervised
from pixelsleuth.baselines.traces import TRACES, TraceBaseline
from pixelsleuth.baselines.vae import PlainVAE
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.models.checkpoint import Model
from pixelsleuth.models.detective import DeepDetective

#: Baselines that `evaluate` always takes, with or without being asked.
ALWAYS = ("blur", "brightness", "jpeg_size")


def _detective_features(model: Model) -> Features:
    if not isinstance(model.detective, DeepDetective):
        raise PixelsleuthError("a detective's features need a model with a deep detective, such as faces", "compare")
    # A copy: what is compared with must not be changed.
    return Features(copy.deepcopy(model.detective.trunk))


def _of_name(made: Callable[[str], Baseline], name: str) -> Callable[[Model], Baseline]:
    return lambda model: made(name)


BASELINES: dict[str, Callable[[Model], Baseline]] = {
    "vae": lambda model: PlainVAE(),
    "spectrum": lambda model: Spectrum(),
    "padim": lambda model: PaDiM("padim", Features(imagenet_trunk())),
    "patchcore": lambda model: PatchCore("patchcore", Features(imagenet_trunk())),
    "padim_detective": lambda model: PaDiM("padim_detective", _detective_features(model)),
    "monai_transformer": lambda model: MonaiTransformer(),
    **{name: _of_name(TraceBaseline, name) for name in TRACES},
    **{name: _of_name(Supervised, name) for name in NETWORKS},
}


def baseline(name: str, model: Model) -> Baseline:
    """A new baseline of this name; a folder is a model that `pixelsleuth train` made.

    Args:
        model: that is compared with them; some take its networks.

    Raises:
        PixelsleuthError: an unknown name, with those that are known; a package that is not installed.
    """
    if name in BASELINES:
        return BASELINES[name](model)
    if (Path(name) / "config.json").is_file():
        return OtherModel(Path(name))
    known = ", ".join((*BASELINES, *ALWAYS))
    raise PixelsleuthError(f"expected a model folder or one of {known}; got {name!r}", "compare")
