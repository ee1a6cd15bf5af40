"""Shapes and dtypes that docstrings promise, checked at every call of the suite (`--skip-shapes` leaves them out).

The letters are those of the legend in `pixelsleuth.records`: one letter is one length within a call.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8, jaxtyped
from torch import Tensor

Array = np.ndarray
CODES, GRID = Int64[Tensor, "B h w"], Float[Tensor, "B h w"]
IMAGE, RAW = Float[Tensor, "B C H W"], Float[Tensor, "B H W"]
LOGITS = Float[Tensor, "B K h w"]
DRAWN = {
    "codes": CODES, "uniforms": Float[Tensor, "B S h w"], "where": Bool[Tensor, "B h w"],
    "return": Int64[Tensor, "B S h w"],
}  # fmt: skip
FELT = {"codes": CODES, "return.nll": GRID, "return.entropy": GRID}
STACK, COUNTS = Float[Array, "n H W"], Float[Array, "R bins"]
COUNTED = {"counts.anomalous": COUNTS, "counts.normal": COUNTS}

#: Module and function -> what is promised: of an argument, or of an attribute or an item of it or of what is returned.
PROMISED: dict[str, dict[str, Any]] = {
    "models.quantiser:Quantiser.nearest": {"vectors": Float[Tensor, "N D"], "return": Int64[Tensor, "N"]},
    "models.quantiser:Quantiser.look_up": {"codes": CODES, "return": Float[Tensor, "B D h w"]},
    "models.quantiser:Quantiser.forward": {
        "z": Float[Tensor, "B D h w"], "return.values": Float[Tensor, "B D h w"], "return.codes": CODES,
        "return.codebook_loss": Float[Tensor, ""], "return.commitment_loss": Float[Tensor, ""],
    },
    "models.vqvae:VQVAE.forward": {"image": IMAGE, "return.image": IMAGE, "return.quantised.codes": CODES},
    "models.vqvae:VQVAE.encode": {"image": IMAGE, "return": CODES},
    "models.vqvae:VQVAE.decode": {"codes": CODES, "return": IMAGE},
    "models.masked:MaskedPrior.forward": {"codes": CODES, "hidden": Bool[Tensor, "B h w"], "return": LOGITS},
    "models.masked:MaskedPrior.log_prob": FELT | {"partition": Int64[Tensor, "h w"]},
    "models.masked:MaskedPrior.resample": DRAWN,
    # An attack asks it about weights of codes, (B, h, w, K).
    "models.pixelsnail:PixelSNAIL.forward": {"return": LOGITS},
    "models.pixelsnail:PixelSNAIL.log_prob": FELT,
    "models.pixelsnail:PixelSNAIL.resample": DRAWN,
    "models.prior:surprise_of": {"logits": LOGITS, "codes": CODES, "return.nll": GRID, "return.entropy": GRID},
    "models.detective:Detective.forward": {
        "image": IMAGE, "made": IMAGE, "usual": IMAGE,
        "return.0": Float[Tensor, "B y x"], "return.1": Float[Tensor, "B"],
    },
    "models.detective:DeepDetective.forward": {
        "image": IMAGE, "return.0": Float[Tensor, "B y x"], "return.1": Float[Tensor, "B"],
    },
    "scoring.restoration:restore": {
        "image": IMAGE, "codes": CODES, "where": Bool[Tensor, "B h w"], "scalars": Float[Tensor, "B n"],
        "return.codes": Int64[Tensor, "B S h w"], "return.mean": IMAGE, "return.weights": Float[Tensor, "B S"],
        "return.residual": RAW, "return.effective": Float[Tensor, "B"], "return.replaced": Float[Tensor, "B"],
    },
    "scoring.restoration:restoration_weights": {"residual": Float[Tensor, "B S"], "return": Float[Tensor, "B S"]},
    "scoring.restoration:pooled": {"residual": RAW, "return": RAW},
    "scoring.measurements:tail_sum": {"nll": GRID, "return": Float[Tensor, "B"]},
    "scoring.measurements:surprise_map": {"surprise.nll": GRID, "surprise.entropy": GRID, "return": RAW},
    "scoring.networks:to_pixels": {"image": IMAGE, "return": UInt8[Array, "B H W C"]},
    "scoring.maps:within": {"inside": Bool[Array, "n H W"], "return": Bool[Array, "n H W"]},
    "scoring.maps:smoothed": {"values": STACK, "return": STACK},
    "scoring.maps:top_of": {"values": STACK, "head": Bool[Array, "n H W"], "return": Float[Array, "n"]},
    "scoring.atlas:Atlas.z": {"image": STACK, "position": Float[Array, "n"], "return": STACK},
    "scoring.complexity:Adjustment.__call__": {
        "score": Float[Array, "n"], "features": Float[Array, "n F"], "return": Float[Array, "n"],
    },
    "scoring.calibration:Calibration.share": {"values": Float[Array, "H W"], "return": Float[Array, "H W"]},
    "scoring.calibration:Calibration.excess": {"values": Float[Array, "H W"], "return": Float[Array, "H W"]},
    "evaluation.metrics:resample_weights": {"return": Float[Array, "R n"]},
    "evaluation.metrics:image_counts": {
        "scores": Shaped[Array, "n"], "anomalous": Bool[Array, "n"], "weights": Float[Array, "R n"],
        "return.anomalous": COUNTS, "return.normal": COUNTS,
    },
    "evaluation.metrics:auroc": COUNTED | {"return": Float[Array, "R"]},
    "evaluation.metrics:average_precision": COUNTED | {"return": Float[Array, "R"]},
    "evaluation.metrics:tpr_at": COUNTED | {"return": Float[Array, "R"]},
    "evaluation.metrics:dice": COUNTED | {"return": COUNTS},
}  # fmt: skip


def check_shapes() -> None:
    """From here on every function of `PROMISED` is checked, wherever it was imported to already."""
    for place, promised in PROMISED.items():
        module, _, name = place.partition(":")
        owner: Any = import_module(f"pixelsleuth.{module}")
        *classes, last = name.split(".")
        for part in classes:
            owner = getattr(owner, part)
        original = vars(owner)[last]
        checking = checked(original, promised, name)
        for holder in [owner] if classes else [m for n, m in sys.modules.items() if n.startswith("pixelsleuth.")]:
            if vars(holder).get(last) is original:
                setattr(holder, last, checking)


def checked(function: Callable[..., Any], promised: dict[str, Any], name: str) -> Callable[..., Any]:
    """The function, which raises TypeError where an argument or its answer is not as promised."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        # Compilers and tracers know no checks.
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return function(*args, **kwargs)
        given = dict(signature.bind(*args, **kwargs).arguments)
        with jaxtyped("context"):
            for path, kind in promised.items():
                if not path.startswith("return"):
                    hold(given.get(path.split(".")[0]), path, kind, name)
            answer = function(*args, **kwargs)
            for path, kind in promised.items():
                if path.startswith("return"):
                    hold(answer, path, kind, name)
        return answer

    return call


def hold(value: Any, path: str, kind: Any, name: str) -> None:
    """Raises TypeError where what lies at `path` is not of a kind; what was not given is."""
    for part in path.split(".")[1:]:
        value = value[int(part)] if part.isdigit() else attrgetter(part)(value)
    if value is not None and not isinstance(value, kind):
        got = f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
        raise TypeError(f"{name}, {path}: expected {kind.__name__}, got {got}")
