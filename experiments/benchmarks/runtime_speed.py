"""Crops judged by torch and by the exported graph, which ONNX Runtime and OpenVINO run, by turns in one process: CPU
seconds and wall time an image.

pixelsleuth export faces /tmp/faces.onnx
python experiments/benchmarks/runtime_speed.py /tmp/faces.onnx --images 64 --rounds 3
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

from pixelsleuth.benchmark.workloads import face_crops, without_face_search
from pixelsleuth.detector import Detector
from pixelsleuth.memory import keep_freed_memory
from pixelsleuth.scoring.graphs import GraphNetworks
from pixelsleuth.scoring.scorer import Scorer
from pixelsleuth.scoring.sessions import SESSIONS

#: Name -> (runtime, options of `Detector.detect_many`). Before 2026-11-26 `detect` restored wherever it mapped.
WAYS = {
    f"{runtime}, {what}": (runtime, how)
    for what, how in (
        ("no heatmap", {"heatmap": False}),
        ("the detective's heatmap", {"restore": False, "every_score": False}),
        ("heatmap and restorations", {}),
    )
    for runtime in ("torch", *SESSIONS)
}


def of_crops(detector: Detector) -> Detector:
    """A graph's detector for pictures that are face crops already."""
    networks = detector.scorer.networks
    assert isinstance(networks, GraphNetworks)
    config = networks.model.config
    cropped = dataclasses.replace(config, preprocessing={**config.preprocessing, "crop": "none"})
    networks = copy.copy(networks)
    networks.model = dataclasses.replace(networks.model, config=cropped)
    return Detector(detector.name, Scorer(networks, detector.calibration.levelling), detector.calibration)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # As the commands do.
    keep_freed_memory()
    detectors = {
        "torch": without_face_search(Detector.load("faces", device="cpu", runtime="torch")),
    } | {runtime: of_crops(Detector.load(options.graph, runtime=runtime)) for runtime in SESSIONS}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        paths = face_crops(Path(folder) / "crops", options.images)
        for number in range(options.rounds + 1):
            for name, (runtime, how) in WAYS.items():
                cpu, wall = time.process_time(), time.perf_counter()
                list(detectors[runtime].detect_many(paths, **how))
                # The first round warms up.
                if number:
                    spent[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    base = {}
    for name, both in spent.items():
        cpu, wall = (statistics.median(values) / options.images for values in zip(*both, strict=True))
        base[name] = cpu
        print(f"{name:34s} {cpu:.4f} CPU s an image, {1 / wall:.1f} images/s")
    for name, (runtime, _) in WAYS.items():
        what = name.partition(", ")[2]
        if runtime != "torch":
            print(f"{name}: {base[f'torch, {what}'] / base[name]:.2f} times as fast as torch")


if __name__ == "__main__":
    main()
