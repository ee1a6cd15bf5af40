"""What is left when a process is killed, when two write to one place, when no room is left, and of a model folder that
was tampered with. experiments/benchmarks/kills.py does the same over every command, fifty times."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pixelsleuth import cli
from pixelsleuth.detector import Detector
from pixelsleuth.errors import ModelError, PixelsleuthError
from pixelsleuth.files import claimed, clear_partials, disk_is_full, whole_file, whole_folder, write_text
from pixelsleuth.records import Finding

WRITER = """
import sys
from pathlib import Path
from pixelsleuth.files import claimed, whole_file
folder = Path(sys.argv[1])
with claimed(folder):
    for number in range(100000):
        with whole_file(folder / "whole.txt") as partial, open(partial, "w") as file:
            for _ in range(1000):
                file.write(f"{number}\\n")
            print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_files_a_free_place_and_what_the_next_one_clears(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    while killed.stdout.readline().strip() != "5":
        pass
    with pytest.raises(PixelsleuthError, match="another process is writing into it"), claimed(tmp_path):
        pass
    time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    lines = (tmp_path / "whole.txt").read_text().splitlines()
    assert len(lines) == 1000
    assert len(set(lines)) == 1
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/.map.77.partial.png").write_bytes(b"half")
    with claimed(tmp_path):
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "whole.txt"]


def test_of_a_file_beside_others_only_its_own_rest_is_cleared(tmp_path: Path) -> None:
    for name in (".a[1].12.partial.h5", ".a1.12.partial.h5"):
        (tmp_path / name).write_bytes(b"half")
    clear_partials(tmp_path, "a[1].h5")
    assert [path.name for path in tmp_path.iterdir()] == [".a1.12.partial.h5"]


def test_a_folder_in_the_making_is_refused_to_others_and_starts_anew_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / ".new.partial").mkdir()
    (tmp_path / ".new.partial/rest").write_text("of a killed process")
    with whole_folder(tmp_path / "new") as partial:
        write_text(partial / "a.txt", "a")
        with pytest.raises(PixelsleuthError, match="another process"), whole_folder(tmp_path / "new"):
            pass
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["new", "new/a.txt"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
        OSError("6144 requested and 512 written"),
        RuntimeError("[enforce fail at inline_container.cc:863] . PytorchStreamWriter failed writing file data/0"),
        RuntimeError('Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "..." }'),
    ],
)
def test_a_full_disk_is_one_line_whichever_library_meets_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def failing() -> None:
        with whole_file(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            raise error

    monkeypatch.setattr(cli, "app", failing)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    told = capsys.readouterr().err
    assert told.startswith("error: no room is left to write")
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert not disk_is_full(OSError(errno.EACCES, "Permission denied"))


def test_two_detects_into_one_folder(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    call = ["detect", str(shapes / "test/real/03000.png"), "--model", str(model_folder), "--out", str(tmp_path)]
    with claimed(tmp_path):
        done = CliRunner().invoke(cli.app, [*call, "--max-false-alarm", "0.05"])
    assert "another process is writing into it" in str(done.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_stopped_detect_says_so_and_keeps_what_is_written(
    form: str, monkeypatch: pytest.MonkeyPatch, model_folder: Path, shapes: Path, tmp_path: Path
) -> None:
    judge = Detector.detect_many

    def stopped(self: Detector, sources: Any, **options: Any) -> Iterator[Finding]:
        yield from islice(judge(self, sources, **options), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "detect_many", stopped)
    call = ["detect", str(shapes / "test/real"), "--model", str(model_folder), "--max-false-alarm", "0.05"]
    done = CliRunner().invoke(cli.app, [*call, "--no-heatmap", "--format", form, "--out", str(tmp_path)])
    assert (done.exit_code, done.stderr.count("stopped; ")) == (130, 1)
    assert ("what was written is kept" in done.stderr) == (form != "jsonl")
    assert ("with --resume goes on" in done.stderr) == (form == "jsonl")
    written = tmp_path / f"findings.{form}"
    if form == "parquet":
        assert pq.read_table(written).num_rows == 2
    else:
        assert written.read_text(encoding="utf-8").count("\n") == (3 if form == "csv" else 2)


def bit_flipped(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-5] ^= 4
        (folder / name).write_bytes(data)

    return change


def missing(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def another_key(folder: Path) -> None:
    tensors = load_file(folder / "prior.safetensors")
    save_file({**tensors, "more": torch.zeros(1)}, folder / "prior.safetensors")


def another_setting(folder: Path) -> None:
    tree = json.loads((folder / "config.json").read_text())
    tree["preprocessing"]["crop"] = "face"
    write_text(folder / "config.json", json.dumps(tree))


def another_rank(folder: Path) -> None:
    tree = json.loads((folder / "calibration.json").read_text())
    tree["scores"]["original"][0] += 1
    write_text(folder / "calibration.json", json.dumps(tree))


def of_another_model(folder: Path) -> None:
    tree = json.loads((folder / "calibration.json").read_text())
    shutil.copy(folder / "prior.safetensors", folder / "prior_pixelsnail.safetensors")
    write_text(folder / "calibration.json", json.dumps(tree))


def more_weights(folder: Path) -> None:
    shutil.copy(folder / "prior.safetensors", folder / "vae.safetensors")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        *((bit_flipped(f"{n}.safetensors"), f"{n}.safetensors is another") for n in ("vqvae", "prior", "detective")),
        (bit_flipped("config.json"), "config.json"),
        *((missing(f"{n}.safetensors"), f"{n}.safetensors is missing") for n in ("vqvae", "prior_pixelsnail")),
        (missing("config.json"), "config.json is missing"),
        (missing("calibration.json"), "calibration.json is missing"),
        (another_key, "prior.safetensors is another"),
        (another_setting, "config.json is another"),
        (another_rank, "calibration.json was changed"),
        (of_another_model, "prior_pixelsnail.safetensors is another"),
        (more_weights, "vae.safetensors was not there"),
    ],
)
def test_a_tampered_model_is_refused_by_name_of_what_is_wrong(
    change: Callable[[Path], None], told: str, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("training"))
    change(folder)
    with pytest.raises(ModelError, match=told) as caught:
        Detector.load(folder)
    assert "\n" not in str(caught.value)
