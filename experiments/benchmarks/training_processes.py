"""Does training shared by two processes give what one gives? Trains tiny networks on the CPU: by one process, by two
(gloo), and by two that are stopped and gone on with by one.

python experiments/benchmarks/training_processes.py photos.h5 runs/processes --json results/processes.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pixelsleuth.datasets.store import Store

#: What each part calls its loss.
LOSSES = {"vqvae": "loss", "masked": "nll", "pixelsnail": "nll", "detective": "loss"}


def settings(size: int, epochs: float) -> dict[str, object]:
    """Tiny networks for squares of `size`: all that is drawn at random is drawn, but for dropout."""
    grid = [size // 8, size // 8]
    stage = {"epochs": epochs, "precision": "32-true", "augment": "flip"}
    return {
        "vqvae": {"size": size, "codes": 32, "dimensions": 16, "widths": [32, 32]},
        "vqvae_stage": stage,
        "priors": [
            {"kind": "masked", "codes": 32, "grid": grid, "width": 32, "blocks": 2, "heads": 2},
            {"kind": "pixelsnail", "codes": 32, "grid": grid, "width": 16, "blocks": 1, "pairs": 1, "embedding": 8},
        ],
        "prior_stage": stage | {"epochs": epochs / 5},
        "detective": {"width": 16},
        "detective_stage": stage | {"epochs": epochs / 5, "batch": 16},
        "pairs": 64,
    }


def train(store: Path, out: Path, config: Path, devices: int, stop_after: str = "") -> float:
    """Runs the command; gives its seconds. With `stop_after` it is killed once that part has a checkpoint."""
    resume = ["--resume"] if out.exists() else []
    call = [sys.executable, "-m", "pixelsleuth", "train", str(store), str(out), "--config", str(config)]
    began = time.perf_counter()
    run = subprocess.Popen(
        [*call, "--devices", str(devices), "--no-progress", *resume],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
        start_new_session=True,
    )  # fmt: skip
    if stop_after:
        checkpoint = out / "training" / stop_after / "last.ckpt"
        while not checkpoint.exists():
            if run.poll() is not None:
                raise SystemExit(f"ended before {checkpoint} was there: {run.stderr.read() if run.stderr else ''}")
            time.sleep(0.01)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    else:
        _, told = run.communicate()
        if run.returncode:
            raise SystemExit(f"{' '.join(call)} ended with {run.returncode}:\n{told}")
    return time.perf_counter() - began


def losses(out: Path, part: str) -> dict[int, float]:
    """Loss by step, of a run that was resumed what was computed last."""
    found = {}
    for path in sorted((out / "training" / part / "log").glob("events*"), key=lambda p: p.stat().st_mtime):
        events = EventAccumulator(str(path))
        events.Reload()
        if LOSSES[part] in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars(LOSSES[part])}
    return found


def differences(one: Path, other: Path) -> dict[str, float]:
    """Largest relative difference of each part's losses over its steps, and largest difference of codebooks and of all
    weights."""
    found: dict[str, float] = {}
    for part in LOSSES:
        ours, theirs = losses(one, part), losses(other, part)
        if not ours or ours.keys() != theirs.keys():
            raise SystemExit(f"{part}: losses of {len(ours)} and of {len(theirs)} steps")
        found[f"{part}_loss"] = max(abs(ours[step] - theirs[step]) / abs(ours[step]) for step in ours)
    book, same = (load_file(path / "vqvae.safetensors")["quantiser.codebook"] for path in (one, other))
    found["codebook"] = float(np.abs(book - same).max())
    found["codebook_scale"] = float(np.abs(book).max())
    return found


def compare(store: Path, out: Path, epochs: float) -> dict[str, object]:
    out.mkdir(parents=True, exist_ok=True)
    with Store(store) as opened:
        size = opened.size
    config = out / "tiny.yaml"
    config.write_text(yaml.safe_dump(settings(size, epochs)), encoding="utf-8")
    seconds = {f"{n} process(es)": round(train(store, out / str(n), config, n), 1) for n in (1, 2)}
    train(store, out / "stopped", config, 2, stop_after="vqvae")
    if (out / "stopped/vqvae.safetensors").exists():
        raise SystemExit("stopped too late: more epochs are needed")
    train(store, out / "stopped", config, 1)
    return {
        "seconds": seconds,
        "one_and_two": differences(out / "1", out / "2"),
        "one_and_two_then_one": differences(out / "1", out / "stopped"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path, help="a folder that is not there yet")
    parser.add_argument("--epochs", type=float, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = compare(options.store, options.out, options.epochs)
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
