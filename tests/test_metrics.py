"""Metrics against scikit-learn, intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from pixelsleuth.evaluation import metrics


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.random(300) < 0.4
    # Rounded, so that there are many ties.
    return np.round(generator.normal(size=300) + labels, 1), labels


def ones(count: int) -> np.ndarray:
    return np.ones((1, count))


def test_image_metrics_agree_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    counts = metrics.image_counts(scores, labels, ones(300))
    assert metrics.auroc(counts)[0] == pytest.approx(roc_auc_score(labels, scores))
    assert metrics.average_precision(counts)[0] == pytest.approx(average_precision_score(labels, scores))
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate in (0.01, 0.05, 0.3):
        assert metrics.tpr_at(counts, rate)[0] == pytest.approx(tpr[fpr <= rate].max())


def test_a_resample_equals_scikit_learn_on_the_drawn_items(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    weights = metrics.resample_weights([str(i) for i in range(300)], labels.astype(int))
    counts = metrics.image_counts(scores, labels, weights)
    drawn = np.repeat(np.arange(300), weights[7].astype(int))
    assert metrics.auroc(counts)[7] == pytest.approx(roc_auc_score(labels[drawn], scores[drawn]))
    assert metrics.average_precision(counts)[7] == pytest.approx(average_precision_score(labels[drawn], scores[drawn]))
    assert (weights[:, labels].sum(1) == labels.sum()).all()


def test_pairs_are_drawn_together() -> None:
    weights = metrics.resample_weights(["a", "b", "a", "b", "c"], None)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 3]).all()
    assert not (weights[:, 0] == weights[:, 1]).all()
    assert (weights[0] == 1).all()


def test_pixel_metrics_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    masks = [generator.random((24, 24)) < 0.2 for _ in range(5)]
    maps = [generator.normal(size=(24, 24)) + m for m in masks]
    edges = metrics.pixel_edges(maps)
    counts = metrics.pixel_counts(maps, masks, ones(5), edges)
    truth, values = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])
    assert metrics.auroc(counts)[0] == pytest.approx(roc_auc_score(truth, values), abs=2e-3)
    assert metrics.average_precision(counts)[0] == pytest.approx(average_precision_score(truth, values), abs=5e-3)
    at = 300
    assert metrics.dice(counts)[0, at] == pytest.approx(f1_score(truth, values >= edges[at - 1]), abs=1e-9)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(60):
        labels = np.arange(200) < 100
        scores = generator.normal(size=200) + labels * 0.5
        weights = metrics.resample_weights([str(i) for i in range(200)], labels.astype(int), trial)
        _, low, high = metrics.interval(metrics.auroc(metrics.image_counts(scores, labels, weights)))
        covered += low <= 0.6382 <= high
    assert covered >= 51


def test_no_signal_gives_an_interval_around_a_half() -> None:
    generator = np.random.default_rng(5)
    labels = np.arange(400) < 200
    weights = metrics.resample_weights([str(i) for i in range(400)], labels.astype(int))
    _, low, high = metrics.interval(metrics.auroc(metrics.image_counts(generator.normal(size=400), labels, weights)))
    assert low < 0.5 < high
    assert high - low < 0.15
