"""Freed memory is kept for what is allocated next."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pixelsleuth.memory import keep_freed_memory

FAULTS = """
import resource, sys
from pixelsleuth.memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    # Not numpy, which asks for huge pages: of these a fault clears 512.
    bytearray(b"1") * 64_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    # Where the environment tells glibc already, "as it is" would be kept, too.
    told = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    ran = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=False, env=told)
    if ran.returncode == 3:
        pytest.skip("the C library does not take it")
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
def test_the_pages_of_a_freed_array_are_not_cleared_again() -> None:
    # Twenty arrays in the room of one.
    assert faults("kept") < faults("as it is") / 8


def test_another_system_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
