"""Write files and folders atomically, by one process at a time."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixelsleuth.errors import PixelsleuthError

if sys.platform != "win32":
    import fcntl

#: What a full disk, a full quota and a limit on the size of files are called.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: The same where a library tells it in words of its own: HDF5, safetensors, torch, NumPy.
_FULL_WORDS = re.compile(
    r"No space left on device|File too large|StorageFull|FileTooLarge|PytorchStreamWriter failed"
    r"|\d+ requested and \d+ written"
)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which takes its name only when the block ends well.

    Raises:
        PixelsleuthError: its folder cannot be made, or not be written into, or `path` is a folder.
    """
    path = Path(path)
    check_file(path)
    # The suffix stays: writers such as Pillow and h5py choose the format by it.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which takes its name only when the block ends well.

    Raises:
        PixelsleuthError: there is something at `path` already, or another process is making it.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with claimed(partial):
        try:
            if path.exists() and not (path.is_dir() and not any(path.iterdir())):
                raise PixelsleuthError(f"{path} exists already; name a folder that is not there yet")
            # What a process left that was killed.
            for left in partial.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield partial
            if path.exists():
                path.rmdir()
            os.replace(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Make a folder where it is not there. Raises PixelsleuthError where it cannot be made, or not be written into: a
    command tells that before it works for hours."""
    told = f"expected a folder to write into, got {os.fspath(folder)!r}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        if disk_is_full(error):
            raise
        why = getattr(error, "strerror", None) or error
        raise PixelsleuthError(f"{told}, which cannot be made ({why}); name another place") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PixelsleuthError(f"{told}, which must not be written into; check its permissions")


def check_file(path: Path) -> None:
    """Make a file's folder where it is not there. Raises PixelsleuthError where it cannot be made, or not be written
    into, or where a folder has the file's name."""
    check_writable(path.parent)
    if path.is_dir():
        raise PixelsleuthError(f"expected a file to write, got {os.fspath(path)!r}, a folder; name another place")


def clear_partials(folder: Path, name: str = "") -> None:
    """Take away what processes left half written below a folder when they were killed, or directly in it what would
    have become the file `name`. Only for who has claimed the place."""
    stem, suffix = (glob.escape(part) for part in os.path.splitext(name))
    pattern = f".{stem}.*.partial{suffix}" if name else "**/.*.partial*"
    for left in list(folder.glob(pattern)):
        if left.is_file():
            left.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone while the block runs; made where it is not there. The lock is the system's
    and ends with the process, however that ends: no file is left behind. What killed processes left half written in the
    folder is taken away.

    Raises:
        PixelsleuthError: another process holds it, or it is no folder that can be written into.
    """
    handle = -1
    try:
        while True:
            check_writable(folder)
            if sys.platform == "win32":
                # Folders cannot be held there: that nobody else writes is for the user to see to.
                break
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise PixelsleuthError(
                    f"{folder}: another process is writing into it; wait until it has ended, or name another place"
                ) from error
            except OSError:
                # A file system without locks: nothing can be promised there.
                break
            if folder.is_dir() and os.path.samestat(os.fstat(handle), os.stat(folder)):
                break
            # Whoever held it before has taken the folder away in the meantime.
            os.close(handle)
            handle = -1
        clear_partials(folder)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or what it came from, says that there is no room left to write."""
    found: BaseException | None = error
    while found is not None:
        if (isinstance(found, OSError) and found.errno in _FULL) or _FULL_WORDS.search(str(found)):
            return True
        found = found.__cause__ or found.__context__
    return False


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all; bytes of a file's name that are no text are escaped."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )
