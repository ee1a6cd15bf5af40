"""Kills, full disks, and two processes at one place, over `prepare`, `train`, `calibrate`, `detect` and `evaluate`.

    python experiments/benchmarks/kills.py --kills 50 --out runs/kills

On tiny data made here. Each command is run once undisturbed; then it is killed (SIGKILL) at random moments, called
again, and its result compared. After each kill every file under a final name must be whole, and what was done must
still be there. Then each command runs on a disk that is too small (a tmpfs where it may be mounted, else a limit on the
size of files), and is called again with room; and each twice at once at one place. Every process is forked from this
one, which has imported everything: a kill falls into the work, not into the start of Python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import yaml
from safetensors import safe_open

from pixelsleuth import cli
from pixelsleuth.datasets import preparation, store_writer
from pixelsleuth.files import write_text
from pixelsleuth.training import loop, run

COMMANDS = ("prepare", "train", "calibrate", "detect", "evaluate")
TINY = {
    "vqvae": {"size": 32, "codes": 16, "dimensions": 8, "widths": [16, 16]},
    "vqvae_stage": {"epochs": 6, "batch": 16, "precision": "32-true", "augment": "none"},
    "priors": [{"kind": "masked", "codes": 16, "grid": [4, 4], "width": 16, "blocks": 2, "heads": 2}],
    "prior_stage": {"epochs": 6, "batch": 16, "precision": "32-true", "augment": "none"},
    "detective": {"width": 8},
    "detective_stage": {"epochs": 3, "batch": 16, "precision": "32-true", "augment": "none"},
    "pairs": 32,
}
#: Small steps, so that there is something to resume.
PART, STEPS = 8, 4
#: Numbers of two results that differ by less are the same: float32 in batches of another size.
TIE = 1e-4


def write_shapes(folder: Path, count: int, first: int, altered: bool = False) -> None:
    folder.mkdir(parents=True)
    for seed in range(first, first + count):
        generator = np.random.default_rng(seed)
        y, x = np.mgrid[:32, :32]
        picture = np.repeat((60 + x * generator.uniform(1, 2) + y)[..., None], 3, 2)
        picture[(x - generator.uniform(12, 20)) ** 2 + (y - 16) ** 2 < 40] = (220, 180, 140)
        if altered:
            picture[8:20, 8:20] = ((x + y) % 2 * 250)[8:20, 8:20, None]
        picture = np.clip(picture + generator.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{seed:05d}.png"), picture)


def forked(call: list[str], log: Path, limit: int | None = None) -> int:
    """Runs a command in a process of its own, in its own group; gives its number."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = ["pixelsleuth", *call]
        cli.main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        # The exit below would keep it to itself.
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(process: int) -> int:
    """Its exit code, once it has ended; less than 0: of a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class Place:
    """A folder in which one command works, and what it may find there."""

    def __init__(self, base: Path, root: Path, command: str) -> None:
        self.base, self.root, self.command = base, root, command
        root.mkdir(parents=True, exist_ok=True)
        if command == "calibrate" and not (root / "model").exists():
            shutil.copytree(base / "model", root / "model", ignore=shutil.ignore_patterns("calibration.json"))

    def call(self, again: bool) -> list[str]:
        base, root = self.base, self.root
        model = ["--model", str(base / "model")]
        resume = ["--resume"] if again else []
        return {
            "prepare": ["prepare", "images", str(base / "shapes/train"), str(base / "shapes/calib"), str(root / "s.h5"),
                        "--size", "32", "--crop", "none", "--workers", "1"],
            "train": ["train", str(base / "s.h5"), str(root / "model"), "--config", str(base / "tiny.yaml"),
                      "--no-progress", *resume],
            "calibrate": ["calibrate", str(root / "model"), str(base / "s.h5")],
            "detect": ["detect", str(base / "shapes/test"), *model, "--out", str(root / "out"),
                       "--max-false-alarm", "0.1", *resume],
            "evaluate": ["evaluate", *model, "--normal", str(base / "shapes/test/real"), "--anomalous",
                         str(base / "shapes/test/fake"), "--out", str(root / "out"), "--text-pairs", "0"],
        }[self.command]  # fmt: skip

    def resumes(self) -> bool:
        """Whether there is a run to go on with."""
        at = {"train": "model/training/settings.json", "detect": "out/findings.jsonl"}.get(self.command)
        return at is not None and (self.root / at).exists()

    def result(self) -> Any:
        """What the command is for, without times."""
        root = self.root
        if self.command == "prepare":
            with h5py.File(root / "s.h5") as file:
                return [file["pixels"][:].tobytes(), file["table/sha256"].asstr()[:].tolist(), file.attrs["settings"]]
        if self.command == "detect":
            rows = [json.loads(line) for line in (root / "out/findings.jsonl").read_bytes().splitlines()]
            maps = {row["path"]: (root / "out" / row["heatmap"]).read_bytes() for row in rows if row["heatmap"]}
            return [[{k: v for k, v in row.items() if k != "seconds"} for row in rows], maps]
        if self.command == "evaluate":
            tree = json.loads((root / "out/metrics.json").read_text())
            return {k: v for k, v in tree.items() if k != "command"}
        calibration = json.loads((root / "model/calibration.json").read_text())
        # The configuration says how fast the training was, and so its digest differs from run to run.
        kept = {k: calibration[k] for k in ("scores", "largest", "quantiles")}
        weights = sorted((root / "model").glob("*.safetensors"))
        return [kept, {path.name: path.read_bytes() for path in weights}]

    def done(self) -> dict[str, Any]:
        """What a kill must not undo: files that are finished, by name; of records the finished lines."""
        if self.command == "detect":
            path = self.root / "out/findings.jsonl"
            lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
            return {"lines": [line for line in lines if line.endswith(b"\n")]}
        patterns = {"prepare": "s.h5.parts/[0-9]*.h5", "train": "model/*.safetensors"}.get(self.command, "")
        return {str(p): p.stat().st_mtime_ns for p in self.root.glob(patterns)} if patterns else {}

    def lost(self, before: dict[str, Any]) -> int:
        """How much of what was done before is gone or was made anew, once the command has ended."""
        if self.command == "detect":
            lines = (self.root / "out/findings.jsonl").read_bytes().splitlines(keepends=True)
            return sum(a != b for a, b in zip(before["lines"], lines, strict=False))
        if self.command == "prepare":
            # Parts go when the store is whole; those made anew are told by `_noted`.
            made = self.root / "parts.log"
            again = made.read_text().split() if made.exists() else []
            return sum(Path(name).name in again for name in before)
        return sum(not Path(name).exists() or Path(name).stat().st_mtime_ns != time for name, time in before.items())

    def broken(self) -> list[str]:
        """Files under a final name that are not whole."""
        found = []
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and ".partial" not in path.name and not _whole(path):
                found.append(str(path.relative_to(self.root)))
        return found


def alike(one: Any, other: Any) -> bool:
    """Whether two results are the same: of images that were scored beside others the last digits of float32 may differ,
    so numbers may by `TIE`."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < TIE
    return bool(one == other)


def _whole(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":
            # Records are streamed: the last line may be cut, and is taken off by --resume.
            [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                list(file.keys())
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                return "skipped" in file or "skipped" in file.attrs
        elif path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        elif path.suffix == ".png":
            return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None
    except (OSError, ValueError) as error:
        print(path, error)
        return False
    return True


def _noted(write: Callable[..., None]) -> Callable[..., None]:
    """Notes beside the store which parts a process has written."""

    def noted(path: Path, *rest: Any) -> None:
        write(path, *rest)
        with open(path.parent.parent / "parts.log", "a") as file:
            file.write(path.name + "\n")

    return noted


def kills(base: Path, command: str, count: int, generator: np.random.Generator) -> dict[str, Any]:
    undisturbed = Place(base, base / "undisturbed" / command, command)
    began = time.monotonic()
    code = ended(forked(undisturbed.call(False), undisturbed.root / "log"))
    lasted = time.monotonic() - began
    assert code == 0, (undisturbed.root / "log").read_text()
    expected = undisturbed.result()
    row = {"kills": 0, "late": 0, "rounds": 0, "equal": 0, "broken": 0, "lost": 0, "failed": 0, "rest": 0}
    row["seconds"] = round(lasted, 2)
    while row["kills"] < count:
        place = Place(base, base / "killed" / f"{command}{row['rounds']}", command)
        befores = []
        for _ in range(min(int(generator.integers(1, 4)), count - row["kills"])):
            (place.root / "parts.log").unlink(missing_ok=True)
            process = forked(place.call(place.resumes()), place.root / "log")
            time.sleep(float(generator.uniform(0, lasted)))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            # A call that ended before its kill counts as none.
            hit = ended(process) == -signal.SIGKILL
            row["kills"] += hit
            row["late"] += not hit
            broken = place.broken()
            row["broken"] += len(broken)
            befores.append(place.done())
            if broken:
                print(command, "broken:", broken)
        (place.root / "parts.log").unlink(missing_ok=True)
        code = ended(forked(place.call(place.resumes()), place.root / "log"))
        row["rounds"] += 1
        if code:
            row["failed"] += 1
            print(command, "failed:", (place.root / "log").read_text()[-500:])
            continue
        row["equal"] += alike(place.result(), expected)
        row["lost"] += place.lost(befores[-1])
        row["rest"] += sum(".partial" in p.name for p in place.root.rglob("*"))
    return row


def full_disk(base: Path, command: str) -> dict[str, Any]:
    """On a disk of a third and of two thirds of what is needed, and then with room."""
    expected = Place(base, base / "undisturbed" / command, command)
    files = [path for path in expected.root.rglob("*") if path.is_file() and path.name != "log"]
    largest = max(path.stat().st_size for path in files)
    # In pages; what the command finds there must fit.
    pages = {path: -(-path.stat().st_size // 4096) for path in files}
    given = sum(count for path, count in pages.items() if command == "calibrate" and path.name != "calibration.json")
    needed = sum(pages.values()) - given
    row: dict[str, Any] = {"told": 0, "broken": 0, "equal": 0, "tried": 0, "mounted": 0}
    for number, share in enumerate((0.33, 0.66)):
        root = base / "full" / f"{command}{number}"
        root.mkdir(parents=True)
        size = f"size={4 * (given + max(2, int(needed * share)))}k"
        mounted = (
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", root], capture_output=True).returncode == 0
        )
        try:
            place = None
            with contextlib.suppress(OSError):
                place = Place(base, root, command)
            if place is None:
                continue
            row["tried"] += 1
            row["mounted"] += mounted
            log = base / f"full_{command}{number}.log"
            code = ended(forked(place.call(False), log, None if mounted else int(largest * share)))
            lines = [line for line in log.read_text().splitlines() if line.startswith("error:")]
            row["told"] += code == 2 and len(lines) == 1 and "no room is left to write" in lines[0]
            if code != 2 or not lines:
                print(command, share, "full:", code, log.read_text()[-600:])
            row["broken"] += len(place.broken())
            if mounted:
                subprocess.run(["mount", "-o", "remount,size=1g", root], check=True)
            code = ended(forked(place.call(place.resumes()), log))
            row["equal"] += code == 0 and alike(place.result(), expected.result())
        finally:
            if mounted:
                subprocess.run(["umount", root], check=True)
    return row


def together(base: Path, command: str) -> dict[str, Any]:
    """Two at once at one place."""
    place = Place(base, base / "together" / command, command)
    expected = Place(base, base / "undisturbed" / command, command).result()
    logs = [base / f"together_{command}{k}.log" for k in range(2)]
    processes = [forked(place.call(False), log) for log in logs]
    codes = [ended(process) for process in processes]
    told = [log.read_text() for log in logs]
    refused = sum(code == 2 and "another process is writing" in text for code, text in zip(codes, told, strict=True))
    refused += sum(code == 2 and "holds a training run" in text for code, text in zip(codes, told, strict=True))
    return {"ended": codes.count(0), "refused": refused, "equal": int(alike(place.result(), expected))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    options = parser.parse_args()
    preparation.PART, loop.CHECKPOINT_EVERY = PART, STEPS
    store_writer._write_part = _noted(store_writer._write_part)
    assert run.fit is loop.fit
    base = options.out.resolve()
    shutil.rmtree(base, ignore_errors=True)
    for split, count, first in (("train/real", 48, 0), ("calib/real", 24, 1000), ("test/real", 12, 2000)):
        write_shapes(base / "shapes" / split, count, first)
    write_shapes(base / "shapes/test/fake", 12, 3000, altered=True)
    (base / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    generator = np.random.default_rng(options.seed)
    result: dict[str, Any] = {"kills": {}, "full": {}, "together": {}}
    for command in COMMANDS:
        result["kills"][command] = kills(base, command, options.kills // len(COMMANDS), generator)
        print(command, result["kills"][command], flush=True)
        made = base / "undisturbed" / command
        if command == "prepare":
            shutil.copy(made / "s.h5", base / "s.h5")
        elif command == "train":
            shutil.copytree(made / "model", base / "model")
        for name, look in (("full", full_disk), ("together", together)):
            result[name][command] = look(base, command)
            print(command, name, result[name][command], flush=True)
        write_text(base / "kills.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
