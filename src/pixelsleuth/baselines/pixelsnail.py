"""Another model folder as a baseline: Marimont & Tarroni's score by its networks.

So the source text's own recipe is compared: `pixelsleuth train STORE.h5 FOLDER --preset paper-ffhq`, then this folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pixelsleuth.baselines.baseline import Compared, ComparedCrop, squares_of
from pixelsleuth.baselines.teaching import image_of
from pixelsleuth.models.checkpoint import load_model
from pixelsleuth.scoring.measurements import surprise_map, surprise_scores
from pixelsleuth.scoring.settings import scoring_prior, settings_from_tree


@dataclass
class OtherModel:
    """The folder's networks; lambda_s is theirs, fitted when they were trained, so that `fit` has nothing to do."""

    folder: Path

    def __post_init__(self) -> None:
        self.model = load_model(self.folder)
        self.settings = settings_from_tree(self.model.config.scoring)
        self.kind = scoring_prior(self.model.priors)

    def fit(self, crops: Sequence[ComparedCrop]) -> None:
        """Do nothing: the folder's networks are trained already."""

    @torch.no_grad()
    def compare(self, crops: Sequence[ComparedCrop]) -> Compared:
        size = self.model.config.vqvae.size
        codes = self.model.vqvae.encode(image_of(squares_of(crops, size)))
        surprise = self.model.priors[self.kind].log_prob(codes)
        found = surprise_scores(surprise, self.settings.lambda_s[self.kind], self.settings.mean_nll[self.kind])
        name = self.folder.resolve().name
        return Compared(
            {f"{name}_tail_sum": _array(found["tail_sum"]), f"{name}_mean_nll": _array(found["mean_nll"])},
            {f"{name}_tail_sum": surprise_map(surprise, (size, size)).numpy()},
        )


def _array(values: torch.Tensor) -> np.ndarray:
    return values.double().cpu().numpy()
