"""The benchmark measures what it says."""

from __future__ import annotations

import json
import mmap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pixelsleuth.benchmark.machine import matmul_rate, peak_mb, reset_peak
from pixelsleuth.benchmark.measuring import Measured, gflops_of, measure, with_floor
from pixelsleuth.benchmark.workloads import (
    FLAGGED,
    Benchmark,
    awake,
    face_crops,
    ratios,
    restoration_input,
    without_face_search,
)
from pixelsleuth.detector import Detector
from pixelsleuth.models.checkpoint import bake, build_prior, parameter_count
from pixelsleuth.models.configuration import PriorConfig
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.sources.images import read_picture
from pixelsleuth.training.presets import PRESETS
from pixelsleuth.training.stages import PriorStage, VQVAEStage

CPU = torch.device("cpu")


def test_rates_are_images_over_the_clock_and_idle_time_is_no_cpu_time() -> None:
    found = measure(lambda: time.sleep(0.05), 10, {"what": "sleep"}, device=CPU, warm=False, least_seconds=0.1)
    assert 100 < found.images_per_second <= 200
    assert found.cpu_seconds_per_image < 0.004
    assert found.settings["what"] == "sleep"
    assert found.settings["repetitions"] >= 2


def test_peak_memory_sees_what_is_held_for_a_moment() -> None:
    reset_peak()
    before = peak_mb()
    # Of the system itself: what tests freed before is kept, and would be taken for this.
    with mmap.mmap(-1, 200_000_000) as held:
        held.write(b"1" * 200_000_000)
    assert peak_mb() - before > 150


def test_operations_are_those_of_the_matrix_product() -> None:
    a, b = torch.randn(30, 50), torch.randn(50, 70)
    assert gflops_of(lambda: a @ b) == pytest.approx(2 * 30 * 50 * 70 / 1e9)
    found = with_floor(Measured(10.0, 0.1, 1.0), gflops=2.0, rate_gflops=100.0)
    assert found.settings["share_of_matmul_rate"] == pytest.approx(0.2)
    assert matmul_rate(CPU, seconds=0.05) > 1e9


def test_a_tenth_of_the_codes_is_flagged_first() -> None:
    prior = awake(build_prior(PriorConfig("pixelsnail", 32, (8, 8), width=16, blocks=1, pairs=1))).eval()
    codes, uniforms, above = restoration_input(prior, 6, 3)
    assert uniforms.shape == (6, 3, 8, 8)
    assert float((prior.log_prob(codes).nll > above).float().mean()) == pytest.approx(FLAGGED, abs=0.01)


def test_baked_weights_give_the_same_answers() -> None:
    prior = build_prior(PriorConfig("pixelsnail", 32, (8, 8), width=16, blocks=1, pairs=1)).eval()
    codes = torch.randint(32, (2, 8, 8))
    before, size = prior.log_prob(codes).nll, parameter_count(prior)
    bake(prior)
    # The norms, one for each output channel, are gone.
    assert 0.95 * size < parameter_count(prior) < size
    assert not any("parametrizations" in name for name in prior.state_dict())
    assert torch.allclose(prior.log_prob(codes).nll, before, atol=1e-5)


def test_made_up_crops_differ_and_hold_the_face(tmp_path: Path, faces_detector: Detector) -> None:
    paths = face_crops(tmp_path / "crops", 5)
    pictures = [read_picture(path) for path in paths]
    assert len({picture.sha256 for picture in pictures}) == 5
    found = list(faces_detector.detect_many(paths, heatmap=False))
    assert sum(finding.verdict != "not_applicable" for finding in found) >= 4


def test_workloads_write_what_the_contract_names(tmp_path: Path) -> None:
    bench = Benchmark(CPU, say=lambda _: None)
    pictures = face_crops(tmp_path / "crops", 6)
    bench.store(tmp_path)
    bench.long_run(pictures)
    bench.save(tmp_path / "out.json")
    tree = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert set(tree["store_read"]) == {"images_per_second", "cpu_seconds_per_image", "peak_mb", "settings"}
    assert tree["machine"]["matmul_gflops_float32"] > 1
    rows = tree["growth"]["pictures"]
    assert rows[0]["images"] == 6
    assert "extrapolated" not in rows[0]
    assert rows[-1] == {"images": 100_000, "seconds": rows[-1]["seconds"], "extrapolated": True}


def test_training_steps_are_taken_as_in_training() -> None:
    bench = Benchmark(CPU, say=lambda _: None)
    fast = PRESETS["fast"]
    vqvae = VQVAE(replace(fast.vqvae, size=32))
    pixels = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    bench.step("train_vqvae_fast", VQVAEStage(vqvae, fast.loss, fast.vqvae_stage, 10, 0), pixels, fast.vqvae_stage)
    prior = build_prior(PriorConfig(codes=16, grid=(4, 4), width=16, blocks=1))
    codes = torch.randint(16, (2, 4, 4))
    bench.step("train_prior_fast", PriorStage(prior, fast.prior_stage, 10, 0), codes, fast.prior_stage)
    assert {name: found.settings["batch"] for name, found in bench.found.items()} == {
        "train_vqvae_fast": 2,
        "train_prior_fast": 2,
    }


def test_without_face_search_the_whole_crop_is_judged(tmp_path: Path, faces_detector: Detector) -> None:
    (path,) = face_crops(tmp_path / "crops", 1)
    finding = without_face_search(faces_detector).detect(path)
    assert finding.faces == ()
    assert finding.square is not None
    assert finding.square.as_list() == [0, 0, 224, 224]


def test_ratios_name_only_what_was_run() -> None:
    found = {"nll": Measured(30.0, 1, 1), "nll_monai": Measured(10.0, 1, 1), "nll_paper": Measured(5.0, 1, 1)}
    assert dict(ratios(found)) == {"nll / nll_monai": 3.0}


def test_the_peer_has_as_many_parameters_and_the_same_grid() -> None:
    pytest.importorskip("monai", reason="MONAI, of the extra `bench`, is not installed")
    from pixelsleuth.benchmark.monai_baseline import peer_likelihood

    for preset in ("fast", "paper-ffhq"):
        settings = PRESETS[preset]
        (config,) = (p for p in settings.priors if p.kind == "pixelsnail")
        likelihood, of_prior, of_vqvae = peer_likelihood(config, 128, settings.vqvae.dimensions)
        assert of_prior == pytest.approx(parameter_count(build_prior(config)), rel=0.1)
        assert of_vqvae == pytest.approx(parameter_count(VQVAE(settings.vqvae)), rel=0.1)
        found = likelihood(torch.rand(2, 3, 128, 128))
        assert found.shape == (2, 16, 16)
        assert (found <= 0).all()
