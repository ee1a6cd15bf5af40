"""Baselines: what each finds on pictures made at run time, and that `evaluate` compares on the same images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from pixelsleuth.baselines.baseline import SIDE, ComparedCrop, Normality, compared_crop
from pixelsleuth.baselines.features import Features, PaDiM, PatchCore, coreset
from pixelsleuth.baselines.registry import baseline
from pixelsleuth.baselines.supervised import Supervised
from pixelsleuth.baselines.traces import TraceBaseline
from pixelsleuth.baselines.vae import PlainVAE
from pixelsleuth.detector import Detector
from pixelsleuth.errors import PixelsleuthError
from pixelsleuth.evaluation.comparison import Baselines
from pixelsleuth.evaluation.protocol import evaluate
from pixelsleuth.evaluation.scored import scored_of
from pixelsleuth.models.backbone import EfficientNetLite
from pixelsleuth.records import Box
from pixelsleuth.scoring.networks import torch_of
from tests.conftest import shape_picture


def crops_of(seeds: range, anomalous: bool = False) -> list[ComparedCrop]:
    return [compared_crop(shape_picture(seed, anomalous), Box(0, 0, 64, 64)) for seed in seeds]


def test_a_crop_is_compared_at_one_size_and_in_whole_blocks() -> None:
    crop = compared_crop(shape_picture(0), Box(10, 18, 30, 38))
    assert crop.square.shape == (SIDE, SIDE, 3)
    # From 8 to 32 across and from 16 to 40 down: the blocks that hold the box.
    assert (crop.native == shape_picture(0)[16:40, 8:32]).all()


def test_distance_is_scipys_where_nothing_is_shrunk() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(50, 4)) @ generator.normal(size=(4, 4))
    found = Normality(features, shrinkage=1e-9).distance(features[:3])
    precision = np.linalg.inv(np.cov(features, rowvar=False))
    assert found == pytest.approx([mahalanobis(row, features.mean(0), precision) for row in features[:3]], rel=1e-5)


def test_a_coreset_takes_the_farthest() -> None:
    points = torch.tensor([[0.0, 0], [1, 0], [10, 0], [0, 6]])
    assert coreset(points, 3).tolist() == [0, 2, 3]


@pytest.mark.parametrize("name", ["padim", "patchcore", "noise_residual"])
def test_a_pasted_square_stands_out_in_score_and_map(name: str) -> None:
    torch.manual_seed(0)
    made = {
        "padim": lambda: PaDiM(name, Features(EfficientNetLite())),
        "patchcore": lambda: PatchCore(name, Features(EfficientNetLite())),
        "noise_residual": lambda: TraceBaseline(name),
    }[name]()
    made.fit(crops_of(range(12)))
    normal, altered = made.compare(crops_of(range(100, 104))), made.compare(crops_of(range(200, 204), anomalous=True))
    assert np.median(altered.scores[name]) > normal.scores[name].max()
    # One alone scores as it does among others.
    (alone,) = made.compare(crops_of(range(200, 201), anomalous=True)).scores[name]
    assert alone == pytest.approx(altered.scores[name][0], rel=1e-4)
    assert altered.maps[name].shape[0] == 4
    assert altered.maps[name].max() > normal.maps[name].max()


def test_a_vae_gives_a_residual_and_a_bound() -> None:
    vae = PlainVAE(steps=2)
    vae.fit(crops_of(range(4)))
    found = vae.compare(crops_of(range(3)))
    assert {name: values.shape for name, values in found.scores.items()} == {"vae_residual": (3,), "vae_elbo": (3,)}
    image = torch.rand(2, 3, 128, 128)
    assert torch.equal(vae.network.reconstruct(image), vae.network.posterior(image)[0].clamp(0, 1))


@pytest.mark.parametrize("name", ["supervised_patches", "supervised_attention"])
def test_a_supervised_reference_learns_what_it_is_shown(name: str) -> None:
    clean, altered = (np.stack([shape_picture(i, bad)[:64, :64] for i in range(24)]) for bad in (False, True))
    masks = (clean != altered).any(3)
    made = Supervised(name, steps=30)
    made.teach_on(np.stack([clean, altered], 1), masks)
    (normal, _), (found, places) = made.classified(clean[:8]), made.classified(altered[:8])
    assert np.median(found) > np.median(normal)
    assert places.shape == (8, 16, 16) if name == "supervised_patches" else (8, 8, 8)


def test_evaluate_compares_on_the_same_images(shapes: Path, detector: Detector, tmp_path: Path) -> None:
    for kind, count in (("real", 12), ("fake", 8), ("masks", 8)):
        (tmp_path / kind).mkdir()
        for path in sorted((shapes / "test" / kind).iterdir())[:count]:
            shutil.copy(path, tmp_path / kind)
    result = evaluate(
        detector, tmp_path / "real", tmp_path / "fake", masks=tmp_path / "masks",
        baselines=Baselines(("noise_residual", "spectrum", "blur")),
    )  # fmt: skip
    found = result.metrics
    assert {"baseline_noise_residual", "baseline_spectrum_power", "baseline_spectrum_phase"} <= set(found["scores"])
    assert {"auroc", "ap"} <= set(found["differences"]["baseline_spectrum_power"])
    assert "baseline_noise_residual" in found["pixel"]
    assert "baseline_noise_residual" in scored_of(result).scores
    # Fitted on a folder, the scores are others: the images judged are not learned from.
    again = evaluate(
        detector, tmp_path / "real", tmp_path / "fake", maps=False,
        baselines=Baselines(("noise_residual",), shapes / "val/real"),
    )  # fmt: skip
    one, other = (run.cases[0].compared["noise_residual"] for run in (result, again))
    assert one != other


def test_an_unknown_baseline_is_named_with_those_known(detector: Detector) -> None:
    with pytest.raises(PixelsleuthError, match=r"^compare: expected a model folder or one of vae, .*got 'pacore'"):
        baseline("pacore", torch_of(detector.scorer).model)
