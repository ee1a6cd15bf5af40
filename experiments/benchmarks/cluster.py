"""Does a cluster find what one process finds, whoever dies? Judges real photographs by one process and by workers of a
Ray cluster on this machine, of which one is killed in the middle, and compares all records.

python experiments/benchmarks/cluster.py ../shared/data runs/cluster --images 5000 --workers 2 --json runs/cluster.json

The photographs are the files below SOURCE whose path says test; they are repeated under other names (hard links) until
there are enough.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pixelsleuth.sources.images import find_images

#: Largest difference of scores that float32 may make between batches of other company.
TOLERANCE = 1e-4


def linked(source: Path, folder: Path, count: int) -> int:
    """Links `count` photographs into `folder`; gives how many there are without repetition."""
    found = [path for path in find_images(source) if any(part.startswith("test") for part in path.parts)]
    if not found:
        raise SystemExit(f"{source}: no picture below a folder named test")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = found[number % len(found)]
        name = folder / f"{number:06d}{path.suffix}"
        if not name.exists():
            try:
                os.link(path, name)
            except OSError:
                name.symlink_to(path.resolve())
    (folder / f"{count // 2:06d}_broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return min(count, len(found))


def command(inputs: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-m", "pixelsleuth", "detect", str(inputs), "--out", str(out), "--no-heatmap", *more]
    return subprocess.Popen(
        call, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def timed(run: subprocess.Popen[bytes], kill_after: Path | None = None, parts: int = 0) -> dict[str, float]:
    """Waits for a run; gives its seconds and what it and all its children used of the CPU. Once there are so many
    `parts` one worker is killed."""
    began, before, killed = time.perf_counter(), used(), 0
    while run.poll() is None:
        time.sleep(0.2)
        if kill_after is not None and not killed and len(list(kill_after.glob("findings/part-*"))) >= parts:
            for note in sorted((kill_after / "under_way").glob("*.json")):
                killed = json.loads(note.read_text(encoding="utf-8"))["pid"]
                os.kill(killed, signal.SIGKILL)
                print(f"killed worker {killed} at {note.stem}", flush=True)
                break
    told = run.stderr.read().decode() if run.stderr else ""
    if run.returncode:
        raise SystemExit(f"ended with {run.returncode}: {told[-2000:]}")
    if kill_after is not None and not killed:
        raise SystemExit("no worker was killed: more images are needed")
    return {"seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(used() - before, 1)}


def used() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def compared(alone: Path, cluster: Path) -> dict[str, Any]:
    """How the records of one process and of the cluster differ, but for seconds."""
    ours = [json.loads(line) for line in (alone / "findings.jsonl").read_bytes().splitlines()]
    theirs = [row for part in sorted(cluster.glob("findings/part-*")) for row in pq.read_table(part).to_pylist()]
    if [one["path"] for one in ours] != [one["path"] for one in theirs]:
        raise SystemExit(f"records are lost or out of order: {len(ours)} and {len(theirs)}")
    different, largest, verdicts = 0, 0.0, 0
    for one, other in zip(ours, theirs, strict=True):
        other = {k: json.loads(v) if k in ("reason", "notes", "evidence") and v else v for k, v in other.items()}
        same = ("sha256", "kind", "verdict", "p_value", "reason", "notes", "evidence")
        verdicts += one["verdict"] != other["verdict"]
        different += any(one[k] != other[k] for k in same)
        if one["score"] is not None:
            largest = max(largest, abs(one["score"] - other["score"]))
    return {
        "records": len(ours), "not_applicable": sum(one["verdict"] == "not_applicable" for one in ours),
        "verdicts_that_differ": verdicts, "records_that_differ": different, "largest_difference_of_scores": largest,
        "within_tolerance": largest <= TOLERANCE,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path, help="a folder that is not there yet")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    inputs = options.out / "images"
    told: dict[str, Any] = {"images": options.images, "distinct": linked(options.source, inputs, options.images)}
    told["workers"] = options.workers
    told["one process"] = timed(command(inputs, options.out / "alone"))
    print(told, flush=True)
    on_cluster = ("--cluster", "local", "--workers", str(options.workers))
    parts = options.images // 64 // 2
    told["cluster, a worker killed"] = timed(
        command(inputs, options.out / "cluster", *on_cluster), options.out / "cluster", parts
    )
    told |= compared(options.out / "alone", options.out / "cluster")
    costs = [told[name]["cpu_seconds"] / options.images for name in ("one process", "cluster, a worker killed")]
    told["cpu_seconds_an_image"] = [round(cost, 4) for cost in costs]
    # Nothing is left to do: what is paid for starting, listing and looking.
    told["cluster, all done before"] = timed(command(inputs, options.out / "cluster", *on_cluster))
    print(json.dumps(told, indent=2))
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
