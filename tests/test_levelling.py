"""Scores of images of several origins brought to one level."""

from __future__ import annotations

import numpy as np
import pytest

from pixelsleuth.evaluation.metrics import promised_band
from pixelsleuth.scoring.calibration import conformal_p
from pixelsleuth.scoring.levelling import (
    COMPONENTS,
    MIN_IMAGES,
    can_level,
    cross_levelled,
    fit_levelling,
    levelling_from_tree,
)
from pixelsleuth.training.ranking import left_out_rates

FEATURES = 80


def normals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, appearance and sources of normal images: a quiet source and a loud one that looks otherwise."""
    generator = np.random.default_rng(seed)
    loud = generator.random(count) < 0.5
    looks = generator.normal(size=(count, FEATURES)) + np.where(loud, 3.0, 0.0)[:, None] * (np.arange(FEATURES) < 10)
    scores = np.where(loud, 4.0, 0.0) + np.where(loud, 2.0, 1.0) * generator.normal(size=count)
    return scores, looks, np.where(loud, "loud", "quiet")


def test_what_is_unusual_of_a_quiet_source_is_no_longer_hidden_by_a_loud_one() -> None:
    scores, looks, sources = normals(1500, 0)
    levelling, levelled = cross_levelled({"original": scores}, {"original": looks})
    ranks = np.sort(levelled["original"])
    quiet, about_quiet, _ = (part[sources == "quiet"] for part in (scores, looks, sources))
    odd = levelling(quiet[:100] + 4.0, about_quiet[:100])
    found = np.mean([conformal_p(ranks, float(value)) <= 0.05 for value in odd])
    hidden = np.mean([conformal_p(np.sort(scores), float(value)) <= 0.05 for value in quiet[:100] + 4.0])
    assert hidden < 0.1 < 0.8 < found
    of_each = [np.quantile(levelled["original"][sources == name], (0.05, 0.5, 0.95)) for name in ("quiet", "loud")]
    assert of_each[0] == pytest.approx(of_each[1], abs=1.0)


def test_fresh_normal_images_keep_the_promise_on_each_source() -> None:
    scores, looks, _ = normals(1500, 1)
    levelling, levelled = cross_levelled({"original": scores}, {"original": looks})
    ranks = np.sort(levelled["original"])
    fresh, about, sources = normals(3000, 2)
    p = np.array([conformal_p(ranks, float(value)) for value in levelling(fresh, about)])
    low, high = promised_band(0.05, len(ranks), len(p))
    assert low <= (p <= 0.05).mean() <= high
    for name in ("quiet", "loud"):
        assert 0.02 < (p[sources == name] <= 0.05).mean() < 0.08


def test_of_calibration_images_none_is_levelled_by_a_fit_that_saw_it() -> None:
    # Scores that nothing explains: a fit on the images themselves would make them look closer than fresh ones are.
    generator = np.random.default_rng(3)
    scores, looks = generator.normal(size=MIN_IMAGES), generator.normal(size=(MIN_IMAGES, FEATURES))
    own = fit_levelling(scores, looks)(scores, looks)
    _, levelled = cross_levelled({"original": scores, "again": scores}, {"original": looks, "again": looks})
    fresh = fit_levelling(scores, looks)(generator.normal(size=5000), generator.normal(size=(5000, FEATURES)))
    assert np.std(levelled["original"]) == pytest.approx(np.std(fresh), rel=0.08)
    assert np.std(own) < 0.97 * np.std(fresh)
    assert (levelled["again"] == levelled["original"]).all()


def test_a_levelling_that_was_read_levels_alike_and_far_looks_are_not_extrapolated() -> None:
    scores, looks, _ = normals(MIN_IMAGES, 4)
    levelling = fit_levelling(scores, looks)
    assert levelling.components.shape == (FEATURES, COMPONENTS)
    again = levelling_from_tree(levelling.as_tree())
    assert again is not None
    assert (again(scores, looks) == levelling(scores, looks)).all()
    assert levelling_from_tree(None) is None
    far = levelling(np.zeros(2), np.stack([looks[0] * 1e3, looks[0] * 1e6]))
    assert far[0] == pytest.approx(far[1])


def test_one_source_or_few_images_are_not_levelled() -> None:
    assert can_level(np.array(["a", "b"] * (MIN_IMAGES // 2)))
    assert not can_level(np.array(["a"] * MIN_IMAGES))
    assert not can_level(np.array(["a", "b"] * (MIN_IMAGES // 2 - 1)))


def test_a_source_that_is_left_out_is_levelled_by_the_others_alone() -> None:
    first, looks, _ = normals(1200, 5)
    generator = np.random.default_rng(6)
    # A third source as loud as the loud one, and which looks like it.
    third = 4.0 + 2.0 * generator.normal(size=300)
    about = generator.normal(size=(300, FEATURES)) + 3.0 * (np.arange(FEATURES) < 10)
    scores, appearance = np.concatenate([first, third]), np.concatenate([looks, about])
    sources = np.array([*(["first", "second"] * 600), *["third"] * 300])
    plain, level = left_out_rates(scores, sources), left_out_rates(scores, sources, appearance)
    assert level["third"]["0.05"] < 0.08 < plain["third"]["0.05"]
