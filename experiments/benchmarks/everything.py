"""A folder of everything: more than 40 kinds of file, links in circles, a pipe and a socket, through `detect` and
`serve`. Prints time and peak memory of both, how many records there are, and every file of which the two say otherwise.

python experiments/benchmarks/everything.py
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.badfiles import write_everything

#: What both must say alike.
SAME = ("sha256", "kind", "verdict", "reason", "notes")


def peak(process: int) -> float:
    """Megabytes that a process took at most."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def detected(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "pixelsleuth", "detect", str(folder), "--no-heatmap", "--max-false-alarm", "0.05"]
    began, highest = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=out, stderr=said)
        while process.poll() is None:
            # It may end meanwhile.
            with contextlib.suppress(OSError, IndexError):
                highest = max(highest, peak(process.pid))
            time.sleep(0.05)
        out.seek(0)
        said.seek(0)
        records = [json.loads(line) for line in out]
        left = [line for line in said.read().splitlines() if line.startswith("left out")]
    print(f"detect: {len(records)} records, {time.perf_counter() - began:.1f} s, {highest:.0f} MB; {' '.join(left)}")
    return {os.path.relpath(record["path"], folder): record for record in records}


def posted(url: str, path: Path) -> tuple[int, dict[str, Any]]:
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    request = urllib.request.Request(url, body, {"Content-Type": f"multipart/form-data; boundary={mark}"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = write_everything(Path(made))
        records = detected(folder)
        command = [sys.executable, "-m", "pixelsleuth", "serve", "--port", "8377"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = "http://127.0.0.1:8377/api/"
            for _ in range(600):
                try:
                    urllib.request.urlopen(url + "health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.2)
            began, same, other = time.perf_counter(), 0, []
            for name, record in records.items():
                path = folder / name
                if not path.is_file() or path.is_symlink():
                    continue
                status, answer = posted(url + "findings", path)
                alike = status == 200 and all(answer[key] == record[key] for key in SAME)
                same += alike
                if not alike:
                    other.append(f"{name}: {status}, {answer.get('reason')} and {record['reason']}")
            took = time.perf_counter() - began
            print(f"serve: {same} records alike, {len(other)} not, {took:.1f} s, {peak(server.pid):.0f} MB")
            print("\n".join(other))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
