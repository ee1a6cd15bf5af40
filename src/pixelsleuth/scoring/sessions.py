"""What runs an exported graph: ONNX Runtime, or OpenVINO, which is faster on most processors of Intel and AMD. Both are
asked alike, compute only what is asked for, in float32, on as many threads as `OMP_NUM_THREADS` says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pixelsleuth.errors import ModelError, needs_extra


class Session(Protocol):
    """A graph that can be run.

    Attributes:
        inputs, outputs: names.
        about: what the graph says of its model: `name`, `sha256`, `config`, `calibration`, `card`.
    """

    inputs: list[str]
    outputs: list[str]
    about: dict[str, str]

    def run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs `names` for inputs by name."""
        ...


class OnnxRuntimeSession:
    """See `Session`."""

    def __init__(self, path: Path) -> None:
        with needs_extra("onnx", "an ONNX graph"):
            import onnxruntime

        options = onnxruntime.SessionOptions()
        # The runtime does not look at it of itself.
        options.intra_op_num_threads = _threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._options = onnxruntime.RunOptions()
        self._options.only_execute_path_to_fetches = True
        self.inputs = [item.name for item in self._session.get_inputs()]
        self.outputs = [item.name for item in self._session.get_outputs()]
        self.about = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = self._session.run(list(names), dict(feeds), self._options)
        return found


class OpenVinoSession:
    """See `Session`. `precision`: `f32`, or `bf16`, which is faster on some processors and gives other verdicts."""

    def __init__(self, path: Path, precision: str = "f32") -> None:
        with needs_extra("openvino", "OpenVINO"):
            import openvino

        self._core = openvino.Core()
        self._graph = self._core.read_model(path)
        # By itself it would take bfloat16 where the processor has it, and verdicts would not be the same.
        self._options = {"INFERENCE_PRECISION_HINT": precision, "EXECUTION_MODE_HINT": "ACCURACY"}
        self._options |= {"INFERENCE_NUM_THREADS": str(_threads())} if _threads() else {}
        self._compiled: dict[tuple[str, ...], Any] = {}
        self.inputs = [item.any_name for item in self._graph.inputs]
        self.outputs = [item.any_name for item in self._graph.outputs]
        # Here the metadata of an ONNX file are found again. This map has no `get`.
        told = self._graph.rt_info["framework"] if "framework" in self._graph.rt_info else {}  # noqa: SIM401
        self.about = {key: str(value.value) for key, value in told.items()}

    def run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        compiled = self._compiled.get(tuple(names))
        if compiled is None:
            import openvino

            part = openvino.Model([self._graph.output(name) for name in names], self._graph.get_parameters())
            compiled = self._compiled[tuple(names)] = self._core.compile_model(part, "CPU", self._options)
        found = compiled(dict(feeds))
        # The network may write into its buffers again.
        return [np.array(found[compiled.output(number)]) for number in range(len(names))]


#: Name of a runtime -> what runs graphs by it.
SESSIONS = {"onnx": OnnxRuntimeSession, "openvino": OpenVinoSession}


def opened(path: Path, runtime: str) -> Session:
    """A graph that `pixelsleuth export` wrote.

    Raises:
        ModelError: it cannot be read, or is no such graph.
        PixelsleuthError: the runtime is not installed.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; export the model again", "model")
    try:
        session: Session = SESSIONS[runtime](path)
    except (RuntimeError, ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    except Exception as error:
        # ONNX Runtime has no error class of its own for files that it cannot read.
        if type(error).__module__.startswith("onnxruntime"):
            raise _unreadable(path, error) from error
        raise
    if "sha256" not in session.about:
        raise ModelError(f"{path}: expected a graph that `pixelsleuth export` wrote, it names no model", "model")
    return session


def _unreadable(path: Path, error: Exception) -> ModelError:
    told = str(error).strip().splitlines()[0][:200]
    return ModelError(f"{path} cannot be read as an ONNX graph ({told}); export the model again", "model")


def _threads() -> int:
    """0: as many as there are cores."""
    return int(os.environ.get("OMP_NUM_THREADS", "0"))
