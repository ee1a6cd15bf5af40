"""What the code may not do: import upwards, unpickle, call a shell."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pixelsleuth
from pixelsleuth.cli import _one_line
from pixelsleuth.errors import PixelsleuthError

ROOT = Path(pixelsleuth.__file__).parent
#: A room may import from those before it.
ORDER = (
    "language",
    "memory",
    "records",
    "progress",
    "errors",
    "files",
    "sources",
    "synthesis",
    "datasets",
    "evidence",
    "models",
    "scoring",
    "training",
    "findings",
    "folders",
    "detector",
    "walkthrough",
    "mood",
    "baselines",
    "evaluation",
    "reporting",
    "cluster",
    "hub",
    "demo",
    "export",
    "benchmark",
    "web",
    "commands",
    "cli",
    "__main__",
)


@cache
def modules() -> list[tuple[str, Path, ast.Module]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        room = relative.parts[0].removesuffix(".py")
        if relative.name != "__init__.py" or len(relative.parts) > 1:
            found.append((room, path, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_imports_go_only_downward() -> None:
    seen = 0
    for room, path, tree in modules():
        assert room in ORDER, f"{path} stands in a room without a place in the order"
        for name in imported(tree):
            if name.startswith("pixelsleuth."):
                other = name.split(".")[1]
                assert ORDER.index(other) <= ORDER.index(room), f"{path} imports {name}"
                seen += 1
    assert seen > 50


def test_heavy_or_forbidden_imports() -> None:
    for room, path, tree in modules():
        names = {name.split(".")[0] for name in imported(tree)}
        # A decoder of compressed DICOM may crash, so that one room starts Python itself, with no path of a user's.
        alone = {"subprocess"} if path.name == "dicompixels.py" else set()
        assert not names & ({"pickle", "joblib", "torchvision", "subprocess", "shelve", "marshal"} - alone), path
        if room in ("sources", "synthesis", "datasets"):
            assert "torch" not in names, path


def test_reporting_draws_and_computes_nothing() -> None:
    """It gets what it draws: no network runs there, no image is scored, no prior drawn from."""
    computing = ("torch", "pixelsleuth.models.", "pixelsleuth.scoring.networks", "pixelsleuth.scoring.trace")
    for room, path, tree in modules():
        # The model card is made of the model's files, the report of what the detector says of itself.
        if room == "reporting" and path.name not in ("card.py", "report.py"):
            wrong = {name for name in imported(tree) if name.startswith(computing) or name == "pixelsleuth.detector"}
            assert not wrong, (path, wrong)


def test_nothing_is_unpickled_and_no_shell_is_called() -> None:
    for _, path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            words = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
            if call == "torch.load":
                assert words.get("weights_only") == "True", path
            if call == "np.load":
                assert words.get("allow_pickle") == "False", path
            assert call not in ("os.system", "os.popen", "eval", "exec", "yaml.load"), path
            assert words.get("shell") != "True", path


def test_only_the_command_line_speaks_of_its_options() -> None:
    """A library names its arguments in errors; `cli.main` says them as options."""
    for room, path, tree in modules():
        if room in ("cli", "commands", "web"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise):
                texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                allowed = path.name in ("calibration.py", "backbone.py", "dicom.py")
                assert allowed or not any(re.search(r"(^|\s|`)--[a-z]", text) for text in texts), (path, texts)


def test_an_error_of_a_setting_is_an_options_on_the_command_line() -> None:
    error = PixelsleuthError("expected a folder, got a file", "max_false_alarm")
    assert str(error) == "max_false_alarm: expected a folder, got a file"
    assert _one_line(error) == "--max-false-alarm: expected a folder, got a file"


def heads() -> dict[str, set[str]]:
    """Module -> names that are imported at its head."""
    found: dict[str, set[str]] = {}
    for _, path, tree in modules():
        name = ".".join(("pixelsleuth", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        of_head = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        also = {
            f"{node.module}.{alias.name}" for node in of_head.body if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }  # fmt: skip
        found[name] = imported(of_head) | also
    return found


def with_theirs(names: tuple[str, ...]) -> dict[str, set[str]]:
    """`heads` of these modules and of all that they import at their heads."""
    all_heads, seen = heads(), dict[str, set[str]]()
    waiting = [f"pixelsleuth.{name}" for name in names]
    while waiting:
        name = waiting.pop()
        if name in all_heads and name not in seen:
            seen[name] = all_heads[name]
            waiting += seen[name]
    return seen


def test_training_asks_once_what_a_store_holds() -> None:
    """What differs between images and scans is a field of their regimes, not another question."""
    places = [
        path.name for room, path, tree in modules() if room in ("training", "commands") for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "holds_volumes"
    ]  # fmt: skip
    assert places == ["regimes.py"]


def test_judging_and_reporting_need_no_torch() -> None:
    """What is imported at the head of a module, and of what that imports; torch is loaded where networks run on it."""
    seen = with_theirs(("cli", "detector", "reporting.report", "scoring.graphs", "mood"))
    for name, names in seen.items():
        assert not {other.split(".")[0] for other in names} & {"torch", "lightning"}, name
    assert len(seen) > 60


def test_judging_waits_for_no_figure_and_no_statistics() -> None:
    """They would take as long to import as an image to judge: a third of what one image costs from start to end."""
    seen = with_theirs(("cli", "commands.detect", "detector", "scoring.networks", "reporting.writing"))
    for name, names in seen.items():
        late = {other for other in names if other.startswith(("matplotlib", "jinja2", "scipy.stats"))}
        assert not late, (name, late)
    assert len(seen) > 50
    figures = {other.split(".")[0] for names in with_theirs(("reporting.report",)).values() for other in names}
    assert "jinja2" in figures
    pages = with_theirs(("reporting.report", "web.app"))
    assert not [name for name, names in pages.items() if "matplotlib.figure" in names]
