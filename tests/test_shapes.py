"""The check of shapes that the whole suite runs under sees what it is there to see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Float

from pixelsleuth.evaluation import metrics
from pixelsleuth.models.quantiser import Quantiser
from tests.shapes import PROMISED, checked

pytestmark = pytest.mark.skipif("config.getoption('--skip-shapes')", reason="shapes are not checked in this run")


def test_a_wrong_shape_or_type_is_told() -> None:
    quantiser = Quantiser(8, 4).eval()
    assert quantiser.nearest(torch.randn(5, 4)).shape == (5,)
    with pytest.raises(TypeError, match=r"Quantiser.nearest, vectors: expected .*got torch.float32 \(5,\)"):
        quantiser.nearest(torch.randn(5))
    with pytest.raises(TypeError, match="look_up, codes"):
        quantiser.look_up(torch.zeros(1, 2, 2, dtype=torch.int32))


def test_one_letter_is_one_length_within_a_call() -> None:
    with pytest.raises(TypeError, match="image_counts, weights"):
        metrics.image_counts(np.zeros(3), np.zeros(3, bool), np.ones((2, 4)))
    answer = checked(lambda x: x[:-1], {"x": Float[np.ndarray, "n"], "return": Float[np.ndarray, "n"]}, "shorter")
    with pytest.raises(TypeError, match="shorter, return"):
        answer(np.zeros(3))


def test_every_promise_names_what_there_is() -> None:
    assert len(PROMISED) > 30
    assert metrics.auroc.__wrapped__ is not metrics.auroc
