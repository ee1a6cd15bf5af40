"""Run graphs exported from a model's networks (scoring.exporting), without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixelsleuth.errors import ModelError, PixelsleuthError
from pixelsleuth.models.configuration import ModelConfig, config_from_text
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.scoring.calibration import Calibration, calibration_from_text
from pixelsleuth.scoring.draws import uniforms
from pixelsleuth.scoring.scorer import Crops, Scores, Wanted
from pixelsleuth.scoring.sessions import Session, opened
from pixelsleuth.scoring.settings import CENTRE_AND_RIM, TAIL_SUM, scoring_prior, settings_from_tree

#: The scoring graph of a model folder.
FILE = "scores.onnx"
#: Crops scored together unless told otherwise: what a step leaves behind should fit the processor's cache.
BATCH = 8


def restoration_path(path: Path) -> Path:
    """Where the second graph lies, of the first one's path: `faces.onnx`, `faces.restoration.onnx`."""
    return path.with_name(f"{path.stem}.restoration.onnx")


@dataclass(frozen=True)
class GraphModel:
    """What is known of a model beside its graphs."""

    config: ModelConfig
    sha256: str


class GraphNetworks:
    """A model's networks as graphs; see `scorer.Networks`. It has no atlas: what needs one beside the detective is
    `evaluate`'s, which runs on torch."""

    atlas: Atlas | None = None
    dtype = "float32"
    batch = BATCH

    def __init__(self, path: Path, runtime: str = "onnx") -> None:
        """Opens an exported scoring graph; the second one, that restores, is looked for where it is needed.

        Args:
            runtime: what runs it, see `sessions.SESSIONS`.

        Raises:
            ModelError: it cannot be read, or `pixelsleuth export` did not write it.
            PixelsleuthError: the runtime is not installed.
        """
        self.path, self.runtime = path, runtime
        self._scores = opened(path, runtime)
        self.about = self._scores.about
        self._restorations: Session | None = None
        config = config_from_text(self.about["config"], path)
        self.settings = settings_from_tree(config.scoring)
        self.model = GraphModel(config, self.about["sha256"])
        self._inputs, self._outputs = self._scores.inputs, self._scores.outputs

    def calibration(self) -> Calibration:
        """The one that was exported with it."""
        return calibration_from_text(self.about["calibration"], self.path, self.model.sha256)

    def codes(self, crops: Crops) -> np.ndarray:
        """(B, h, w) int64."""
        return self._asked(["codes"], self._feeds(crops))[0]

    def images(self, crops: Crops, wanted: Wanted) -> Scores:
        """As the protocol says."""
        return self._run(crops, wanted, maps=wanted.maps)

    def slices(self, crops: Crops, wanted: Wanted) -> Scores:
        """As the protocol says."""
        if wanted.baselines or wanted.reference:
            raise PixelsleuthError("the maps of other methods need the networks themselves", "runtime")
        return self._run(crops, wanted, maps=True)

    def _feeds(self, crops: Crops) -> dict[str, np.ndarray]:
        """What of the crops the scoring graph takes, by the names of its inputs."""
        feeds = {"square": crops.square}
        if "position" in self._inputs and crops.position is not None:
            feeds["position"] = crops.position.astype(np.float32)
        if "close" in self._inputs:
            feeds["close"] = self._close(crops)
        if "near" in self._inputs and crops.near is not None and crops.which is not None:
            feeds |= {"near": crops.near, "which": np.asarray(crops.which, np.int64)}
        return feeds

    def _asked(self, names: Sequence[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """What the scoring graph gives out, of each crop."""
        if "near" not in self._inputs or "near" in feeds:
            return self._scores.run(names, feeds)
        # A graph cannot look at no crop from near: one more is, and is left out of what comes back.
        side, count = 2 * self.model.config.close_size, len(feeds["square"])
        more = {name: np.concatenate([values, values[-1:]]) for name, values in feeds.items()}
        more |= {"near": np.zeros((1, side, side, 3), np.uint8), "which": np.array([count], np.int64)}
        return [values[:count] for values in self._scores.run(names, more)]

    def _run(self, crops: Crops, wanted: Wanted, maps: bool) -> Scores:
        feeds = self._feeds(crops)
        names = [name for name in self._outputs if self._is_wanted(name, wanted, maps)]
        names += ["appearance"] if "appearance" in self._outputs else []
        names += ["codes", "flagged"] if wanted.restored else []
        found = dict(zip(names, self._asked(names, feeds), strict=True))
        scores = {name.removeprefix("score."): found[name].astype(np.float64) for name in names if "score." in name}
        made = {name.removeprefix("map."): found[name] for name in names if name.startswith("map.")}
        if not wanted.restored:
            return Scores(scores, made, None, found.get("appearance"))
        grid = (int(found["codes"].shape[1]), int(found["codes"].shape[2]))
        given = feeds | {"codes": found["codes"], "flagged": found["flagged"]}
        given["uniforms"] = uniforms(crops.keys, self.settings.restorations, grid)
        restored = self._restored(given)
        made["restoration"] = restored["map.restoration"]
        return Scores(scores, made, restored["restoration"], found.get("appearance"))

    def _is_wanted(self, output: str, wanted: Wanted, maps: bool) -> bool:
        kind, _, name = output.partition(".")
        if kind == "map":
            return maps and (name != "surprise" or self.model.config.priors[0].kind in wanted.kinds)
        if kind != "score":
            return False
        if name == CENTRE_AND_RIM:
            return wanted.rim
        if name == TAIL_SUM:
            return scoring_prior(self.settings.lambda_s) in wanted.kinds
        of = [prior.kind for prior in self.model.config.priors if name.startswith(f"{prior.kind}_")]
        return not of or of[0] in wanted.kinds

    def _restored(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._restorations is None:
            path = restoration_path(self.path)
            if not path.is_file():
                raise ModelError(f"{path} is missing; without it nothing can be restored: export the model again")
            self._restorations = opened(path, self.runtime)
            if self._restorations.about["sha256"] != self.model.sha256:
                raise ModelError(f"{path} was exported of another model; export the model again")
        names = ["restoration", "map.restoration"]
        given = {name: feeds[name] for name in self._restorations.inputs}
        return dict(zip(names, self._restorations.run(names, given), strict=True))

    def _close(self, crops: Crops) -> np.ndarray:
        """The crops at the detective's size. Raises ValueError where it wants another size than it is given."""
        given = crops.square if crops.close is None else crops.close
        if given.shape[1] != self.model.config.close_size:
            raise ValueError(f"close: expected {self.model.config.close_size} px crops, got {given.shape[1]} px")
        return given
