"""Fuzzes the readers: inputs mutated from real files, in processes of their own with limits on memory and time.

Whatever a reader makes of an input, it must be a picture, a video or a volume, or an `InputError` of one line. Counted
are other exceptions, crashes of the process, hangs and memory beyond the limit; the inputs that caused them are kept.
Readers also speak of memory where a header names sizes that cannot be: what such an input takes is weighed without the
limit, in a process of its own.

python experiments/benchmarks/fuzz_readers.py --reader images --count 20000 [--shared ../shared/inputs] \
    [--keep DIR] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

READERS = ("images", "videos", "volumes")
#: Bytes of address space, on top of what the process has once its libraries are loaded.
MEMORY = 2_500_000_000
#: Seconds that one input may take.
TIMEOUT_SECONDS = 20.0
#: Inputs that one process reads before it is replaced.
TURN = 2000
#: Values that parsers stumble over.
ODD = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


# --- what is fuzzed ---


def seeds(reader: str, folder: Path, shared: Path | None) -> list[Path]:
    """Real files of a reader, made now, and the shared ones."""
    if reader == "images":
        from tests.badfiles import BAD, write_bad_files

        write_bad_files(folder)
        for name in BAD:
            # What is refused by its first bytes would only be refused again.
            if not (folder / name).is_dir():
                (folder / name).unlink(missing_ok=True)
    elif reader == "videos":
        from tests.videofiles import face_frames, write_video

        frames = face_frames(6, 64)
        for suffix in ("mp4", "mov", "mkv", "avi", "ts", "flv"):
            write_video(folder / f"made.{suffix}", frames)
        write_video(folder / "turned.mp4", frames, rotation=90)
        write_video(folder / "uneven.mp4", frames, times=[0, 0.1, 0.12, 0.3, 0.5, 0.51])
    else:
        _volumes(folder)
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and 0 < path.stat().st_size < 300_000]
    if shared is not None:
        found += [p for p in sorted((shared / reader).rglob("*")) if p.is_file() and p.stat().st_size < 300_000]
    return found


def _volumes(folder: Path) -> None:
    import gzip

    import nibabel
    from tests.volumefiles import LPS, bad_volumes, head

    values = head(1, (20, 24, 6))[0]
    for kind, name in (
        (nibabel.Nifti1Image, "a.nii"), (nibabel.Nifti2Image, "b.nii"), (nibabel.MGHImage, "c.mgh"),
    ):  # fmt: skip
        image = kind(values.astype(np.float32), LPS)
        nibabel.save(image, folder / name)
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    bad_volumes(folder / "bad")
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 20 24 6\nencoding: raw\nendian: little\n"
    header += "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    (folder / "d.nrrd").write_bytes(header.encode() + values.astype(np.int16).tobytes(order="F"))
    try:
        from tests.dicomfiles import How, packed_by_simpleitk, write_enhanced, write_series
    except ImportError:
        return
    write_series(folder / "series", values)
    write_enhanced(folder / "all.dcm", values, range(values.shape[2]))
    for kind in ("JPEG", "JPEG2000"):
        packed_by_simpleitk(write_enhanced(folder / f"{kind}.dcm", values, range(values.shape[2]), How(bits=16)), kind)


def mutated(data: bytes, other: bytes, generator: np.random.Generator) -> bytes:
    """One change or some: bits and words set, parts cut out, repeated, swapped, or taken from another file."""
    made = bytearray(data)
    for _ in range(min(8, int(generator.geometric(0.45)))):
        if not made:
            break
        # Headers hold what matters: half of the changes fall into the first kilobyte.
        reach = len(made) if generator.random() < 0.5 else min(len(made), 1024)
        at = int(generator.integers(reach))
        way = int(generator.integers(9))
        length = int(2 ** generator.uniform(0, 12))
        if way == 0:
            made[at] ^= 1 << int(generator.integers(8))
        elif way == 1:
            made[at] = int(generator.integers(256))
        elif way in (2, 3):
            word = ODD[int(generator.integers(len(ODD)))]
            order = ">" if generator.random() < 0.5 else "<"
            size, code = ((2, "H"), (4, "I"))[int(generator.integers(2))]
            made[at : at + size] = struct.pack(order + code, word & (2 ** (8 * size) - 1))
        elif way == 4:
            del made[at : at + length]
        elif way == 5:
            made[at:at] = made[at : at + length]
        elif way == 6:
            first = int(generator.integers(max(1, len(other))))
            made[at : at + length] = other[first : first + length]
        elif way == 7:
            made = made[: max(1, at)]
        else:
            word = int.from_bytes(made[at : at + 4], "big") + int(generator.integers(-3, 4))
            made[at : at + 4] = struct.pack(">I", word % 2**32)
    return bytes(made)


def placed(folder: Path, source: Path, content: bytes) -> Path:
    """Writes a mutated file and says what is to be read. A slice lies among the others of its series, and their folder
    is read; the folder has a name of its own, for readers may remember by name."""
    folder.mkdir()
    series = sorted(source.parent.glob("*.dcm"))
    path = folder / source.name
    if len(series) < 3 or source not in series:
        path.write_bytes(content)
        return path
    for other in series:
        shutil.copyfile(other, folder / other.name)
    path.write_bytes(content)
    return folder


# --- the process that reads ---


def reader_of(name: str) -> Callable[[Path], Any]:
    if name == "images":
        from pixelsleuth.sources.images import read_picture

        return read_picture
    if name == "videos":
        from pixelsleuth.sources.videos import frames_at, open_video

        def some_frames(path: Path) -> Any:
            video = open_video(path)
            wanted = sorted({0, len(video) // 2, len(video) - 1})
            return [frame.pixels.shape for frame in frames_at(video, wanted)]

        return some_frames
    from pixelsleuth.sources.scans.volumes import read_volume

    return read_volume


def work(name: str) -> None:
    """Reads the paths on standard input, one a line; answers a line each."""
    from pixelsleuth.errors import InputError, PixelsleuthError

    read = reader_of(name)
    warm = Path(sys.stdin.readline().strip())
    for path in sorted(warm.iterdir()):
        # Libraries are loaded before the limit is set.
        try:
            read(path)
        except PixelsleuthError:
            pass
        except Exception as error:
            print(f"on a file as made: {path.name}: {error!r}", file=sys.stderr)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            read(Path(line.rstrip("\n")))
            told = "read"
        except InputError as error:
            told = f"refused {error.code}"
            if "\n" in error.sentence or len(error.sentence) > 600:
                told = f"wrong sentence {error.code}: {error.sentence[:80]!r}"
            elif "memory" in error.sentence or "promises more" in error.sentence:
                told = f"out of memory, refused {error.code}"
        except BaseException as error:
            told = f"raised {type(error).__name__}: {str(error)[:160]!r}"
        print(told.replace("\n", " "), flush=True)


def weighed(reader: str, path: Path) -> int:
    """Bytes that the process of a reader takes at most for one input."""
    command = [sys.executable, __file__, "--work", reader, "--weigh", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10 * TIMEOUT_SECONDS)
    return int(done.stdout)


def weigh(reader: str, path: Path) -> None:
    from pixelsleuth.errors import InputError

    read = reader_of(reader)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(InputError):
        read(path)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


class Worker:
    """A process that reads, replaced after `TURN` inputs, a crash or a hang."""

    def __init__(self, reader: str, warm: Path) -> None:
        self.reader, self.warm = reader, warm
        self.process: subprocess.Popen[bytes] | None = None
        self.read = 0

    def start(self) -> None:
        self.stop()
        command = [sys.executable, __file__, "--work", self.reader]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.read = 0
        answer = self._asked(str(self.warm), 180)
        assert answer == "ready", answer

    def stop(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ask(self, path: Path) -> str:
        """What came of one file: the worker's answer, `hang`, or `crash` with its signal."""
        if self.process is None or self.read >= TURN:
            self.start()
        self.read += 1
        answer = self._asked(str(path), TIMEOUT_SECONDS)
        if answer in ("hang",) or answer.startswith("crash"):
            self.stop()
        return answer

    def _asked(self, text: str, seconds: float) -> str:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return f"crash {self.process.wait()}"
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            return "hang"
        line = self.process.stdout.readline()
        return line.decode().strip() if line else f"crash {self.process.wait()}"


# --- the run ---


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reader", choices=READERS, action="append")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", choices=READERS)
    parser.add_argument("--weigh", type=Path)
    options = parser.parse_args()
    if options.weigh:
        weigh(options.work, options.weigh)
        return
    if options.work:
        work(options.work)
        return
    failed = False
    for reader in options.reader or READERS:
        failed |= fuzz(reader, options.count, options.shared, options.keep, options.seed)
    sys.exit(failed)


def fuzz(reader: str, count: int, shared: Path | None, keep: Path, seed: int) -> bool:
    """Prints a line of counts; True where anything was found."""
    generator = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        folder, warm = Path(made) / "seeds", Path(made) / "warm"
        folder.mkdir()
        sources = seeds(reader, folder, shared)
        data = [path.read_bytes() for path in sources]
        warm.mkdir()
        for number, path in enumerate(sources):
            shutil.copyfile(path, warm / f"{number:03d}_{path.name}")
        worker = Worker(reader, warm)
        for number in range(count):
            which, other = generator.integers(len(sources), size=2)
            content = mutated(data[which], data[other], generator)
            path = placed(Path(made) / str(number), sources[which], content)
            answer = worker.ask(path)
            kind = answer.split(" ")[0]
            if kind == "out" and weighed(reader, path) <= MEMORY:
                kind, answer = "refused", answer.removeprefix("out of memory, ")
            shutil.rmtree(Path(made) / str(number))
            counts[kind] += 1
            if kind == "refused":
                codes[answer.split(" ")[1]] += 1
            if kind in ("crash", "hang", "raised", "wrong", "out"):
                keep.mkdir(parents=True, exist_ok=True)
                name = f"{reader}_{seed}_{number}_{sources[which].name}"
                (keep / name).write_bytes(content)
                found.append({"file": name, "answer": answer})
                print(json.dumps(found[-1]), flush=True)
            if (number + 1) % 5000 == 0:
                print(f"{reader}: {number + 1:,} inputs, {dict(counts)}", flush=True)
        worker.stop()
    seconds = time.perf_counter() - began
    named = {
        "crash": "crashes",
        "hang": "hangs",
        "raised": "other exceptions",
        "wrong": "wrong sentences",
        "out": "over memory",
    }
    told = ", ".join(f"{named[k]} {counts[k]}" for k in named)
    print(f"{reader}: {count:,} inputs of {len(sources)} files in {seconds:.0f} s: read {counts['read']:,}, refused "
          f"{counts['refused']:,} ({', '.join(f'{k} {v}' for k, v in codes.most_common(8))}); {told}")  # fmt: skip
    return bool(found)


if __name__ == "__main__":
    main()
