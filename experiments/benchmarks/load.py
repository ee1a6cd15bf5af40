"""Many clients at one server: how many requests are lost, and how long answers take.

    python experiments/benchmarks/load.py PICTURE... [--url http://127.0.0.1:8000] [--requests 200] [--clients 20]

A request is lost that no record answers; a record that says "no face" is an answer. A 503 is no loss where it names
`Retry-After` and a later try is answered; waiting counts as latency.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import numpy as np

from pixelsleuth.records import Verdict

BOUNDARY = "pixelsleuth-load"
#: Seconds until a request that was refused for a full queue is tried again; the server's own advice is longer.
PAUSE = 2.0


def body_of(path: Path) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="picture{path.suffix}"\r\n\r\n'
    return head.encode() + path.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


def asked(address: str, body: bytes, end: float) -> tuple[str, float, int]:
    """(verdict or what went wrong, seconds, times refused) of one picture, tried again until `end` while refused."""
    began, refused = time.perf_counter(), 0
    while True:
        try:
            connection = http.client.HTTPConnection(address, timeout=max(1.0, end - time.perf_counter()))
            headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            connection.request("POST", "/api/findings", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
        except OSError as error:
            return type(error).__name__, time.perf_counter() - began, refused
        if answer.status in (429, 503) and answer.getheader("Retry-After") and time.perf_counter() + PAUSE < end:
            refused += 1
            time.sleep(PAUSE)
            continue
        told = json.loads(text)["verdict"] if answer.status == 200 else f"status {answer.status}"
        return told, time.perf_counter() - began, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1800, help="End of it all; what is open then counts as lost.")
    options = parser.parse_args()
    address = urlsplit(options.url).netloc
    if not address.startswith(("127.0.0.1", "localhost")):
        parser.error("this loads a server; expected one on 127.0.0.1")
    bodies = [body_of(path) for path in options.pictures]
    began = time.perf_counter()
    end = began + options.seconds
    with ThreadPoolExecutor(options.clients) as pool:
        results = list(pool.map(lambda i: asked(address, bodies[i % len(bodies)], end), range(options.requests)))
    whole = time.perf_counter() - began
    outcomes = [outcome for outcome, _, _ in results]
    good = [seconds for outcome, seconds, _ in results if outcome in get_args(Verdict)]
    median, p95, longest = np.quantile(good, (0.5, 0.95, 1)) if good else (np.nan,) * 3
    print(f"{options.requests} requests, {options.clients} clients, {whole:.1f} s")
    print(f"{len(good) / whole:.2f} answers a second")
    print(", ".join(f"{outcome} {outcomes.count(outcome)}" for outcome in sorted(set(outcomes))))
    print(f"lost {len(results) - len(good)}, refused for a full queue and tried again {sum(r for _, _, r in results)}")
    print(f"latency: median {median:.2f} s, 95th percentile {p95:.2f} s, longest {longest:.2f} s")
    with contextlib.suppress(OSError):
        print("load averages of this machine " + ", ".join(f"{value:.1f}" for value in os.getloadavg()))


if __name__ == "__main__":
    main()
