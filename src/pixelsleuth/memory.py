"""Keep memory that was freed for what is allocated next.

Networks on a CPU allocate and free tensors of some 100 MB several times a picture. By default glibc hands each back to
the system at once, which then has to clear every page of the next one (docs/results/speed.md says what that costs).
"""

from __future__ import annotations

import ctypes
import sys

#: Of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes: blocks up to this size come from the process's own memory, and so much of it may lie free.
KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc to keep up to `KEPT` bytes of freed memory; for the whole process, so it is left to programs.

    Returns:
        Whether it took effect: not with another C library, nor with an older glibc, which allows 32 MB at most.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, KEPT) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
