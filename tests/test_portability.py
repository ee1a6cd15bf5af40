"""What only some systems have is named here, with what the code does where it is missing."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from pixelsleuth.records import Finding
from pixelsleuth.reporting.writing import name_of
from tests.test_design import ROOT, modules

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios"}
CALLS = {
    "os.fork", "os.getuid", "os.geteuid", "os.kill", "os.killpg", "os.mkfifo", "os.nice", "os.rename", "os.setsid",
    "os.sched_getaffinity", "signal.SIGALRM", "signal.SIGKILL", "signal.SIGHUP", "signal.pause",
}  # fmt: skip
PLACES = ("/dev/", "/proc/", "/sys/", "/tmp")
#: File -> what it uses, and what happens elsewhere.
KNOWN = {
    # Memory: the peak since the program began on macOS, none on Windows; the processor's name by `platform`.
    "benchmark/machine.py": {"resource", "/proc/"},
    # Folders that a run holds; on Windows two runs into one folder are not told apart.
    "files.py": {"fcntl"},
    # A decoder of compressed DICOM is limited in time alone on Windows.
    "sources/scans/dicompixels.py": {"resource"},
    # Whether a CPU has bf16; elsewhere than on Linux training takes float32.
    "models/precision.py": {"/proc/"},
}


@cache
def nodes() -> list[tuple[str, list[ast.AST]]]:
    """File -> all that stands in it."""
    return [(path.relative_to(ROOT).as_posix(), list(ast.walk(tree))) for _, path, tree in modules()]


def used(found: list[ast.AST]) -> set[str]:
    names = set()
    for node in found:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module)} & MODULES
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names |= {f"{node.value.id}.{node.attr}"} & CALLS
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {place for place in PLACES if node.value.startswith(place)}
    return names


def test_what_only_some_systems_have_is_known() -> None:
    seen = {name: used(found) for name, found in nodes()}
    assert {name: what for name, what in seen.items() if what} == KNOWN


def test_where_it_is_missing_is_no_error() -> None:
    for name in KNOWN:
        found = dict(nodes())[name]
        asks = [t for t in found if isinstance(t, ast.Try) or (isinstance(t, ast.If) and "platform" in ast.unparse(t))]
        guarded = {n for t in asks for b in t.body for n in ast.walk(b)}
        for node in found:
            if isinstance(node, ast.Import) and {a.name for a in node.names} & MODULES:
                assert node in guarded, f"{name}: line {node.lineno} is imported on every system"


def test_text_is_utf8_whatever_the_system_writes() -> None:
    for path, found in nodes():
        for node in found:
            name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if name in ("read_text", "write_text"):
                text = ast.unparse(node)
                assert "utf-8" in text or "clear_refs" in text, f"{path}: {text}"


@pytest.mark.parametrize("name", ["con.jpg", "a:b?.png", 'quoted "x".jpg', "ende .jpg", "C:\\photos\\x.jpg"])
def test_names_of_written_files_are_names_on_every_system(name: str) -> None:
    written = name_of(Finding(name, None, "image", {}, "normal"), 3)
    assert written.startswith("000003_")
    assert not set(written) & set('<>:"/\\|?*')
    assert Path(written).name == written
