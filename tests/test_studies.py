"""The pages of the studies say what results/studies holds, and what a sweep compares is what its table shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from experiments.studies.frame_p import cut_off, twice_the_mean
from experiments.studies.restorations import tempered
from experiments.studies.sweep import EDITS, collected, done, merged, rows_of, scaled
from experiments.tools.results_pages import calibration_of, load
from experiments.tools.studies_pages import BLOCK, BLOCKS, KINDS, PAGES, SWEEPS, filled, restorations, sentence, sweeps
from sklearn.metrics import roc_auc_score

from pixelsleuth.models.configuration import PriorConfig
from pixelsleuth.models.masked import MaskedPrior
from pixelsleuth.training.presets import resolve
from tests.conftest import shape_picture

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_was_measured(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert filled(text, load(ROOT / "results/studies")) == text, "run python experiments/tools/studies_pages.py"


def test_studies_of_the_bundled_model_are_of_the_present_one() -> None:
    known = [tree["model_sha256"] for tree in load(ROOT / "results/studies").values() if "model_sha256" in tree]
    assert known
    assert set(known) == {calibration_of("faces")["model_sha256"]}


def test_every_block_stands_on_a_page() -> None:
    found = {m[2] for name in PAGES for m in BLOCK.finditer((ROOT / name).read_text(encoding="utf-8"))}
    assert found == {*BLOCKS, "sweeps"}


@pytest.mark.parametrize("name", SWEEPS)
def test_every_run_of_a_sweep_is_one_that_train_takes(name: str) -> None:
    base = yaml.safe_load((ROOT / "experiments/studies/base.yaml").read_text())
    study = yaml.safe_load((ROOT / f"experiments/studies/{name}.yaml").read_text())
    for own in study["runs"].values():
        settings = merged(merged(base, study.get("base", {})), own or {})
        resolve("fast", None, [f"{key}={value}" for key, value in settings["set"].items()])


def test_only_what_lies_outside_its_interval_is_called_different() -> None:
    assert sentence({"better": [], "worse": []}, 2) == "Every interval of a difference holds 0."
    told = sentence({"better": ["K=512 on *swaps* (.05 [.01, .09])"], "worse": []}, 2)
    assert told.startswith("Better than the first run: K=512 on *swaps* (.05 [.01, .09]). Every")


def test_a_sweeps_auroc_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    normal, altered = generator.normal(size=20), generator.normal(1, 1, size=20)
    truth = np.repeat([0, 1], 20)
    assert rows_of(normal, altered, paired=True)[0] == pytest.approx(roc_auc_score(truth, np.r_[normal, altered]))


def test_a_sweep_that_was_not_run_is_named_with_its_command() -> None:
    row = {"auroc": {kind: {} for kind in KINDS}, "psnr": 25.0, "codes_used": 0.5, "cpu_seconds": 40.0}
    told = sweeps({"codebook": {"runs": {"K=16": row}, "not_run": ["K=512"], "command": "sweep.py codebook.yaml"}})
    assert "### Codebook" in told
    assert "Not run: K=512." in told
    assert "experiments/studies/resolution.yaml` |" in told


def test_turning_is_by_quarters() -> None:
    square = np.zeros((1, 8, 8, 3), np.uint8)
    square[0, 0, 7] = 255
    assert scaled(square, 8, 1)[0, 0, 0].all()


def test_a_run_is_kept_with_its_scores_by_kind_and_its_cost(store: Path, tmp_path: Path) -> None:
    base = yaml.safe_load((ROOT / "experiments/studies/base.yaml").read_text())
    prior = {"codes": 16, "grid": [8, 8], "width": 16, "blocks": 1, "pairs": 1, "embedding": 8, "heads": 2}
    priors = [prior | {"kind": kind} for kind in ("masked", "pixelsnail")]
    tiny = {"vqvae.widths": [16, 16], "vqvae.codes": 16, "priors": priors}
    settings = merged(base, {"images": 32, "seen": 32, "sources": 1, "set": tiny})
    squares = np.stack([np.kron(shape_picture(i), np.ones((4, 4, 1), np.uint8)) for i in range(3)])
    val = dict.fromkeys(("real", "swapped", "resaved", *EDITS), squares)
    done(settings, store, tmp_path / "base/base.npz", val)
    tree = collected("base", base, tmp_path)
    about = tree["runs"]["base"]
    assert about["images"] == 32
    assert about["cpu_seconds"] > 0
    # The same pictures on both sides: chance, exactly.
    assert about["auroc"]["swapped"]["text_tail_sum"]["auroc"][0] == 0.5
    assert "drawn" in about["auroc"]
    assert tree["not_run"] == []


def test_a_way_to_restore_is_called_better_only_beyond_its_interval() -> None:
    def row(difference: list[float]) -> dict[str, object]:
        return {"ap": [0.2, 0.1, 0.3], "auroc": [0.7, 0.6, 0.8], "difference": difference}

    runs = {"S = 4": row([0, 0, 0]), "S = 8": row([0.02, 0.01, 0.03]), "T = 2": row([-0.01, -0.03, 0.01])}
    told = restorations({"runs": runs})
    assert "Better than the first row: S = 8 (.020 [.010, .030]). Every other interval of a difference holds 0." in told


def test_a_temperature_divides_what_the_prior_says() -> None:
    prior = MaskedPrior(PriorConfig(kind="masked", codes=8, grid=(4, 4), width=16, blocks=1)).eval()
    codes, hidden = torch.zeros(1, 4, 4, dtype=torch.int64), torch.ones(1, 4, 4, dtype=torch.bool)
    with torch.no_grad():
        assert torch.allclose(tempered(prior, 2.0)(codes, hidden) * 2, prior(codes, hidden), atol=1e-6)
    assert tempered(prior, 1.0) is prior


def test_experiments_run_as_their_texts_call_them() -> None:
    """Some import others: the command must find them from a checkout without further ado."""
    call = [sys.executable, "experiments/tools/studies_pages.py", "--check"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(call, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_cut_off_mean_of_p_is_never_more_than_twice_the_mean_and_keeps_its_rate() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=(5_000, 4)) ** rng.choice([0.3, 1, 5], (5_000, 1))
    assert (cut_off(p) <= twice_the_mean(p) + 1e-12).all()
    assert (cut_off(p) < 0.9 * twice_the_mean(p)).mean() > 0.2
    # By hand: three of four count, 3/4 (2 - .02 / e) = 1.
    assert cut_off(np.array([0.01, 0.01, 0.01, 0.9])) == pytest.approx(0.03)
    # Frames that depend on each other as badly as frames can: where one is below .1, it and its partner add up to .1.
    first = rng.uniform(size=200_000)
    partner = np.where(first <= 0.1, 0.1 - first, first)
    shares = [(rule(np.stack([first, partner], 1)) <= 0.1 + 1e-9).mean() for rule in (cut_off, twice_the_mean)]
    assert shares == pytest.approx([0.1, 0.1], abs=0.003)
