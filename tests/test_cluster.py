"""Judging in batches, as workers of a cluster do: the same findings, wherever inputs lie and whoever dies."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pixelsleuth import cluster
from pixelsleuth.cluster import Task, Worker, batches_of, judge, verdicts
from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError

OPTIONS: dict[str, Any] = {"max_false_alarm": 0.05, "heatmap": False}


@pytest.fixture(scope="module")
def archive(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures and a bad one in a folder, and five in a shard with labels beside them."""
    root = tmp_path_factory.mktemp("archive")
    for path in [*sorted((shapes / "test/real").iterdir())[:6], *sorted((shapes / "test/fake").iterdir())[:4]]:
        shutil.copyfile(path, root / path.name)
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with tarfile.open(root / "more.tar", "w") as shard:
        for path in sorted((shapes / "test/fake").iterdir())[10:15]:
            (root / "label.json").write_text('{"label": 1}')
            shard.add(path, path.name)
            shard.add(root / "label.json", path.with_suffix(".json").name)
    (root / "label.json").unlink()
    return root


def records(folder: Path) -> list[dict[str, Any]]:
    rows = [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def run_here(inputs: list[str], task: Task) -> None:
    worker = Worker(task)
    for number, places in enumerate(batches_of(inputs, task.out)):
        worker({"number": number, "inputs": places})


def test_batches_give_what_one_process_gives(
    archive: Path, detector: Detector, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "BATCH_SIZE", 4)
    local = Task(str(model_folder), "", str(tmp_path / "local"), OPTIONS)
    run_here([str(archive)], local)
    found = records(local.parts)
    assert len(list(local.parts.iterdir())) == 4, "4 + 4 + 3 files and a shard"
    assert len(found) == 16
    assert not list((tmp_path / "local/under_way").iterdir())
    paths = [row["path"] for row in found[:11]]
    for row, one in zip(found, detector.detect_many(paths, **OPTIONS), strict=False):
        alone = one.record()
        assert (row["path"], row["verdict"], row["sha256"]) == (alone["path"], alone["verdict"], alone["sha256"])
        assert row["score"] == pytest.approx(alone["score"], abs=1e-4)
        assert row["p_value"] == alone["p_value"]
    assert [row["path"] for row in found if row["verdict"] == "not_applicable"] == [str(archive / "broken.png")]
    names = [Path(row["path"]).name for row in found[11:]]
    assert names == [f"0{4010 + k}.png" for k in range(5)]
    assert all(row["path"].startswith(str(archive / "more.tar/")) for row in found[11:])
    # The same through fsspec.
    remote = Task(str(model_folder), "", str(tmp_path / "remote"), OPTIONS)
    run_here([f"file://{archive}/*.png", f"file://{archive}/more.tar", "file:///nowhere.png"], remote)
    again = records(remote.parts)
    assert [{**row, "path": row["path"].removeprefix("file://")} for row in again[:-1]] == found
    assert json.loads(again[-1]["reason"])["code"] == "unreadable"


def test_what_a_run_writes_into_a_folder_of_inputs_is_no_input(archive: Path) -> None:
    before = list(batches_of([str(archive)], str(archive / "out")))
    for place in ("out/heatmaps", "heatmaps"):
        (archive / place).mkdir(parents=True)
        shutil.copy(min(archive.glob("*.png")), archive / place / "map.png")
    assert list(batches_of([str(archive)], str(archive / "out"))) != before, "heatmaps of the user's own are inputs"
    shutil.rmtree(archive / "heatmaps")
    assert list(batches_of([str(archive)], str(archive / "out"))) == before
    shutil.copytree(archive / "out/heatmaps", archive / "heatmaps")
    shutil.rmtree(archive / "out")
    assert list(batches_of([str(archive)], str(archive))) == before
    shutil.rmtree(archive / "heatmaps")


def test_a_batch_whose_worker_died_is_judged_again_and_a_killer_gets_the_blame(
    archive: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(str(model_folder), "", str(tmp_path), OPTIONS)
    (places,) = batches_of([str(path) for path in sorted(archive.glob("*.png"))], task.out)
    worker = Worker(task)
    real, bad = worker.detector.detect_many, sorted(archive.glob("*.png"))[2]

    def deadly(sources: Any, **options: Any) -> Any:
        for source in sources:
            if source == str(bad):
                raise KeyboardInterrupt
            yield from real([source], **options)

    monkeypatch.setattr(worker.detector, "detect_many", deadly)
    for _ in range(1 + cluster.DEATHS):
        with pytest.raises(KeyboardInterrupt):
            worker({"number": 0, "inputs": places})
        assert not task.part(0).exists()
    worker({"number": 0, "inputs": places})
    found = records(task.parts)
    assert len(found) == 11
    assert [row["path"] for row in found if json.loads(row["reason"] or "{}").get("code") == "failed"] == [str(bad)]
    # What is written is not judged again.
    monkeypatch.setattr(worker.detector, "detect_many", None)
    worker({"number": 0, "inputs": places})


@pytest.mark.slow
def test_on_a_cluster_of_this_machine(
    archive: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "BATCH_SIZE", 4)
    here, there = (Task(str(model_folder), "", str(tmp_path / name), OPTIONS) for name in ("here", "there"))
    run_here([str(archive)], here)
    seen: list[tuple[int, int]] = []
    counts = judge([str(archive)], there, address="local", workers=1, progress=lambda *now: seen.append(now))
    assert records(there.parts) == records(here.parts)
    assert counts == verdicts(here.parts)
    assert (seen[0], seen[-1]) == ((0, 4), (4, 4))
    there.part(1).unlink()
    judge([str(archive)], there, address="local", workers=1, progress=lambda *now: seen.append(now))
    assert seen[-2:] == [(3, 4), (4, 4)], "what is there is not judged again"
    with pytest.raises(PixelsleuthError, match="holds the run of other inputs"):
        judge([str(archive / "more.tar")], there, address="local")
