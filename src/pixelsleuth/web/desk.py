"""One thread owns the detector and judges what waits, several together; everybody else hands in and waits."""

from __future__ import annotations

import contextlib
import queue
import re
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.records import Finding
from pixelsleuth.reporting.exhibits import Exhibit, exhibit_of

#: Inputs that may wait; who comes later is told to come again.
WAITING = 32
#: Inputs judged in one go.
TOGETHER = 8
#: Seconds that a result can be fetched, and results that are kept.
KEPT_SECONDS = 900
KEPT = 64


class Full(PixelsleuthError):
    """The queue is full."""


@dataclass
class Job:
    """One input handed in.

    Attributes:
        name: the bare name of the uploaded file.
        state: `waiting`, `working`, `done` or `failed`.
        exhibit: what came out, once done; reason: why it failed.
    """

    id: str
    name: str
    path: Path
    state: str = "waiting"
    exhibit: Exhibit | None = None
    reason: str = ""
    since: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)


class Desk:
    """See the module's text. `close` ends the thread and deletes what still lies on disk."""

    def __init__(self, detector: Detector, rate: float, waiting: int = WAITING) -> None:
        """Raises CalibrationError where the calibration cannot promise the rate."""
        detector.calibration.check_rate(rate)
        self.detector, self.rate = detector, rate
        self.counts: dict[str, int] = {}
        self.seconds = 0.0
        self._folder = Path(tempfile.mkdtemp(prefix="pixelsleuth-"))
        self._queue: queue.Queue[Job | None] = queue.Queue(waiting)
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def place(self, name: str) -> Job:
        """A job whose file, still to be written, has a name of our own: the user's reaches no path but its suffix."""
        bare = re.split(r"[\\/]", name)[-1][:200] or "upload"
        suffix = re.fullmatch(r".*?((\.nii)?\.[A-Za-z0-9]{1,5})", bare)
        number = secrets.token_hex(12)
        return Job(number, bare, self._folder / f"{number}{suffix[1].lower() if suffix else ''}")

    def submit(self, job: Job) -> None:
        """Queues a job whose file is written. Raises Full."""
        with self._lock:
            for old in [j for j in self._jobs.values() if j.ended.is_set()]:
                if time.monotonic() - old.since > KEPT_SECONDS or len(self._jobs) >= KEPT:
                    del self._jobs[old.id]
            try:
                self._queue.put_nowait(job)
            except queue.Full:
                job.path.unlink(missing_ok=True)
                raise Full(f"{self.waiting} inputs wait already; come again in a minute") from None
            self._jobs[job.id] = job

    def get(self, number: str) -> Job | None:
        return self._jobs.get(number)

    def close(self) -> None:
        with contextlib.suppress(queue.Full):
            # A queue that is full must not keep the server from ending; the thread is a daemon.
            self._queue.put(None, timeout=5)
        self._thread.join(timeout=60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            stop = False
            while len(batch) < TOGETHER:
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    stop = True
                    break
                batch.append(job)
            self._judge(batch)
            if stop:
                return

    def _judge(self, batch: list[Job]) -> None:
        for job in batch:
            job.state = "working"
        left = list(batch)
        try:
            paths = [job.path for job in batch]
            for finding in self.detector.detect_many(paths, max_false_alarm=self.rate):
                self._done(left.pop(0), finding)
        except Exception as error:
            # One input must not end the thread that serves all.
            for job in left:
                self._failed(job, f"judging failed ({type(error).__name__}); the server's log says more")
            if not isinstance(error, PixelsleuthError):
                import logging

                logging.getLogger("pixelsleuth.web").exception("judging failed")
        finally:
            for job in batch:
                job.path.unlink(missing_ok=True)

    def _done(self, job: Job, finding: Finding) -> None:
        exhibit = exhibit_of(finding, job.path, job.name)
        job.exhibit = replace(exhibit, finding=replace(finding, path=job.name))
        self.counts[finding.verdict] = self.counts.get(finding.verdict, 0) + 1
        self.seconds += finding.seconds
        job.state = "done"
        job.ended.set()

    def _failed(self, job: Job, reason: str) -> None:
        job.state, job.reason = "failed", reason
        self.counts["failed"] = self.counts.get("failed", 0) + 1
        job.ended.set()
