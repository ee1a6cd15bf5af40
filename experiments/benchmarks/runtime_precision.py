"""Do fewer bits, or another runtime, change a verdict? Untouched faces judged by torch in float32 and by the exported
graph: by ONNX Runtime, by ONNX Runtime in 8 bits, by OpenVINO in float32 and in bfloat16.

pip install openvino
pixelsleuth export faces /tmp/faces.onnx
python experiments/benchmarks/runtime_precision.py /tmp/faces.onnx FOLDER... --count 2000 --json /tmp/precision.json

Without heatmap. The 8 bits are set (per channel, by the range of activations) on the first 64 pictures, which are not
counted. Of each way: verdicts that differ from torch's, the largest difference of p, CPU seconds an image without
reading the file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pixelsleuth.detector import Detector, Rule
from pixelsleuth.files import write_text
from pixelsleuth.records import Finding
from pixelsleuth.scoring.graphs import GraphNetworks
from pixelsleuth.scoring.scorer import PLAIN, stacked
from pixelsleuth.scoring.sessions import SESSIONS, OnnxRuntimeSession, OpenVinoSession, Session
from pixelsleuth.sources.images import find_images
from pixelsleuth.sources.samples import Sample

BATCH, QUANTISED_ON = 16, 64
WAYS = ("onnx", "openvino", "openvino bf16", "onnx int8")


class Crops:
    """What ONNX Runtime's quantisation asks for, one batch after another."""

    def __init__(self, networks: GraphNetworks, samples: Sequence[Sample]) -> None:
        self._feeds = iter([self._feed(networks, sample) for sample in samples])

    @staticmethod
    def _feed(networks: GraphNetworks, sample: Sample) -> dict[str, np.ndarray]:
        crops = stacked([crop.views for crop in sample.crops], [crop.key for crop in sample.crops])
        feeds = networks._feeds(crops)
        if "near" not in feeds and "near" in networks._inputs:
            side = 2 * networks.model.config.close_size
            feeds |= {"near": np.zeros((1, side, side, 3), np.uint8), "which": np.zeros(1, np.int64)}
        return feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantised(path: Path, networks: GraphNetworks, samples: Sequence[Sample]) -> Path:
    """The graph with convolutions and products in 8 bits."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, out = path.with_suffix(".prepared.onnx"), path.with_suffix(".int8.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(out), Crops(networks, samples), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv", "MatMul", "Gemm"],
    )  # fmt: skip
    return out


def with_session(graph: Path, session: Session) -> Detector:
    """The graph's detector, which another session answers for."""
    detector = Detector.load(graph)
    networks = detector.scorer.networks
    assert isinstance(networks, GraphNetworks)
    networks._scores = session
    return detector


def samples_of(detector: Detector, paths: Sequence[Path]) -> Iterator[list[Sample]]:
    waiting = iter(paths)
    while batch := list(islice(waiting, BATCH)):
        read = [detector.read(path) for path in batch]
        found = [one for one in read if not isinstance(one, Finding)]
        if found:
            yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paths = [path for folder in options.folders for path in sorted(find_images(folder))]
    spread = np.linspace(0, len(paths) - 1, min(options.count + QUANTISED_ON, len(paths))).round().astype(int)
    paths = [paths[i] for i in np.random.default_rng(0).permutation(np.unique(spread))]
    base = Detector.load("faces", device="cpu", runtime="torch")
    detectors = {"torch": base}
    for way in options.ways:
        if way in SESSIONS:
            detectors[way] = Detector.load(options.graph, runtime=way)
        elif way == "onnx int8":
            plain = Detector.load(options.graph)
            assert isinstance(plain.scorer.networks, GraphNetworks)
            first = [one for batch in samples_of(base, paths[:QUANTISED_ON]) for one in batch]
            made = quantised(options.graph, plain.scorer.networks, first)
            detectors[way] = with_session(options.graph, OnnxRuntimeSession(made))
        else:
            detectors[way] = with_session(options.graph, OpenVinoSession(options.graph, "bf16"))
    seconds = dict.fromkeys(detectors, 0.0)
    verdicts: dict[str, list[str]] = {way: [] for way in detectors}
    p: dict[str, list[float]] = {way: [] for way in detectors}
    for number, samples in enumerate(samples_of(base, paths[QUANTISED_ON:])):
        for way, detector in detectors.items():
            began = time.process_time()
            judged = detector.judge(samples, detector.score(samples, PLAIN), Rule(0.01))
            # The first batch makes what is made once.
            seconds[way] += time.process_time() - began if number else 0.0
            verdicts[way] += [one.verdict for one in judged]
            p[way] += [one.p_value for one in judged]
    count = len(verdicts["torch"])
    tree: dict[str, Any] = {"pictures": count}
    for way in detectors:
        other = int(np.sum(np.array(verdicts[way]) != np.array(verdicts["torch"])))
        tree[way] = {
            "cpu_seconds": round(seconds[way] / max(1, count - BATCH), 4),
            "other_verdicts": other,
            "anomalous": verdicts[way].count("anomalous"),
            "unsure": verdicts[way].count("unsure"),
            "p_differs_by": round(float(np.abs(np.array(p[way]) - np.array(p["torch"])).max()), 5),
        }
        print(way, tree[way], flush=True)
    if options.json:
        write_text(options.json, json.dumps(tree, indent=1) + "\n")


if __name__ == "__main__":
    main()
