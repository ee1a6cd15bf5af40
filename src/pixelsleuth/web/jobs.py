"""A job queue: one worker thread owns the detector and batches requests; the others submit and wait."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pixelsleuth.detector import Detector
from pixelsleuth.errors import InputError, PixelsleuthError
from pixelsleuth.evidence.comparison import compared
from pixelsleuth.language import language
from pixelsleuth.progress import Step
from pixelsleuth.records import Finding
from pixelsleuth.reporting.answer import answer_of, places
from pixelsleuth.reporting.layers import view_of
from pixelsleuth.reporting.report import Judge, all_layers, section
from pixelsleuth.sources.images import decode, read_bytes

#: Largest number of queued inputs; later requests are told to retry.
MAX_WAITING = 32
#: Inputs scored together.
BATCH_SIZE = 8
#: Seconds a result can be fetched once it is there, and the number of results kept.
RESULT_SECONDS = 900
#: Seconds between two looks for results that are too old, while there is nothing to do.
TIDY_SECONDS = 60
MAX_RESULTS = 64
#: Seconds that the work under way gets to end once the server is stopped.
END_SECONDS = 10
#: Characters of a file's name, as many as file systems allow.
MAX_NAME = 255
#: Share of the work from which the time of the rest is known well enough to be told.
KNOWN_FROM = 0.03


class Full(PixelsleuthError):
    """The queue is full."""


class Failed(PixelsleuthError):
    """Judging an input failed; the message is for its sender."""


@dataclass(frozen=True)
class Outcome:
    """The result of a job. It holds text alone: the maps of a large photo take a hundred megabytes.

    Attributes:
        record: of the finding; all that is filled in unless pictures were asked for.
        pictures: name -> `uri` and `caption`, of those that lie on each other.
        section: the finding as HTML.
        places: regions that few normal inputs match.
    """

    record: dict[str, Any]
    words: str = ""
    explained: str = ""
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    section: str = ""
    places: int = 0


@dataclass(eq=False)
class Job:
    """One input handed in.

    Attributes:
        name: the bare name of the uploaded file.
        pictured: whether pictures and a report are wanted; restorations are made for these alone.
        language: code of the report's.
        outcome: done with what came of it, or with `Failed`; cancelled where nobody waits any more.
        earlier: an earlier copy to compare it with, and the bare name of that.
        step: how far a video or a volume has come, None before the first; `begun`: when that was.
        ended: when its outcome was there, None before.
    """

    id: str
    name: str
    path: Path
    pictured: bool
    language: str = ""
    earlier: tuple[Path, str] | None = None
    outcome: Future[Outcome] = field(default_factory=Future)
    step: Step | None = None
    begun: float = 0.0
    ended: float | None = None

    def __post_init__(self) -> None:
        self.outcome.add_done_callback(self._end)

    def _end(self, outcome: Future[Outcome]) -> None:
        self.ended = time.monotonic()

    def take(self, step: Step) -> None:
        if self.step is None:
            self.begun = time.monotonic()
        self.step = step

    def forget_files(self) -> None:
        """Take what was uploaded off the disk."""
        for path in (self.path, *([self.earlier[0]] if self.earlier else [])):
            path.unlink(missing_ok=True)

    @property
    def seconds_left(self) -> float | None:
        """Estimate the remaining seconds from the progress so far; None where that is not known yet."""
        share = self.step.share if self.step else 0.0
        if share < KNOWN_FROM:
            return None
        return (time.monotonic() - self.begun) * (1 - share) / share

    @property
    def state(self) -> str:
        """`waiting`, `working`, `done`, `failed` or `withdrawn`."""
        if self.outcome.cancelled():
            return "withdrawn"
        if self.outcome.done():
            return "failed" if self.outcome.exception() else "done"
        return "working" if self.outcome.running() else "waiting"


class JobQueue:
    """See the module's text. `close` ends the thread and deletes what still lies on disk."""

    def __init__(self, detector: Detector, judge: Judge, rate: float, waiting: int = MAX_WAITING) -> None:
        """Raise CalibrationError where the calibration cannot promise the rate."""
        detector.calibration.check_rate(rate)
        self.detector, self.judge, self.rate = detector, judge, rate
        self.counts: dict[str, int] = {}
        self.seconds = 0.0
        self._folder = Path(tempfile.mkdtemp(prefix="pixelsleuth-"))
        # Called at exit, too: who presses Ctrl-C twice ends the server before it closes this.
        self._clear = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._most = waiting
        self._line: deque[Job] = deque()
        self._jobs: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._line)

    def check_room(self) -> None:
        """Raise Full where nothing more can be handed in now."""
        if self.waiting >= self._most:
            raise Full(f"{self.waiting} inputs wait already; come again in a minute")

    @contextmanager
    def place(self, name: str, pictured: bool, spoken: str = "", earlier: str = "") -> Iterator[Job]:
        """A job whose file is to be written here and that is then handed in; if that fails nothing stays on disk.

        Args:
            earlier: name of the earlier copy that it comes with, "" where it comes alone.
        """
        number = secrets.token_hex(12)
        path, bare = self._path(name, number)
        job = Job(number, bare, path, pictured, spoken, self._path(earlier, f"{number}_earlier") if earlier else None)
        try:
            yield job
            self._hand_in(job)
        except BaseException:
            job.forget_files()
            raise

    def _path(self, name: str, own: str) -> tuple[Path, str]:
        """Where an upload is written, and its bare name. The user's name reaches no path but its suffix."""
        bare = re.split(r"[\\/]", name)[-1][:MAX_NAME] or "upload"
        # A form may name an encoding that gives halves of characters, which no answer can hold.
        bare = bare.encode(errors="replace").decode()
        suffix = re.fullmatch(r".*?((\.nii)?\.[A-Za-z0-9]{1,5})", bare, re.DOTALL)
        return self._folder / f"{own}{suffix[1].lower() if suffix else ''}", bare

    def _hand_in(self, job: Job) -> None:
        with self._changed:
            self.check_room()
            if job.pictured:
                self._forget_old(MAX_RESULTS - 1)
                self._jobs[job.id] = job
            self._line.append(job)
            self._changed.notify()

    def _forget_old(self, most: int = MAX_RESULTS) -> None:
        for old in list(self._jobs.values()):
            if old.ended is not None and (time.monotonic() - old.ended > RESULT_SECONDS or len(self._jobs) > most):
                del self._jobs[old.id]

    def get(self, number: str) -> Job | None:
        with self._changed:
            self._forget_old()
            return self._jobs.get(number)

    def withdraw(self, job: Job) -> None:
        """Give up a job: it is not computed unless it has begun."""
        with self._changed:
            if job.outcome.cancel() and job in self._line:
                self._line.remove(job)
                job.forget_files()
                self.counts["withdrawn"] = self.counts.get("withdrawn", 0) + 1

    def close(self) -> None:
        with self._changed:
            self._closing = True
            for job in self._line:
                job.outcome.cancel()
            self._line.clear()
            self._changed.notify()
        self._thread.join(timeout=END_SECONDS)
        self._clear()

    def _work(self) -> None:
        while batch := self._next():
            self._judge(batch)

    def _next(self) -> list[Job]:
        """The next jobs to judge together, begun; waits for one, and is empty when the queue closes."""
        with self._changed:
            batch: list[Job] = []
            while not batch:
                while not self._changed.wait_for(lambda: self._line or self._closing, TIDY_SECONDS):
                    self._forget_old()
                if self._closing:
                    return []
                first = self._line[0]
                # Those without restorations are not held up by those with; a comparison is alone.
                alike = [job for job in self._line if job.pictured == first.pictured and not job.earlier][:BATCH_SIZE]
                alike = [first] if first.earlier else alike
                self._line = deque(job for job in self._line if job not in alike)
                batch = [job for job in alike if job.outcome.set_running_or_notify_cancel()]
            return batch

    def _judge(self, batch: list[Job]) -> None:
        left = list(batch)
        try:
            by_path = {str(job.path): job for job in batch}
            found = self.detector.detect_many(
                [job.path for job in batch], max_false_alarm=self.rate, restore=batch[0].pictured,
                progress=lambda step: by_path[step.path].take(step),
            )  # fmt: skip
            if batch[0].earlier is not None:
                found = self._compared(found, *batch[0].earlier)
            for finding in found:
                job = left[0]
                outcome = self._outcome(job, finding)
                left.pop(0)
                # Before its sender is told: what is answered lies on no disk.
                job.forget_files()
                self.counts[finding.verdict] = self.counts.get(finding.verdict, 0) + 1
                self.seconds += finding.seconds
                job.outcome.set_result(outcome)
        except Exception as error:
            # One input must not end the thread that serves all, nor fail those it happened to wait with.
            if not isinstance(error, PixelsleuthError):
                logging.getLogger("pixelsleuth.web").exception("judging failed")
            for job in left:
                if len(batch) > 1:
                    self._judge([job])
                    continue
                self.counts["failed"] = self.counts.get("failed", 0) + 1
                told = f"judging failed ({type(error).__name__}); the server's log says more"
                job.outcome.set_exception(error if isinstance(error, Failed) else Failed(told))
        finally:
            for job in batch:
                job.forget_files()

    def _compared(self, found: Iterator[Finding], path: Path, name: str) -> Iterator[Finding]:
        """The findings beside an earlier copy, which is judged too. Raises Failed where that cannot be read."""
        try:
            pixels = decode(read_bytes(path), name=name).pixels
        except InputError as error:
            raise Failed(f"{name}: {error.sentence}") from None
        earlier = self.detector.detect(path, max_false_alarm=self.rate, heatmap=False)
        return compared(found, replace(earlier, path=name), pixels)

    def _outcome(self, job: Job, finding: Finding) -> Outcome:
        named = replace(finding, path=job.name)
        if not job.pictured:
            return Outcome(named.record())
        view = view_of(named, job.path, job.name, language(job.language))
        made = all_layers(view, self.judge, job.language)
        answer = answer_of(named, self.judge.calibration, language(job.language))
        return Outcome(
            named.record(), answer.headline, answer.found,
            {one.name: {"uri": one.uri, "caption": one.caption} for one in made if one.aligned},
            str(section(view, self.judge, made, job.language)), len(places(named)),
        )  # fmt: skip
