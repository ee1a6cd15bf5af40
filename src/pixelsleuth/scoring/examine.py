"""The path of a prepared picture through the networks: codes, surprise, scores, restoration, maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixelsleuth.errors import ModelError
from pixelsleuth.models.folder import Model
from pixelsleuth.records import Surprise
from pixelsleuth.scoring.complexity import Adjustment, complexity
from pixelsleuth.scoring.restoration import Restored, pooled, restore
from pixelsleuth.scoring.surprise import surprise_map, surprise_scores

#: Shares of normal codes below the text's thresholds: sample-wise and for restoration.
LAMBDA_S_QUANTILE = 0.98
LAMBDA_P_QUANTILE = 0.90

#: The text's name of its score; its prior is PixelSNAIL where the model has one.
TEXT_SCORE = "text_tail_sum"


@dataclass(frozen=True)
class ScoreSettings:
    """What was fitted on normal training pictures after the networks were trained.

    Attributes:
        default: name of the score that verdicts rest on.
        default_map: `surprise` or `restoration`.
        lambda_s, lambda_p: prior kind -> threshold in nats.
        mean_nll: prior kind -> mean NLL of normal pictures in nats.
        adjusted: raw score's name -> its adjustment for complexity; gives the score `<name>_adjusted`.
        restorations: S of the default prior in `detect`.
    """

    default: str = "masked_nll_minus_entropy_adjusted"
    default_map: str = "surprise"
    lambda_s: dict[str, float] = field(default_factory=dict)
    lambda_p: dict[str, float] = field(default_factory=dict)
    mean_nll: dict[str, float] = field(default_factory=dict)
    adjusted: dict[str, Adjustment] = field(default_factory=dict)
    restorations: int = 4

    def as_tree(self) -> dict[str, Any]:
        return asdict(self)


def settings_from_tree(tree: dict[str, Any]) -> ScoreSettings:
    """The inverse of `ScoreSettings.as_tree`. Raises ModelError naming a key that does not fit."""
    try:
        adjusted = {
            name: Adjustment(tuple(item["mean"]), tuple(item["scale"]), tuple(item["weights"]), float(item["spread"]))
            for name, item in tree["adjusted"].items()
        }
        return ScoreSettings(**{**tree, "adjusted": adjusted})
    except (KeyError, TypeError) as error:
        raise ModelError(f"config.json: key 'scoring' does not fit this program ({error})") from error


@dataclass(frozen=True)
class Examination:
    """What the networks say of a batch.

    Attributes:
        scores: name -> (B,) float64.
        maps: name -> (B, H, W) float32, raw, not yet calibrated.
        restored: of the default prior; None without maps.
        codes: (B, h, w) int64.
        surprise: prior kind -> its surprise.
    """

    scores: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    restored: Restored | None
    codes: Tensor
    surprise: dict[str, Surprise]


class Examiner:
    """A model with its fitted score settings. Knows nothing of files or of calibration."""

    def __init__(self, model: Model, settings: ScoreSettings, dtype: str = "float32") -> None:
        self.model, self.settings, self.dtype = model, settings, dtype
        self.device = next(model.vqvae.parameters()).device

    @property
    def size(self) -> int:
        """Side of the squares that are examined, in pixels."""
        return self.model.config.vqvae.size

    @torch.no_grad()
    def examine(
        self, pixels: np.ndarray, sha256: Sequence[str], maps: bool = True, restorations: bool = True
    ) -> Examination:
        """Examines squares as the model saw them in training.

        Args:
            pixels: (B, size, size, 3) uint8 RGB.
            sha256: of each input's bytes; keys the random draws.
            maps: also map.
            restorations: with maps, also restore; else only the maps that need no restoration are made.
        """
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        image = image.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
        reduced = torch.bfloat16 if self.dtype == "bfloat16" else torch.float32
        with torch.autocast(self.device.type, reduced, enabled=self.dtype != "float32"):
            codes = self.model.vqvae.encode(image)
            surprise = {kind: prior.log_prob(codes) for kind, prior in self.model.priors.items()}
            restored = self._restored(image, codes, surprise, sha256) if maps and restorations else None
        scores = self._scores(surprise, pixels)
        made: dict[str, np.ndarray] = {}
        if maps:
            default = surprise[next(iter(self.model.priors))]
            made["surprise"] = surprise_map(default, (self.size, self.size)).cpu().numpy()
        if restored is not None:
            made["restoration"] = pooled(restored.residual).cpu().numpy()
        return Examination(scores, made, restored, codes.cpu(), surprise)

    def _restored(self, image: Tensor, codes: Tensor, surprise: dict[str, Surprise], sha256: Sequence[str]) -> Restored:
        kind, prior = next(iter(self.model.priors.items()))
        above = self.settings.lambda_p[kind]
        # The masked prior's flags are known from the pass above; PixelSNAIL's depend on what it has restored.
        flags: dict[str, Any] = {"where": surprise[kind].nll > above} if kind == "masked" else {"above": above}
        return restore(image, codes, self.model.vqvae, prior, sha256, restorations=self.settings.restorations, **flags)

    def _scores(self, surprise: dict[str, Surprise], pixels: np.ndarray) -> dict[str, np.ndarray]:
        scores = raw_scores(surprise, self.settings)
        if self.settings.adjusted:
            features = np.stack([complexity(p) for p in pixels])
            for name, adjustment in self.settings.adjusted.items():
                scores[f"{name}_adjusted"] = adjustment(scores[name], features)
        return scores


def raw_scores(surprise: dict[str, Surprise], settings: ScoreSettings) -> dict[str, np.ndarray]:
    """Every score of every prior by name, (B,) float64 each, before any adjustment."""
    scores: dict[str, np.ndarray] = {}
    text_prior = "pixelsnail" if "pixelsnail" in surprise else next(iter(surprise))
    for kind, seen in surprise.items():
        found = surprise_scores(seen, settings.lambda_s[kind], settings.mean_nll[kind])
        for name, values in found.items():
            full = TEXT_SCORE if name == "tail_sum" and kind == text_prior else f"{kind}_{name}"
            scores[full] = values.double().cpu().numpy()
    return scores
