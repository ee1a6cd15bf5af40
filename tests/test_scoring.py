"""Scores, pooling, restoration weights, calibration: against other libraries and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pixelsleuth.errors import CalibrationError
from pixelsleuth.evaluation.metrics import promised_band
from pixelsleuth.records import Box, Surprise
from pixelsleuth.scoring.calibration import (
    COLOUR_RATE,
    Calibration,
    map_quantiles,
    region_of,
)
from pixelsleuth.scoring.complexity import complexity, fit_adjustment, laplacian_variance
from pixelsleuth.scoring.draws import uniforms
from pixelsleuth.scoring.measurements import surprise_map, surprise_scores, tail_sum
from pixelsleuth.scoring.origins import conformal_p
from pixelsleuth.scoring.restoration import pooled, restoration_weights, restore
from tests.conftest import shape_picture


def made_calibration(scores: np.ndarray, maps: np.ndarray | None = None) -> Calibration:
    maps = np.random.default_rng(0).gamma(2, 1, (100, 32, 32)) if maps is None else maps
    ranked = {name: np.sort(scores) for name in ("original", "jpeg_90", "resize_0.9")}
    empty = Calibration("s", ranked, map_quantiles(maps), np.zeros(0), "float32", "x", {})
    largest = np.sort([empty.excess(m).max() for m in maps])
    return Calibration("s", ranked, empty.quantiles, largest, "float32", "x", {})


def test_pooling_agrees_with_scipy() -> None:
    residual = torch.rand(2, 20, 23)
    expected = [
        ndimage.uniform_filter(ndimage.minimum_filter(r.numpy(), 3, mode="nearest"), 7, mode="nearest")
        for r in residual
    ]
    assert np.allclose(pooled(residual).numpy(), expected, atol=1e-6)


def test_tail_sum_by_hand() -> None:
    nll = torch.tensor([[[1.0, 8.0], [9.0, 7.0]]])
    # 7 is not above 7: the text's threshold is strict.
    assert tail_sum(nll, 7.0).tolist() == [17.0]
    nll = torch.arange(16.0).reshape(1, 4, 4)
    found = surprise_scores(Surprise(nll, torch.ones_like(nll)), 12.5, 6.0)
    assert found["tail_sum"].item() == 13 + 14 + 15
    assert found["mean_nll"].item() == 7.5
    assert found["nll_minus_entropy"].item() == 6.5
    assert found["typicality"].item() == 1.5
    assert found["local_max"].item() == pytest.approx(np.mean([5, 6, 7, 9, 10, 11, 13, 14, 15]) - 1)


def test_weights_prefer_the_nearer_restoration_and_survive_a_perfect_one() -> None:
    weights = restoration_weights(torch.tensor([[0.10, 0.20, 0.40]]), 3.0)
    expected = np.exp([3 / 0.1, 3 / 0.2, 3 / 0.4])
    assert np.allclose(weights.numpy()[0], expected / expected.sum(), atol=1e-6)
    perfect = restoration_weights(torch.tensor([[0.0, 0.0, 0.1]]), 3.0)
    assert torch.isfinite(perfect).all()
    assert torch.allclose(perfect, torch.tensor([[0.5, 0.5, 0.0]]))


def test_random_draws_belong_to_the_picture() -> None:
    sha = ["ab" * 32, "cd" * 32]
    both = uniforms(sha, 3, (4, 5))
    assert both.shape == (2, 3, 4, 5)
    assert np.array_equal(both[1:], uniforms(sha[1:], 3, (4, 5)))
    # More restorations leave the first ones as they were.
    assert np.array_equal(both, uniforms(sha, 7, (4, 5))[:, :3])
    assert not np.array_equal(both[0], both[1])


def test_restoring_nothing_gives_the_plain_reconstruction(detector) -> None:
    model = detector.model
    image = torch.rand(2, 3, 64, 64)
    codes = model.vqvae.encode(image)
    nothing = torch.zeros_like(codes, dtype=torch.bool)
    done = restore(
        image, codes, model.vqvae, model.priors["masked"], ["aa" * 32, "bb" * 32], restorations=3, where=nothing
    )
    assert torch.equal(done.codes, codes[:, None].expand(-1, 3, -1, -1))
    assert torch.allclose(done.mean, model.vqvae.decode(codes), atol=1e-6)
    assert torch.allclose(done.effective, torch.full((2,), 3.0), atol=1e-4)
    assert done.replaced.tolist() == [0.0, 0.0]
    assert torch.allclose(done.residual, (done.mean - image).abs().mean(1), atol=1e-6)


def test_surprise_map_is_hot_where_the_code_is() -> None:
    nll = torch.zeros(1, 16, 16)
    nll[0, 4, 10] = 9
    found = surprise_map(Surprise(nll, torch.zeros_like(nll)), (128, 128))[0]
    row, column = divmod(int(found.argmax()), 128)
    assert abs(row - 36) <= 4
    assert abs(column - 84) <= 4


def test_complexity_adjustment_removes_what_it_was_fitted_on() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 4))
    score = 3 * features[:, 0] - features[:, 1] ** 2 + 0.1 * generator.normal(size=400)
    adjusted = fit_adjustment(score, features)(score, features)
    assert abs(np.corrcoef(adjusted, features[:, 0])[0, 1]) < 0.01
    assert abs(adjusted.std() - 1) < 1e-6
    with pytest.raises(ValueError, match="at least 30 normal pictures"):
        fit_adjustment(score[:20], features[:20])
    sharp = shape_picture(0)
    blurred = np.asarray(ndimage.gaussian_filter(sharp, (2, 2, 0)))
    assert laplacian_variance(blurred) < laplacian_variance(sharp) / 4
    assert complexity(blurred)[1] < complexity(sharp)[1]


def test_p_values_by_hand() -> None:
    calibration = np.array([1.0, 2.0, 2.0, 3.0])
    assert conformal_p(calibration, 2.0) == 4 / 5
    assert conformal_p(calibration, 3.5) == 1 / 5
    assert conformal_p(calibration, 0.0) == 1.0
    with pytest.raises(ValueError, match="not a number"):
        conformal_p(calibration, math.nan)


def test_the_promised_rate_holds_on_fresh_normals() -> None:
    assert promised_band(0.01, 500, 1000) == [0.002, 0.023]
    assert promised_band(0.05, 500, 1000) == [0.029, 0.075]
    assert promised_band(0.1, 500, 1000) == [0.07, 0.134]
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        calibration = made_calibration(generator.normal(size=500), np.ones((2, 32, 32)))
        fresh = np.array([calibration.p_value(s) for s in generator.normal(size=300)])
        low, high = promised_band(0.05, 500, 300)
        inside += low <= (fresh <= 0.05).mean() <= high
    assert inside / 200 >= 0.92


def test_a_rate_that_cannot_be_promised_is_refused() -> None:
    calibration = made_calibration(np.arange(98.0))
    with pytest.raises(CalibrationError, match="at least 99 calibration images, this model has 98"):
        calibration.check_rate(0.01)
    made_calibration(np.arange(99.0)).check_rate(0.01)
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        calibration.check_rate(0.0)


def test_a_normal_picture_looks_calm() -> None:
    generator = np.random.default_rng(1)
    maps = generator.gamma(2, 1, (400, 32, 32)) * np.linspace(0.5, 3, 32)
    calibration = made_calibration(np.arange(100.0), maps)
    fresh = generator.gamma(2, 1, (400, 32, 32)) * np.linspace(0.5, 3, 32)
    coloured = np.mean([(calibration.excess(m) >= calibration.colour_from).any() for m in fresh])
    assert coloured <= COLOUR_RATE + 0.03
    shares = np.stack([calibration.share(m) for m in fresh])
    assert shares.min() >= 0
    assert shares.max() < 1
    # Shares of fresh normals are uniform at every place, though the scale differs sixfold across the picture.
    assert abs(shares[:, :, :8].mean() - 0.5) < 0.03
    assert abs(shares[:, :, 24:].mean() - 0.5) < 0.03
    assert abs((shares > 0.95).mean() - 0.05) < 0.02


def test_colour_is_full_within_reach_of_a_map_that_ends_at_one() -> None:
    # Probabilities: what few normal pictures reach anywhere lies hardly below the most there can be.
    maps = np.random.default_rng(2).beta(0.3, 2, (1000, 32, 32))
    calibration = made_calibration(np.arange(100.0), maps)
    scale = calibration.coloured(np.array([0.0, calibration.colour_from, np.quantile(calibration.largest, 0.999)]))
    assert np.allclose(scale, [0, 1, 2])
    certain = calibration.coloured(calibration.excess(np.ones((32, 32))))
    assert certain.max() >= 2
    # Beyond full the order stays, for what is looked at first.
    assert (np.diff(calibration.coloured(np.linspace(0, 3 * calibration.colour_from, 50))) > 0).all()
    largest = np.array([calibration.coloured(calibration.excess(m)).max() for m in maps])
    assert np.mean(largest >= 1) == pytest.approx(COLOUR_RATE, abs=0.005)
    assert 0 < np.mean(largest >= 2) <= 0.002


def test_a_region_is_found_where_it_is_and_drawn_back_on_the_input() -> None:
    maps = np.random.default_rng(1).gamma(2, 1, (200, 32, 32))
    calibration = made_calibration(np.arange(100.0), maps)
    hot = np.ones((32, 32))
    hot[8:14, 20:28] = 100.0
    ((mask, p),) = calibration.regions(calibration.excess(hot))
    assert p == pytest.approx(1 / 201)
    assert mask.sum() == 6 * 8
    region = region_of(mask, p, Box(100, 50, 164, 114), (200, 300))
    assert region.box.as_list() == [140, 66, 156, 78]
    assert not calibration.regions(calibration.excess(np.ones((32, 32))))


def test_loaded_networks_are_in_eval_mode(detector) -> None:
    # The original forgot eval(): dropout and batch statistics then change the score.
    assert not detector.model.vqvae.training
    assert not any(prior.training for prior in detector.model.priors.values())
