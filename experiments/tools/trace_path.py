"""The shape of the house, counted: what one image, one video and one volume pass through, and what the code is made of.

    python experiments/tools/trace_path.py                      # this checkout
    python experiments/tools/trace_path.py ../before --json before.json   # another one, by the same definitions

Each checkout is traced in a process of its own, by `sys.setprofile` in every thread. Counted are named functions of the
package that `Detector.detect` calls, once each however often they are called, and the files they stand in; lambdas,
comprehensions and generator expressions belong to the function around them, and so do the `forward`s of networks and
what a model is loaded by. *Depth* is how many of them stand on each other at most, in any one thread.

A place that *asks which kind* is a line whose condition (of `if`, `while`, `assert`, `a if b else c`, a filter of a
comprehension, or any comparison) compares with the name of a kind of input ("image", "video", "volume", their plurals,
or "slice"), or tests something that only one kind has or is (`MARKS`).
"""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

#: Names of the kinds of inputs in comparisons.
KINDS = {"image", "images", "video", "videos", "volume", "volumes", "slice"}
#: What only one kind has, or is asked by: a condition that names one asks which kind it is.
MARKS = {
    "holds_volumes", "is_volume", "scanner", "Volume", "Video", "volume", "video", "volumes", "slices", "position",
    "inside", "scalars", "affine", "atlas", "surroundings", "of_volumes", "of_slices", "of_scans",
}  # fmt: skip
ROOT = Path(__file__).parents[2]


# --- the path ---


def trace(checkout: Path) -> dict[str, Any]:
    """`path`: functions on the path of each kind of input, as `file:function`, and `depth`; runs in the process of the
    checkout itself."""
    sys.path.insert(0, str(checkout / "src"))
    sys.path.insert(1, str(checkout))
    import numpy as np
    import torch
    from PIL import Image
    from skimage.data import astronaut

    import pixelsleuth
    from pixelsleuth import Detector

    package = os.path.realpath(os.path.dirname(pixelsleuth.__file__)) + os.sep
    assert package.startswith(str(checkout)), f"traced {package}, expected {checkout}"
    torch.set_num_threads(1)
    faces, scans = Detector.load("faces"), Detector.load("brain_t1")
    found: dict[str, list[str]] = {}
    depths: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        photo, clip, scan = (Path(folder) / name for name in ("photo.jpg", "clip.mp4", "head.nii.gz"))
        Image.fromarray(astronaut()).save(photo, quality=95)
        _write_clip(clip, astronaut())
        _write_volume(scan, np.random.default_rng(0))
        for name, detector, source in (("image", faces, photo), ("video", faces, clip), ("volume", scans, scan)):
            seen: Counter[tuple[str, str]] = Counter()
            stacks: Counter[int] = Counter()
            deepest: Counter[int] = Counter()

            def watch(
                frame: FrameType, event: str, argument: Any, seen: Counter[tuple[str, str]] = seen,
                stacks: Counter[int] = stacks, deepest: Counter[int] = deepest,
            ) -> None:  # fmt: skip
                code, thread = frame.f_code, threading.get_ident()
                if not code.co_filename.startswith(package) or code.co_name.startswith("<"):
                    return
                name = getattr(code, "co_qualname", code.co_name).replace(".<locals>", "")
                if code.co_filename.startswith(package + "models") and name.endswith("forward"):
                    return
                if event == "call":
                    seen[os.path.relpath(code.co_filename, package), name] += 1
                    stacks[thread] += 1
                    deepest[thread] = max(deepest[thread], stacks[thread])
                elif event == "return":
                    stacks[thread] -= 1

            known = inspect.signature(detector.detect_many).parameters
            threading.setprofile(watch)
            sys.setprofile(watch)
            # Later checkouts refuse this made-up head, which is prepared like no scan, unless they are told not to.
            if name == "volume" and "typicality" in known:
                (finding,) = detector.detect_many([source], max_false_alarm=0.1, typicality=False)
            else:
                finding = detector.detect(source, max_false_alarm=0.1)
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            assert finding.p_value is not None, f"{name}: {finding.reason}"
            found[name] = sorted(f"{file}:{function}" for file, function in seen)
            depths[name] = max(deepest.values())
    return {"path": found, "depth": depths}


def _write_clip(path: Path, pixels: Any) -> None:
    """Twelve frames of one image, moved by a pixel each."""
    import av
    import numpy as np

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "yuv420p"
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(pixels, number, 1)), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _write_volume(path: Path, generator: Any) -> None:
    """An ellipsoid of grey noise in a box of 64 voxels of 3 mm."""
    import nibabel
    import numpy as np

    axes = np.meshgrid(*[np.linspace(-1, 1, 64)] * 3, indexing="ij")
    inside = sum((a / r) ** 2 for a, r in zip(axes, (0.7, 0.85, 0.7), strict=True)) < 1
    values = np.where(inside, 100 + generator.normal(0, 10, inside.shape), 0).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([3, 3, 3, 1])), path)


# --- the text ---


def measure(package: Path) -> dict[str, Any]:
    """What a package's files are made of."""
    lines: Counter[str] = Counter()
    asks: dict[str, list[int]] = {}
    found: Counter[str] = Counter()
    longest = []
    for path in sorted(package.rglob("*.py")):
        text, file = path.read_text(encoding="utf-8"), path.relative_to(package)
        tree = ast.parse(text)
        room = file.parts[0] if len(file.parts) > 1 else "(top)"
        lines[room] += len(text.splitlines())
        found["files"] += 1
        found["lines"] += len(text.splitlines())
        found["files over 450 lines"] += len(text.splitlines()) > 450
        found["# fmt: skip"] += _comments(text)
        asked = sorted(asking(tree))
        if asked:
            asks[str(file)] = asked
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found["classes"] += 1
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found["functions"] += 1
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > 60:
                    longest.append((length, f"{file}:{node.name}"))
            elif isinstance(node, ast.Name) and node.id == "Any":
                found["Any"] += 1
    return {
        "rooms": dict(lines), **found, "asks": asks, "asking lines": sum(map(len, asks.values())),
        "asking files": len(asks), "over 60 lines": [f"{n} {what}" for n, what in sorted(longest, reverse=True)],
        "complex": _complex(package),
    }  # fmt: skip


def _comments(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT and token.string.startswith("# fmt: skip") for token in tokens)


def _complex(package: Path) -> int:
    """Functions of more than 15 paths, whatever the checkout's own settings allow."""
    call = ["ruff", "check", "--isolated", "--select", "C901", "--config", "lint.mccabe.max-complexity=15",
            "--output-format", "json", str(package)]  # fmt: skip
    call[0] = str(Path(sys.executable).with_name("ruff"))
    return len(json.loads(subprocess.run(call, capture_output=True, text=True, check=False).stdout))


def asking(tree: ast.AST) -> set[int]:
    """Lines that ask which kind of input there is, see the module's text."""
    found = set()
    for condition in _conditions(tree):
        for node in ast.walk(condition):
            if isinstance(node, ast.Compare) and any(_names_kind(part) for part in (node.left, *node.comparators)):
                found.add(node.lineno)
    for condition in _tests(tree):
        for node in ast.walk(condition):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            if name in MARKS and _is_test(condition, node):
                found.add(node.lineno)
    return found


def _conditions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield node
        elif isinstance(node, ast.Match):
            for case in node.cases:
                yield ast.Compare(node.subject, [], [p.value for p in ast.walk(case) if isinstance(p, ast.MatchValue)],
                                  lineno=case.pattern.lineno)  # fmt: skip


def _tests(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
            yield node.test
        elif isinstance(node, ast.comprehension):
            yield from node.ifs


def _names_kind(node: ast.AST) -> bool:
    """Whether one side of a comparison is the name of a kind, or a collection of them."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(_names_kind(element) for element in node.elts)
    return isinstance(node, ast.Constant) and node.value in KINDS


def _is_test(condition: ast.AST, mark: ast.AST) -> bool:
    """Whether the condition hangs on what the mark is: its truth, whether it is None, or its type; not on what a call
    or an index makes of it."""
    if condition is mark:
        return True
    if isinstance(condition, ast.BoolOp):
        return any(_is_test(value, mark) for value in condition.values)
    if isinstance(condition, ast.UnaryOp):
        return _is_test(condition.operand, mark)
    if isinstance(condition, ast.Compare):
        sides = (condition.left, *condition.comparators)
        return mark in sides and any(isinstance(side, ast.Constant) and side.value is None for side in sides)
    called = condition.func if isinstance(condition, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "isinstance" and mark in ast.walk(condition)


# --- the table ---


def examined(checkout: Path) -> dict[str, Any]:
    """Both, of one checkout; the path in a process of its own."""
    call = [sys.executable, str(Path(__file__).resolve()), str(checkout), "--trace-only"]
    done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=checkout)
    return {**json.loads(done.stdout), **measure(checkout / "src/pixelsleuth")}


def rows_of(found: dict[str, Any]) -> dict[str, str]:
    rows = {}
    for kind, functions in found["path"].items():
        files = {name.split(":")[0] for name in functions}
        rows[f"path of one {kind}: functions, files, depth"] = (
            f"{len(functions)} in {len(files)}, {found['depth'][kind]}"
        )
    rows["lines that ask which kind, files"] = f"{found['asking lines']} in {found['asking files']}"
    for name in ("files", "files over 450 lines", "classes", "functions", "Any", "# fmt: skip"):
        rows[name] = f"{found.get(name, 0):,}"
    rows["functions over 60 lines"] = str(len(found["over 60 lines"]))
    rows["complexity over 15"] = str(found["complex"])
    rows["lines"] = f"{found['lines']:,}"
    for room, count in sorted(found["rooms"].items(), key=lambda item: -item[1]):
        rows[f"lines of {room}"] = f"{count:,}"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT])
    parser.add_argument("--json", type=Path, help="also write all that was found, with the names of functions")
    parser.add_argument("--trace-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    checkouts = [path.resolve() for path in options.checkouts]
    if options.trace_only:
        print(json.dumps(trace(checkouts[0])))
        return
    found = {str(path): examined(path) for path in checkouts}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    tables = [rows_of(one) for one in found.values()]
    names = list(dict.fromkeys(name for table in tables for name in table))
    print("| | " + " | ".join(path.name for path in checkouts) + " |")
    print("| --- |" + " --- |" * len(tables))
    for name in names:
        print(f"| {name} | " + " | ".join(table.get(name, "-") for table in tables) + " |")


if __name__ == "__main__":
    main()
