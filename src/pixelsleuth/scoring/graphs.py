"""A model's networks as ONNX Runtime runs the graphs that were exported of them (scoring.exporting); needs no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.errors import ModelError, PixelsleuthError, needs_extra
from pixelsleuth.models.configuration import ModelConfig, config_from_text
from pixelsleuth.scoring.atlas import Atlas
from pixelsleuth.scoring.calibration import Calibration, calibration_from_text
from pixelsleuth.scoring.draws import uniforms
from pixelsleuth.scoring.scorer import Crops, Scores, Wanted
from pixelsleuth.scoring.settings import CENTRE_AND_RIM, TEXT_SCORE, judge_of, settings_from_tree

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

    def __init__(self, path: Path) -> None:
        """Opens an exported scoring graph; the second one, that restores, is looked for where it is needed.

        Raises:
            ModelError: it cannot be read, or `pixelsleuth export` did not write it.
            PixelsleuthError: ONNX Runtime is not installed.
        """
        self.path = path
        self._scores, self.about = _opened(path)
        self._restorations: Any = None
        config = config_from_text(self.about["config"], path)
        self.settings = settings_from_tree(config.scoring)
        self.model = GraphModel(config, self.about["sha256"])
        self._inputs = [item.name for item in self._scores.get_inputs()]
        self._outputs = [item.name for item in self._scores.get_outputs()]

    def calibration(self) -> Calibration:
        """The one that was exported with it."""
        return calibration_from_text(self.about["calibration"], self.path, self.model.sha256)

    def codes(self, crops: Crops) -> np.ndarray:
        """(B, h, w) int64."""
        return _fetched(self._scores, ["codes"], self._feeds(crops))[0]

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
        if "near" in self._inputs:
            side = 2 * self.model.config.close_size
            feeds["near"] = np.zeros((0, side, side, 3), np.uint8) if crops.near is None else crops.near
            feeds["which"] = np.zeros(0, np.int64) if crops.which is None else np.asarray(crops.which, np.int64)
        return feeds

    def _run(self, crops: Crops, wanted: Wanted, maps: bool) -> Scores:
        feeds = self._feeds(crops)
        names = [name for name in self._outputs if self._is_wanted(name, wanted, maps)]
        names += ["appearance"] if "appearance" in self._outputs else []
        names += ["codes", "flagged"] if wanted.restored else []
        found = dict(zip(names, _fetched(self._scores, names, feeds), strict=True))
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
        if name == TEXT_SCORE:
            return judge_of(self.settings.lambda_s) in wanted.kinds
        of = [prior.kind for prior in self.model.config.priors if name.startswith(f"{prior.kind}_")]
        return not of or of[0] in wanted.kinds

    def _restored(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._restorations is None:
            path = restoration_path(self.path)
            if not path.is_file():
                raise ModelError(f"{path} is missing; without it nothing can be restored: export the model again")
            self._restorations, about = _opened(path)
            if about["sha256"] != self.model.sha256:
                raise ModelError(f"{path} was exported of another model; export the model again")
        names = ["restoration", "map.restoration"]
        given = {item.name: feeds[item.name] for item in self._restorations.get_inputs()}
        return dict(zip(names, _fetched(self._restorations, names, given), strict=True))

    def _close(self, crops: Crops) -> np.ndarray:
        """The crops at the detective's size. Raises ValueError where it wants another size than it is given."""
        given = crops.square if crops.close is None else crops.close
        if given.shape[1] != self.model.config.close_size:
            raise ValueError(f"close: expected {self.model.config.close_size} px crops, got {given.shape[1]} px")
        return given


def _opened(path: Path) -> tuple[Any, dict[str, str]]:
    """A session, and what the graph says of its model: `name`, `sha256`, `config`, `calibration`, `card`."""
    with needs_extra("onnx", "an ONNX graph"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    # The runtime does not look at it of itself.
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # The runtime has no error class of its own for files that it cannot read.
        told = str(error).splitlines()[0][:200]
        raise ModelError(f"{path} cannot be read as an ONNX graph ({told}); export the model again", "model") from error
    about = dict(session.get_modelmeta().custom_metadata_map)
    if "sha256" not in about:
        raise ModelError(f"{path}: expected a graph that `pixelsleuth export` wrote, it names no model", "model")
    return session, about


def _fetched(session: Any, names: Sequence[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Runs only what these outputs need."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    found: list[np.ndarray] = session.run(list(names), feeds, options)
    return found
