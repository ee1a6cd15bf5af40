"""Named protocols: what they say, and that a second run gives the same figures to the digit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.protocols import KINDS, data_digest, load_protocol, names, read_protocol, run_protocol

TINY = """
version: 3
title: shapes
measures: pictures
split: test
data: {normal: shapes/real, anomalous: shapes/fake}
model: ""
preprocessing: {crop: none, size: 64}
seed: 0
options: {maps: false, text_pairs: 0}
metrics: [scores.text_tail_sum.auroc, false_alarm.0.05]
"""


def test_each_shipped_protocol_is_whole_and_says_how_its_data_are_come_by() -> None:
    every = [load_protocol(name) for name in names()]
    assert {"ciplab-val", "dfdc-test", "dfdc-val", "flair", "local-edits", "t1", "world-false-alarms"} <= set(names())
    assert {protocol.measures for protocol in every} == set(KINDS)
    assert len({protocol.sha256 for protocol in every}) == len(every)
    for protocol in every:
        assert protocol.guide
        assert protocol.metrics
        with pytest.raises(PixelsleuthError, match=f"protocol {protocol.name}: no .* at nowhere"):
            run_protocol(protocol, Path("nowhere"))


def test_the_configuration_digest_is_of_what_may_move_a_figure() -> None:
    made = read_protocol("tiny", TINY)
    assert made.sha256 == replace(made, title="others", guide="elsewhere", data_sha256="0").sha256
    for change in ({"version": 4}, {"seed": 1}, {"options": {"maps": True}}, {"data": {"normal": "a"}}):
        assert replace(made, **change).sha256 != made.sha256


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TINY.replace("version", "verson"), "unexpected keyword argument 'verson'"),
        (TINY.replace("measures: pictures", "measures: beauty"), "expected one of pictures"),
        (TINY.replace(", anomalous: shapes/fake", ""), "expected 'anomalous' for pictures"),
        ("[", "is no protocol"),
    ],
)
def test_a_protocol_that_is_wrong_is_refused_by_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(PixelsleuthError, match=reason):
        read_protocol("tiny", text)


def test_the_data_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    for root in ("one", "two"):
        (tmp_path / root / "a").mkdir(parents=True)
        (tmp_path / root / "a/x.png").write_bytes(b"x")
        (tmp_path / root / "a/.hidden").write_bytes(b"y")

    def digest(root: str) -> tuple[str, int]:
        return data_digest(tmp_path / root, {"normal": tmp_path / root / "a"})

    first = digest("one")
    assert first == digest("two")
    assert first[1] == 1
    (tmp_path / "two/a/x.png").write_bytes(b"z")
    (tmp_path / "one/a/x.png").rename(tmp_path / "one/a/w.png")
    assert len({first, digest("one"), digest("two")}) == 3


def test_a_second_run_elsewhere_gives_the_same_file(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    protocol = read_protocol("tiny", TINY)
    texts = []
    for place in ("here", "there"):
        for label in ("real", "fake"):
            (tmp_path / place / "shapes" / label).mkdir(parents=True)
            for path in sorted((shapes / "test" / label).iterdir())[:12]:
                shutil.copy(path, tmp_path / place / "shapes" / label)
        (tmp_path / place / "shapes/fake/broken.png").write_text("no picture")
        texts.append(json.dumps(run_protocol(protocol, tmp_path / place, str(model_folder))))
    assert texts[0] == texts[1]
    found = json.loads(texts[0])
    assert found["unreadable"] == ["shapes/fake/broken.png"]
    about = found["protocol"]
    assert (about["name"], about["version"], about["n_files"]) == ("tiny", 3, 25)
    assert about["figures"]["false_alarm.0.05"] == found["false_alarm"]["0.05"]
    assert about["model_sha256"] == found["model_sha256"]
    (tmp_path / "there/shapes/real/03000.png").unlink()
    assert (
        run_protocol(protocol, tmp_path / "there", str(model_folder))["protocol"]["data_sha256"]
        != (about["data_sha256"])
    )
    wrong = replace(protocol, metrics=("scores.beauty.auroc",))
    with pytest.raises(PixelsleuthError, match="nothing was measured that is called"):
        run_protocol(wrong, tmp_path / "here", str(model_folder))
    with pytest.raises(PixelsleuthError, match="is for size = 128"):
        run_protocol(replace(protocol, preprocessing={"size": 128}), tmp_path / "here", str(model_folder))


def test_the_command_lists_protocols_and_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["evaluate", "--protocol", "list"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in names())
    for call, reason in (
        (["--protocol", "beauty"], "expected one of ciplab-val"),
        (["--protocol", "t1", "--data", str(tmp_path)], "no validation at"),
        (["--protocol", "t1", "--normal", str(tmp_path)], "leave --normal out"),
        (["--protocol", "t1", "--pairs", "p.csv", "--no-heatmap"], "leave --no-heatmap, --pairs out"),
        (["--anomalous", str(tmp_path), "--data", str(tmp_path)], "--data goes with --protocol"),
        ([], "--anomalous"),
    ):
        assert reason in str(runner.invoke(app, ["evaluate", *call]).exception)
