"""Scans made from nothing: they vary, they repeat, and the program goes the whole way on them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pixelsleuth.cli import app
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.sources.scans.volumes import read_volume, voxel_sizes_of
from pixelsleuth.synthesis import phantoms
from pixelsleuth.synthesis.phantoms import ANATOMIES, phantom, with_lesion, write_phantoms
from tests.conftest import TINY_SCANS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phantoms with a sixteenth of the voxels."""
    monkeypatch.setattr(phantoms, "SHAPE", (40, 48, 8))
    monkeypatch.setattr(phantoms, "MILLIMETRES", (4.4, 4.4, 15.0))


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_phantoms_vary_as_people_do_and_repeat(small: None, anatomy: str) -> None:
    one, again, other = (phantom(np.random.default_rng(seed), anatomy) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    overlap = ((one > 0) & (other > 0)).sum() / ((one > 0) | (other > 0)).sum()
    assert 0.7 < overlap < 0.98
    assert one.min() == 0
    assert one[one > 0].min() >= 10
    # Nothing at the rim of the field: a body lies in air.
    assert not one[[0, -1]].any()
    assert not one[:, [0, -1]].any()
    sick, mask = with_lesion(one, "constant", "plain", np.random.default_rng(3))
    assert 0 < mask.mean() < 0.1
    assert np.abs(sick - one)[mask].mean() > 20 * np.abs(sick - one)[~mask].mean()


def test_the_whole_way_on_phantoms(small: None, tmp_path: Path) -> None:
    runner = CliRunner()

    def run(*words: str) -> str:
        done = runner.invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, (words, done.output, done.exception)
        return done.output

    out, model = tmp_path / "phantoms", tmp_path / "model"
    assert "32 scans" in run("phantoms", out, "--count", "10", "--seed", "1")
    (path,) = list((out / "test/sick/scan").iterdir())[:1]
    volume, image = read_volume(path), nibabel.load(path)
    assert voxel_sizes_of(volume) == pytest.approx((4.4, 4.4, 15.0))
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert np.asarray(nibabel.load(path.parents[1] / "mask" / path.name).dataobj).any()
    settings = TINY_SCANS | {
        "vqvae_stage": {"epochs": 4, "precision": "32-true"}, "prior_stage": {"epochs": 2, "precision": "32-true"},
        "detective_stage": {"epochs": 3, "batch": 16, "precision": "32-true"}, "pairs": 80,
        "priors": TINY_SCANS["priors"][:1], "vae_stage": {"epochs": 0},
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    # A folder of scans in a store's place is prepared first.
    told = run("train", out, model, "--preset", "scans-small", "--config", tmp_path / "tiny.yaml", "--no-progress")
    assert "32 scans" in told
    assert (tmp_path / "model.h5").is_file()
    test = ["--normal", out / "test/healthy", "--anomalous", out / "test/sick/scan", "--text-pairs", "0"]
    run("evaluate", "--model", model, *test, "--out", tmp_path / "runs")
    found = json.loads((tmp_path / "runs/metrics.json").read_text(encoding="utf-8"))
    assert (found["n_normal"], found["n_anomalous"], found["n_calibration"]) == (4, 4, 10)
    assert {"baseline_brightness", "baseline_equalised"} <= set(found["pixel"])
    assert found["pixel"][found["default_map"]]["ap"][0] > 1.5 * found["pixel_prevalence"]


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(PixelsleuthError, match="count: expected at least 10"):
        write_phantoms(tmp_path / "a", 9, 0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").write_text("mine")
    with pytest.raises(PixelsleuthError, match="not empty"):
        write_phantoms(tmp_path / "full", 10, 0)
    with pytest.raises(PixelsleuthError, match="anatomy: expected one of brain, abdomen"):
        phantom(np.random.default_rng(0), "knee")
    (tmp_path / "none").mkdir()
    done = CliRunner().invoke(app, ["train", str(tmp_path / "none"), str(tmp_path / "model")])
    assert "folder without scans" in str(done.exception)
