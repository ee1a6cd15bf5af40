"""False alarms group by group: counted rightly, told in metrics, on the terminal and in the card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from experiments.tools.utk_groups import groups_of
from scipy.stats import binomtest

from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.groups import PARTS, UNKNOWN, by_group, lines_of, read_groups, thirds
from pixelsleuth.reporting.card import card_of
from tests.test_whole_run import run_cli


def test_shares_and_intervals_of_each_group() -> None:
    p = np.array([0.005, 0.04, 0.09, 0.5, 0.9, 0.3] + [0.7] * 6)
    scores = np.array([9.0, 8.0, 7.0, 1.0, 0.0, 2.0] + [0.5] * 6)
    found = by_group(p, scores, {"age": ["old"] * 6 + ["young"] * 6, "sex": ["f"] * 12, "rare": list("abcdefghijkl")})
    old = found["age"]["groups"]["old"]
    assert [old["n"], old["0.01"][0], old["0.05"][0], old["0.1"][0]] == [6, 0.1667, 0.3333, 0.5]
    wilson = binomtest(3, 6).proportion_ci(method="wilson")
    assert old["0.1"][1:] == [round(wilson.low, 4), round(wilson.high, 4)]
    assert found["age"]["groups"]["young"]["0.1"][0] == 0
    assert found["age"]["scores_differ"] < 0.05
    assert found["sex"]["scores_differ"] is None
    assert list(found["rare"]["groups"]) == ["fewer than 5 each"]
    text = "\n".join(lines_of(found))
    assert "| old | 6 | 16.7% [3.0, 56.4] |" in text
    assert "sex" not in text
    assert thirds(np.arange(9.0)) == [part for part in PARTS for _ in range(3)]


def test_a_table_of_groups_is_read_by_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/1.png", "a/2.png"):
        (tmp_path / name).write_bytes(b"")
    table = tmp_path / "groups.csv"
    table.write_text("path,age,sex\n1.png,30,f\na/2.png,,m\nmissing.png,1,f\n")
    found = read_groups(table, tmp_path / "a")
    assert found["sex"] == {tmp_path / "a/1.png": "f", tmp_path / "a/2.png": "m"}
    assert found["age"][tmp_path / "a/2.png"] == UNKNOWN
    for text, expected in (
        ("file,age\n1.png,30\n", "expected a column path and one a grouping"),
        ("path\n1.png\n", "got path"),
        ("path,age\nmissing.png,3\n", "none of the 1 pictures"),
    ):
        table.write_text(text)
        with pytest.raises(PixelsleuthError, match=expected):
            read_groups(table, tmp_path / "a")


def test_evaluate_tells_group_by_group(model_folder: Path, shapes: Path, tmp_path: Path) -> None:
    for kind, count in (("real", 12), ("fake", 2)):
        (tmp_path / kind).mkdir()
        for path in sorted((shapes / f"test/{kind}").iterdir())[:count]:
            shutil.copy(path, tmp_path / kind)
    names = sorted(path.name for path in (tmp_path / "real").iterdir())
    rows = [f"{name},{'odd' if number % 2 else 'even'}" for number, name in enumerate(names)]
    (tmp_path / "groups.csv").write_text("\n".join(["path,number", *rows]))
    model = Path(shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("training")))
    call = ["evaluate", "--model", model, "--normal", tmp_path / "real", "--anomalous", tmp_path / "fake"]
    call += ["--no-heatmap", "--text-pairs", "0", "--groups", tmp_path / "groups.csv"]
    code, told, _ = run_cli(*call, "--card", "--out", tmp_path / "out")
    assert code == 0
    groups = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))["groups"]
    assert {name: row["n"] for name, row in groups["number"]["groups"].items()} == {"even": 6, "odd": 6}
    assert sum(row["n"] for row in groups["sharpness"]["groups"].values()) == 12
    assert set(groups) == {"number", "source", "face_size", "sharpness"}
    assert "| odd | 6 |" in told
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "## False alarms by group" in card
    assert "| odd | 6 |" in card
    # With another calibration they would be others.
    tree = json.loads((model / "calibration.json").read_text(encoding="utf-8"))
    (model / "calibration.json").write_text(
        json.dumps({k: v for k, v in tree.items() if k != "sha256"} | {"about": tree["about"] | {"note": "another"}})
    )
    assert "False alarms by group" not in card_of(model)


def test_a_card_is_written_into_a_folder_of_one_s_own(tmp_path: Path) -> None:
    call = ("evaluate", "--normal", tmp_path, "--anomalous", tmp_path, "--card")
    for more in ((), ("--groups", tmp_path / "groups.csv")):
        code, _, error = run_cli(*call, *more)
        assert (code, "--card needs --groups, and --model a folder of your own" in error) == (2, True)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("100_1_0_20170119212053665.jpg.chip.jpg", ("65 and more", "female", "White")),
        ("17_0_3_20170109.jpg", ("13 to 17", "male", "Indian")),
        ("18_0_3_20170109.jpg", ("18 to 29", "male", "Indian")),
        ("24_0_20170116220224657.jpg.chip.jpg", None),
        ("24_2_0_20170116220224657.jpg", None),
        ("portrait.jpg", None),
    ],
)
def test_groups_that_utkfaces_names_tell(name: str, groups: tuple[str, str, str] | None) -> None:
    """Some of its names lack a label."""
    assert groups_of(name) == groups
