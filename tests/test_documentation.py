"""Every code block of README.md and docs/ runs, or is parsed against the real command line; the site builds and loads
nothing from elsewhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pixelsleuth import __version__
from pixelsleuth.cli import app
from pixelsleuth.demo import write_pictures
from pixelsleuth.records import RECORD_FIELDS
from tests.conftest import write_shapes
from tests.videofiles import face_frames, write_video
from tests.volumefiles import head, write

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Made from the program itself, of which other tests see to that.
GENERATED = {"cli.md", "bad-inputs.md"}
#: Commands that would not end, or that are parsed and not run wherever they stand.
ENDLESS = {"serve"}
#: Programs whose lines are looked at, not run: they fetch, install, or speak to a server.
LOOKED_AT = {"git", "cd", "make", "pip", "curl", "python", "docker", "jupyter", "mkdocs"}
FENCE = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text[: m.start("text")].count("\n"), m["language"], m["text"], m["reason"])
        for m in FENCE.finditer(text)
    ]
    # A fence that the pattern misses would never be run.
    assert text.count("\n```") == 2 * len(found), f"{page.name}: a fence is not closed, or is indented"
    return found


def calls_of(block: Block) -> Iterator[list[str]]:
    """The commands of a bash block, one list of words each."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        call: list[str] = []
        for word in [*words, "&&"]:
            if word == "&&":
                if call:
                    yield [call[0].removeprefix(".venv/bin/"), *call[1:]]
                call = []
            else:
                call.append(word)


@cache
def command_tree() -> Any:
    """The real command line whose commands do nothing."""

    def emptied(command: Any) -> None:
        for sub in getattr(command, "commands", {}).values():
            emptied(sub)
            if not getattr(sub, "commands", {}):
                sub.callback = lambda **_: None

    tree = typer.main.get_command(app)
    emptied(tree)
    return tree


def problem_of(words: list[str]) -> str:
    """What the command line has against these words after `pixelsleuth`; empty if nothing."""
    try:
        command_tree().main(words, prog_name="pixelsleuth", standalone_mode=False)
    except Exception as error:
        # Of which class depends on Typer's version.
        return f"pixelsleuth {shlex.join(words)}: {getattr(error, 'message', '') or error!r}"
    return ""


def test_every_command_has_an_example_that_parses() -> None:
    def leaves(command: Any) -> Iterator[Any]:
        below = list(getattr(command, "commands", {}).values())
        for sub in below:
            yield from leaves(sub)
        if not below:
            yield command

    found = [command.epilog or "" for command in leaves(typer.main.get_command(app))]
    assert len(found) > 20
    for example in found:
        assert example.startswith("Example: pixelsleuth ")
        assert problem_of(shlex.split(example)[2:]) == ""


def look_at(call: list[str], block: Block) -> None:
    """Checks what can be checked of a line that is not run."""
    program, *words = call
    assert program in LOOKED_AT, f"{block}: {program} is neither run nor known"
    if program == "make":
        rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert set(words) <= set(rules), f"{block}: make {words}, the Makefile has {rules}"
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(extras), f"{block}: no such extra: {extra}"
    if program == "python" and words and words[0].endswith(".py"):
        assert (ROOT / words[0]).is_file(), f"{block}: {words[0]} does not exist"


def run(call: list[str], block: Block) -> None:
    done = CliRunner().invoke(app, call[1:])
    assert done.exit_code == 0, f"{block}: {shlex.join(call)}\n{done.output}\n{done.exception!r}"


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory, heads: Path, shapes: Path, store: Path) -> Path:
    """What the pages' commands are about, small."""
    root = tmp_path_factory.mktemp("stand_ins")
    pictures = write_pictures(root / "photos")
    (root / "photo.jpg").write_bytes(pictures[1].read_bytes())
    (root / "suspect.jpg").write_bytes(pictures[1].read_bytes())
    (root / "original.jpg").write_bytes(pictures[0].read_bytes())
    write_video(root / "clip.mp4", face_frames(48))
    write(root / "patient.nii.gz", head(300, lesion=True)[0])
    write_shapes(root / "normals", 3, 3000)
    for fake in list(write_shapes(root / "fakes", 3, 4000, anomalous=True).iterdir()):
        (root / "masks").mkdir(exist_ok=True)
        (root / "masks" / fake.name).write_bytes((shapes / "test/masks" / fake.name).read_bytes())
    (root / "real").symlink_to(root / "normals")
    (root / "fake").symlink_to(root / "fakes")
    rows = [f"{4000 + i:05d}.png,{3000 + i:05d}.png" for i in range(3)]
    (root / "pairs.csv").write_text("\n".join(["fake,real", *rows]) + "\n")
    write_shapes(root / "my_photos/train", 8, 0)
    (root / "more_photos.h5").write_bytes(store.read_bytes())
    (root / "scans").mkdir()
    for name, source, most in (("train", "train", 2), ("calib", "calib", 2), ("val", "healthy", 2)):
        (root / "scans" / name).mkdir()
        for path in sorted((heads / source).iterdir())[:most]:
            (root / "scans" / name / path.name).write_bytes(path.read_bytes())
    (root / "test").symlink_to(heads / "sick")
    return root


def test_the_blocks_of_every_page(
    page: Path,
    stand_ins: Path,
    model_folder: Path,
    scans_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for item in stand_ins.iterdir():
        (tmp_path / item.name).symlink_to(item)
    own = scans_model if page.name == "medical.md" else model_folder
    # Copied, for `calibrate` writes into it.
    (tmp_path / "my_model").mkdir()
    for item in own.iterdir():
        if item.is_file():
            (tmp_path / "my_model" / item.name).write_bytes(item.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks_of(page):
        if block.language == "bash":
            for call in calls_of(block):
                if call[0] != "pixelsleuth":
                    look_at(call, block)
                    continue
                problem = problem_of(call[1:])
                assert not problem, f"{block}: {problem}"
                if block.reason is None and call[1] not in ENDLESS:
                    run(call, block)
        elif block.language == "python":
            code = compile(block.text, str(block), "exec")
            if block.reason is None:
                exec(code, names)
        elif block.language == "json":
            assert set(json.loads(block.text)) <= set(RECORD_FIELDS), f"{block}: not a record"
        elif block.language == "bibtex":
            assert f"version = {{{__version__}}}" in block.text
        elif block.language == "text":
            assert page.name in GENERATED, f"{block}: a block of plain text outside a generated page"
        else:
            # CONTRIBUTING's tree: what it names exists.
            assert block.language == "", f"{block}: {block.language} blocks are not looked at"
            for name in re.findall(r"^(?:  )?([\w./]+)(?=  )", block.text, re.M):
                assert any((ROOT / base / name).exists() for base in ("", "src/pixelsleuth")), f"{block}: {name}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=lambda path: path.name)


def options_of(command: Any) -> set[str]:
    """Every option of a command; of a group also its commands': `figures KIND --out FILE`."""
    own = {name for item in command.params for name in (*item.opts, *item.secondary_opts)} | {"--help"}
    return own.union(*(options_of(sub) for sub in getattr(command, "commands", {}).values()))


def test_a_wrong_option_is_seen() -> None:
    assert not problem_of(["detect", "photo.jpg", "--max-false-alarm", "0.05"])
    assert "--max-false-alarms" in problem_of(["detect", "photo.jpg", "--max-false-alarms", "0.05"])
    assert problem_of(["prepare", "pictures", "a", "b"])
    assert problem_of(["detect", "photo.jpg", "--max-false-alarm", "much"])


def test_options_named_within_the_text_exist(page: Path) -> None:
    """`pixelsleuth evaluate --normal ...`, as it stands in a sentence or a table."""
    if page.name in GENERATED:
        return
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for call in re.findall(r"`(?:\.venv/bin/)?pixelsleuth ([^`]+)`", text):
        command = typer.main.get_command(app)
        for word in call.replace("\\|", "|").split():
            if word not in getattr(command, "commands", {}):
                break
            command = command.commands[word]
        used = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", call))
        assert used <= options_of(command), f"{page.name}: pixelsleuth {call}: {used - options_of(command)}"


def test_the_citation_says_what_the_package_says() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["version"] == __version__
    assert "version" in package["dynamic"], "the package's version stands in pixelsleuth/__init__.py alone"
    assert cited["license"] == package["license"]
    assert cited["authors"] == [{"name": name["name"]} for name in package["authors"]]
    page = (ROOT / "docs/cite.md").read_text(encoding="utf-8")
    for work in (cited, *cited["references"]):
        plain = page.replace("{", "").replace("}", "")
        assert work["title"] in plain, work["title"]


# --- the site ---


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: warnings that are not shown do not count as failures.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


class _Loads(HTMLParser):
    """What a page fetches when it is opened, unlike what a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in ("next", "prev", "canonical"):
            self.found.append(given.get("href") or "")
        if tag not in ("a", "link"):
            self.found += [given[name] or "" for name in ("src", "srcset", "data", "poster") if name in given]


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 12
    for page in pages:
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert any(name.endswith(".css") for name in loads.found)
        outside = [name for name in loads.found if re.match(r"(?:\w+:)?//", name)]
        assert not outside, f"{page.name} loads {outside}"
        # What Material would fetch a drawing program for.
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8")
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_equations_are_set_without_a_script(site: Path) -> None:
    text = (site / "method.html").read_text(encoding="utf-8")
    assert text.count("<math ") > 30
    assert "arithmatex" not in text


def test_the_reference_shows_docstrings(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("pixelsleuth.detector.Detector.detect", "pixelsleuth.records.Finding"):
        assert f'id="{name}"' in text, name
    exported = ast.literal_eval(
        re.search(r"__all__ = (\[.*?\])", (ROOT / "src/pixelsleuth/__init__.py").read_text(encoding="utf-8"))[1]
    )
    assert all(name in text for name in exported if not name.startswith("__"))
