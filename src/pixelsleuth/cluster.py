"""Judge whole archives on many machines with Ray Data. Workers load the model once, take batch after batch, and write
each batch as a Parquet file of its own. A batch whose file exists is done: a run that was stopped resumes, and losing a
worker costs only its current batch.

Ray ships code between its own processes by pickle: join clusters that you trust, and expose none to the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from pixelsleuth.errors import PixelsleuthError, needs_extra
from pixelsleuth.files import write_text
from pixelsleuth.memory import keep_freed_memory
from pixelsleuth.records import Finding
from pixelsleuth.sources import formats
from pixelsleuth.sources.images import MAX_BYTES
from pixelsleuth.sources.inputs import Refused, find_inputs, nothing_in

#: Inputs a batch: a lost worker costs one batch.
BATCH_SIZE = 64
#: Largest number of Ray blocks, the rows of its own bookkeeping.
MAX_BLOCKS = 10_000
#: Bytes of Ray's object store where it is started here: only names and counts travel.
OBJECT_STORE = 128 * 2**20
#: How often a worker may die over one input before the input gets the blame.
DEATHS = 2

#: A path, an address such as `s3://bucket/photo.jpg`, or what was refused when its folder was listed.
Place = str | Refused


@dataclass(frozen=True)
class Task:
    """The settings every worker receives.

    Attributes:
        model: as of `Detector.load`; sha256: its own.
        out: a folder that every worker sees.
        options: as of `Detector.detect_many`.
        threads: of a worker.
    """

    model: str
    sha256: str
    out: str
    options: dict[str, Any] = field(default_factory=dict)
    threads: int = 1

    @property
    def parts(self) -> Path:
        return Path(self.out) / "findings"

    def part(self, number: int) -> Path:
        """The records of one batch."""
        return self.parts / f"part-{number:06d}.parquet"

    def note(self, number: int) -> Path:
        """The file that names the worker of a batch and what happened to it; removed once the batch is done."""
        return Path(self.out) / "under_way" / f"{number:06d}.json"


def judge(
    inputs: Iterable[str],
    task: Task,
    *,
    address: str = "auto",
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Counter[str]:
    """Judge everything that `inputs` lead to and write `findings/part-*.parquet` into the task's folder, in input
    order; go on where a run of the same inputs and options was stopped.

    Args:
        inputs: files, folders, `*.tar` shards (WebDataset), and addresses that fsspec opens, of files or folders.
        address: of a Ray cluster; `auto`: the one that runs on this machine, else one that is started for the run.
        workers: processes that judge; one a GPU, or one a core where there is none, unless given.

    Returns:
        How many records have which verdict.

    Raises:
        PixelsleuthError: nothing to judge, another run's folder, a cluster that cannot be joined.
    """
    batches = list(batches_of(inputs, task.out))
    if not batches:
        raise PixelsleuthError("nothing to judge; give files, folders, *.tar shards or addresses such as s3://...")
    _claim(task, batches)
    missing = [number for number in range(len(batches)) if not task.part(number).exists()]
    progress(len(batches) - len(missing), len(batches))
    if missing:
        rows = [{"number": number, "inputs": batches[number]} for number in missing]
        for done, _ in enumerate(_run(rows, task, address, workers), len(batches) - len(missing) + 1):
            progress(done, len(batches))
    lost = [number for number in missing if not task.part(number).exists()]
    if lost:
        raise PixelsleuthError(f"{len(lost)} of {len(batches)} batches have no records in {task.parts}; run it again")
    return verdicts(task.parts)


def verdicts(folder: Path) -> Counter[str]:
    """Count the records of each verdict in a folder of Parquet files."""
    import pyarrow.parquet as pq

    found = Counter[str]()
    for path in sorted(folder.glob("part-*.parquet")):
        found.update(pq.read_table(path, columns=["verdict"])["verdict"].to_pylist())
    return found


def _run(rows: list[dict[str, Any]], task: Task, address: str, workers: int | None) -> Iterator[dict[str, Any]]:
    with needs_extra("cluster", "detect on a cluster"):
        import ray
        import ray.data

    _join(ray, address)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        gpus = int(ray.cluster_resources().get("GPU", 0))
        size = workers or gpus or max(1, int(ray.cluster_resources().get("CPU", 1)) // task.threads)
        each: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": task.threads}
        batches = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS))
        pool = ray.data.ActorPoolStrategy(size=min(size, len(rows)))
        # Ray makes the workers of the class; its types know functions alone.
        judge_one: Any = Worker
        yield from batches.map(judge_one, fn_constructor_args=(task,), compute=pool, **each).iter_rows()
    finally:
        ray.shutdown()


def _join(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with suppress(ConnectionError):
            ray.init(address=address, **quiet)
            return
        if address != "auto":
            raise PixelsleuthError(f"no Ray cluster answers there, got {address!r}; start one, or take auto", "cluster")
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE, **quiet)
    except (RuntimeError, ValueError, OSError) as error:
        raise PixelsleuthError(f"{address}: the cluster cannot be joined ({error})", "cluster") from error


def _claim(task: Task, batches: Sequence[str]) -> None:
    """Make the folder this run's own, or raise."""
    policy = task.options.get("policy")
    about = json.dumps({
        "model": task.model, "model_sha256": task.sha256,
        "options": task.options | {"policy": asdict(policy) if policy else None},
        "batches": len(batches), "inputs_sha256": hashlib.sha256("\n".join(batches).encode()).hexdigest(),
    }, indent=1)  # fmt: skip
    note = Path(task.out) / "run.json"
    if not note.exists():
        write_text(note, about)
    elif note.read_text(encoding="utf-8") != about:
        raise PixelsleuthError(f"{task.out} holds the run of other inputs, options or model; name another folder")


def batches_of(inputs: Iterable[str], out: str) -> Iterator[str]:
    """Batches as JSON: `BATCH_SIZE` files each, or one shard; what is written into `out` is in none."""
    waiting: list[Place] = []
    for place in _listed(inputs, out):
        if isinstance(place, str) and is_shard(place):
            if waiting:
                yield _packed(waiting)
            yield _packed([place])
            waiting = []
            continue
        waiting.append(place)
        if len(waiting) == BATCH_SIZE:
            yield _packed(waiting)
            waiting = []
    if waiting:
        yield _packed(waiting)


def _packed(places: Sequence[Place]) -> str:
    # A name need not be text: JSON's escapes bring it back.
    return json.dumps([asdict(place) if isinstance(place, Refused) else place for place in places])


def _unpacked(text: str) -> list[Place]:
    return [Refused(**item) if isinstance(item, dict) else item for item in json.loads(text)]


def is_shard(place: str) -> bool:
    return place.lower().endswith((".tar", ".tar.gz", ".tgz"))


def is_remote(place: str) -> bool:
    return "://" in place


def _listed(inputs: Iterable[str], out: str) -> Iterator[Place]:
    for item in inputs:
        if is_remote(item):
            yield from _listed_remote(item)
        elif os.path.isdir(item):
            leftovers: list[str] = []
            found = [one if isinstance(one, Refused) else str(one) for one in find_inputs(Path(item), leftovers, out)]
            shards = sorted(os.path.join(item, name) for name in leftovers if is_shard(name))
            yield from [*found, *shards] or [nothing_in(item)]
        else:
            yield item


def _listed_remote(address: str) -> Iterator[Place]:
    """What lies at an address: itself, all that lies below it, or what its pattern matches."""
    with needs_extra("cluster", address):
        import fsspec
    try:
        system, path = fsspec.core.url_to_fs(address)
        if any(sign in path for sign in "*?["):
            found = system.glob(path)
        else:
            found = system.find(path) if system.isdir(path) else [path]
    except Exception as error:
        # What an object store answers is not foreseeable.
        raise PixelsleuthError(f"{address} cannot be listed ({type(error).__name__}: {error})") from error
    for name in sorted(found):
        if not formats.is_litter(name.rsplit("/", 1)[-1]):
            yield system.unstrip_protocol(name)


class Worker:
    """Judges batches; made once a process by Ray."""

    def __init__(self, task: Task) -> None:
        import cv2
        import torch

        from pixelsleuth.detector import Detector

        keep_freed_memory()
        torch.set_num_threads(task.threads)
        cv2.setNumThreads(1)
        self.task, self.detector = task, Detector.load(task.model)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write the records of one batch, unless an earlier attempt did."""
        number = int(row["number"])
        if not self.task.part(number).exists():
            self._judged(number, _unpacked(row["inputs"]))
        return {"number": number}

    def _judged(self, number: int, places: list[Place]) -> None:
        import sys

        from pixelsleuth.reporting.writing import RecordWriter, save_heatmap

        attempt = Attempt.of(self.task.note(number))
        writer = RecordWriter(self.task.part(number), "parquet", sys.stdout)
        with tempfile.TemporaryDirectory() as room:
            found = self._alone(places, attempt, Path(room)) if attempt.again else self._found(places, Path(room))
            for count, finding in enumerate(found):
                told = save_heatmap(finding, Path(self.task.out), number * 1_000_000 + count)
                writer.write(told.record())
        writer.close()
        attempt.done()

    def _found(self, places: Iterable[Place], room: Path) -> Iterator[Finding]:
        """Findings in order. What lies elsewhere is brought here, and gone once it is judged."""
        waiting: deque[tuple[Place, Path | None]] = deque()

        def here() -> Iterator[Place]:
            for place, path in _brought(places, room):
                waiting.append((place, path))
                yield place if path is None else str(path)

        for finding in self.detector.detect_many(here(), **self.task.options):
            place, path = waiting.popleft()
            if path is not None:
                path.unlink(missing_ok=True)
            yield finding if isinstance(place, Refused) else replace(finding, path=place)

    def _alone(self, places: Iterable[Place], attempt: Attempt, room: Path) -> Iterator[Finding]:
        """The same one by one, after a worker died over the batch; an input over which it dies again and again is a
        record like that of any other bad file."""
        for count, place in enumerate(places):
            if attempt.deaths.get(str(count), 0) >= DEATHS:
                told = f"the worker died {DEATHS} times while it was at it; look at the file"
                place = Refused(place.path if isinstance(place, Refused) else place, "image", "failed", told)
            attempt.at(count)
            yield from self._found([place], room)


def _brought(places: Iterable[Place], room: Path) -> Iterator[tuple[Place, Path | None]]:
    """What is to be judged, and where it lies if it had to be brought here."""
    for number, place in enumerate(places):
        if isinstance(place, Refused):
            yield place, None
        elif is_shard(place):
            yield from _members(place, room)
        elif is_remote(place):
            yield _fetched(place, room / str(number))
        else:
            yield place, None


def _fetched(address: str, folder: Path) -> tuple[Place, Path | None]:
    import fsspec

    try:
        with fsspec.open(address, "rb") as file:
            return address, _kept(file, folder, address)
    except Exception as error:
        # What an object store answers is not foreseeable, and one file must not stop a run of millions.
        told = f"the address cannot be read ({type(error).__name__}: {error}); check it and your rights"
        return Refused(address, "image", "unreadable", told), None


def _members(shard: str, room: Path) -> Iterator[tuple[Place, Path | None]]:
    """The files of a shard one after the other; what is plainly no input, as labels beside pictures, is left out."""
    import fsspec

    try:
        with fsspec.open(shard, "rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
            for number, member in enumerate(archive):
                file = archive.extractfile(member) if member.isfile() else None
                if file is None or formats.is_litter(member.name.rsplit("/", 1)[-1]):
                    continue
                name = f"{shard}/{member.name}"
                if member.size > MAX_BYTES:
                    told = f"the file has {member.size:,} bytes, the limit is {MAX_BYTES:,}; re-encode it smaller"
                    yield Refused(name, "image", "too_large", told), None
                    continue
                path = _kept(file, room / str(number), member.name)
                if formats.sniffed(path).plain:
                    path.unlink()
                else:
                    yield name, path
    except Exception as error:
        told = f"the shard cannot be read on ({type(error).__name__}: {error}); copy it again from its source"
        yield Refused(shard, "image", "truncated", told), None


def _kept(file: IO[bytes], folder: Path, name: str) -> Path:
    """A file's bytes under a name of our own; its suffix stays, for what is told of its format."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "".join(c for c in Path(name).suffix if c.isalnum() or c == ".")[:10]
    path = folder / f"input{suffix}"
    with open(path, "wb") as out:
        while block := file.read(1 << 20):
            out.write(block)
    return path


@dataclass
class Attempt:
    """A batch that a worker is at, as a file tells: if the worker dies, the next one reads it.

    Attributes:
        again: whether a worker died over this batch before.
        deaths: number of an input -> how often one died over it when inputs were judged one by one.
    """

    path: Path
    again: bool
    deaths: dict[str, int]

    @classmethod
    def of(cls, path: Path) -> Attempt:
        deaths: dict[str, int] = {}
        before = path.exists()
        if before:
            told = json.loads(path.read_text(encoding="utf-8"))
            deaths = told["deaths"]
            if told["at"] is not None:
                deaths[str(told["at"])] = deaths.get(str(told["at"]), 0) + 1
        attempt = cls(path, before, deaths)
        attempt.at(None)
        return attempt

    def at(self, number: int | None) -> None:
        """Note which input is next; None: all together."""
        write_text(self.path, json.dumps({"pid": os.getpid(), "at": number, "deaths": self.deaths}))

    def done(self) -> None:
        self.path.unlink(missing_ok=True)
