"""Quantiser, VQ-VAE and both priors: what each may see, and the fast path against the slow one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from pixelsleuth.models.backbone import EfficientNetLite, fold
from pixelsleuth.models.checkpoint import build_prior
from pixelsleuth.models.configuration import PriorConfig, VQVAEConfig
from pixelsleuth.models.masked import MaskedPrior, lattices, random_masks
from pixelsleuth.models.pixelsnail import PixelSNAIL
from pixelsleuth.models.prior import draw
from pixelsleuth.models.quantiser import Quantiser, perplexity
from pixelsleuth.models.share import Share
from pixelsleuth.models.vqvae import VQVAE
from pixelsleuth.training.presets import PRESETS

SNAIL = PriorConfig("pixelsnail", 11, (6, 7), width=16, blocks=2, pairs=2, attention_stride=1, embedding=8)
MASKED = PriorConfig("masked", 11, (6, 7), width=16, blocks=3, heads=2)


def awake(prior: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere: zero-initialised layers would hide a leak."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return prior.eval()


def test_quantiser_on_a_codebook_the_eye_can_check() -> None:
    quantiser = Quantiser(4, 2, decay=None)
    with torch.no_grad():
        quantiser.codebook.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    z = torch.tensor([[0.9, 0.1], [0.2, 0.7], [0.6, 0.9], [-3.0, -1.0]]).T.reshape(1, 2, 2, 2)
    found = quantiser(z)
    assert found.codes.tolist() == [[[1, 2], [3, 0]]]
    assert torch.equal(found.values.flatten(2)[0].T, quantiser.codebook[[1, 2, 3, 0]])
    expected = ((z.flatten(2)[0].T - quantiser.codebook[[1, 2, 3, 0]]) ** 2).mean()
    assert torch.isclose(found.codebook_loss, expected)
    assert torch.isclose(found.commitment_loss, expected)


def test_quantiser_passes_the_gradient_straight_through() -> None:
    quantiser = Quantiser(5, 3, decay=None)
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    pull = torch.randn(2, 3, 4, 4)
    (quantiser(z).values * pull).sum().backward()
    assert torch.allclose(z.grad, pull)


def test_quantiser_agrees_with_another_library() -> None:
    from vector_quantize_pytorch import VectorQuantize

    ours = Quantiser(16, 8, decay=0.9)
    theirs = VectorQuantize(dim=8, codebook_size=16, decay=0.9, accept_image_fmap=True, kmeans_init=False)
    book = torch.randn(16, 8)
    with torch.no_grad():
        ours.codebook.copy_(book)
        ours.started.fill_(True)
        theirs._codebook.embed.copy_(book[None])
    z = torch.randn(3, 8, 5, 5)
    values, codes, _ = theirs.eval()(z)
    found = ours.eval()(z)
    assert torch.equal(found.codes, codes)
    assert torch.allclose(found.values, values, atol=1e-6)


def test_moving_average_codebook_finds_the_clusters_and_revives_dead_codes() -> None:
    torch.manual_seed(0)
    centres = torch.randn(8, 4) * 5
    quantiser = Quantiser(24, 4, decay=0.9).train()
    # Far from everything, so that all but one code start dead.
    quantiser.total.fill_(50.0)
    quantiser.codebook.fill_(50.0)
    quantiser.started.fill_(True)
    for _ in range(200):
        z = centres[torch.randint(8, (64,))] + torch.randn(64, 4) * 0.05
        found = quantiser(z.T.reshape(1, 4, 8, 8))
    distance = torch.cdist(centres, quantiser.codebook).min(1).values
    assert distance.max() < 0.3
    assert perplexity(found.codes, 24)[0] > 7
    assert perplexity(torch.tensor([0, 0, 1, 1]), 4) == (2.0, 0.5)


def test_a_position_reaches_encoder_and_decoder() -> None:
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig(size=32, channels=1, codes=64, widths=(8, 8), context=1)).eval()
    model.quantiser.codebook.normal_()
    image = torch.rand(4, 1, 32, 32)
    low, high = torch.full((4, 1), -0.5), torch.full((4, 1), 0.5)
    assert not torch.equal(model.encode(image, low), model.encode(image, high * 40))
    codes = model.encode(image, low)
    assert not torch.equal(model.decode(codes, low), model.decode(codes, high))
    for wrong in (None, torch.zeros(4, 2)):
        with pytest.raises(ValueError, match="built for 1 scalars of context"):
            model.encode(image, wrong)


@pytest.mark.parametrize("preset", ["fast", "scans", "paper-ffhq", "paper-mood-brain", "paper-mood-abdomen"])
def test_every_preset_builds_and_its_prior_fits_its_grid(preset: str) -> None:
    settings = PRESETS[preset]
    model = VQVAE(settings.vqvae)
    assert model.grid() == settings.priors[0].grid
    image = torch.rand(1, settings.vqvae.channels, settings.vqvae.size, settings.vqvae.size)
    model.eval()
    position = torch.zeros(1, settings.vqvae.context)
    codes = model.encode(image, position)
    assert codes.dtype == torch.int64
    assert int(codes.max()) < settings.vqvae.codes
    assert model.decode(codes, position).shape == image.shape
    if preset == "paper-ffhq":
        prior = build_prior(settings.priors[0])
        # The paper's prior has 12,349,696; window shapes that the text leaves open cost us 1.3%.
        assert abs(sum(p.numel() for p in prior.parameters()) / 12_349_696 - 1) < 0.02


@pytest.mark.parametrize("stride", [1, 2])
def test_pixelsnail_is_causal(stride: int) -> None:
    config = PriorConfig("pixelsnail", 11, (6, 7), width=16, blocks=2, pairs=2, attention_stride=stride, embedding=8)
    prior = awake(PixelSNAIL(config)).double()
    codes = torch.randint(11, (1, 6, 7))
    with torch.no_grad():
        before = prior(codes)
        reached = 0
        for place in range(42):
            changed = codes.clone()
            changed.view(-1)[place] = (changed.view(-1)[place] + 1) % 11
            moved = (prior(changed) - before).abs().amax(1).flatten() > 1e-12
            assert not moved[: place + 1].any(), f"place {place} is seen at or before itself"
            reached += int(moved[place + 1 :].sum())
    # It must also see: otherwise a network that ignores its input would pass.
    assert reached > 0.9 * sum(range(42)) if stride == 1 else reached > 0.4 * sum(range(42))


def test_masked_prior_does_not_see_the_code_it_scores() -> None:
    prior = awake(MaskedPrior(MASKED)).double()
    codes = torch.randint(11, (1, 6, 7))
    partition = lattices((6, 7))
    with torch.no_grad():
        for place in range(42):
            changed = codes.clone()
            changed.view(-1)[place] = (changed.view(-1)[place] + 1) % 11
            hidden = (partition == partition.view(-1)[place]).expand(1, 6, 7)
            before, after = prior(codes, hidden), prior(changed, hidden)
            assert torch.equal(before, after)
        other = codes.clone()
        other[0, 0, 0] = (other[0, 0, 0] + 1) % 11
        seen = (partition != partition[0, 0]).expand(1, 6, 7)
        assert not torch.equal(prior(codes, seen), prior(other, seen))


def test_lattices_are_complementary_and_never_hide_neighbours() -> None:
    partition = lattices((8, 8))
    assert sorted(partition.unique().tolist()) == [0, 1, 2, 3]
    assert (partition[:, 1:] != partition[:, :-1]).all()
    assert (partition[1:] != partition[:-1]).all()
    masks = random_masks(Share.whole(200), (8, 8))
    assert masks.flatten(1).any(1).all()


@pytest.mark.parametrize("config", [SNAIL, MASKED])
def test_log_prob_is_a_distribution(config: PriorConfig) -> None:
    prior = awake(build_prior(config))
    codes = torch.randint(11, (2, 6, 7))
    total = torch.zeros(2)
    for value in range(11):
        changed = codes.clone()
        changed[:, 3, 3] = value
        total += (-prior.log_prob(changed).nll[:, 3, 3]).exp()
    # What is known of a place does not depend on its own code, so its probabilities sum to 1.
    assert torch.allclose(total, torch.ones(2), atol=1e-5)
    seen = prior.log_prob(codes)
    assert (seen.nll >= 0).all()
    assert (seen.entropy >= 0).all()
    assert (seen.entropy <= torch.log(torch.tensor(11.0)) + 1e-5).all()


@pytest.mark.parametrize("config", [SNAIL, MASKED])
def test_nothing_flagged_gives_the_codes_back(config: PriorConfig) -> None:
    prior = awake(build_prior(config))
    codes = torch.randint(11, (2, 6, 7))
    uniforms = torch.rand(2, 3, 6, 7)
    unchanged = codes[:, None].expand(2, 3, 6, 7)
    assert torch.equal(prior.resample(codes, uniforms, above=1e9), unchanged)
    assert torch.equal(prior.resample(codes, uniforms, where=torch.zeros_like(codes, dtype=torch.bool)), unchanged)


@pytest.mark.parametrize("change", [{}, {"attention_stride": 2}, {"embedding": 0}, {"context": 2}])
def test_pixelsnail_restoration_equals_the_direct_algorithm(change: dict[str, int]) -> None:
    prior = awake(PixelSNAIL(replace(SNAIL, **change))).double()
    codes = torch.randint(11, (5, 6, 7))
    scalars = torch.randn(5, 2, dtype=torch.float64)
    uniforms = torch.rand(5, 3, 6, 7, dtype=torch.float64)
    # Rare enough that some grids have their first flagged code below the first row, which the copies share.
    above = float(prior.log_prob(codes, scalars).nll.quantile(0.95))
    fast = prior.resample(codes, uniforms, above=above, scalars=scalars)
    assert torch.equal(fast, prior.resample_directly(codes, uniforms, above, scalars))
    assert 0 < (fast != codes[:, None]).float().mean() < 1


def test_pixelsnail_restoration_in_float32_equals_the_direct_algorithm_but_for_ties() -> None:
    prior = awake(PixelSNAIL(SNAIL))
    codes = torch.randint(11, (8, 6, 7))
    uniforms = torch.rand(8, 4, 6, 7, dtype=torch.float64)
    above = float(prior.log_prob(codes).nll.quantile(0.8))
    fast = prior.resample(codes, uniforms, above=above)
    direct = prior.resample_directly(codes, uniforms, above)
    parts = (fast != direct).flatten(2).any(2)
    # A grid may differ only from a place on where the two codes' probabilities, or the threshold, were a tie.
    assert parts.float().mean() <= 0.05


def test_the_walk_is_not_taken_in_a_reduced_type() -> None:
    prior = awake(PixelSNAIL(SNAIL))
    codes, uniforms = torch.randint(11, (2, 6, 7)), torch.rand(2, 2, 6, 7, dtype=torch.float64)
    where = torch.rand(2, 6, 7) < 0.4
    plain = prior.resample(codes, uniforms, where=where)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(prior.resample(codes, uniforms, where=where), plain)


@pytest.mark.parametrize("config", [SNAIL, MASKED])
def test_only_flagged_codes_change_and_no_batch_matters(config: PriorConfig) -> None:
    prior = awake(build_prior(config)).double()
    codes = torch.randint(11, (4, 6, 7))
    uniforms = torch.rand(4, 3, 6, 7, dtype=torch.float64)
    where = torch.rand(4, 6, 7) < 0.4
    where[2] = False
    where[3, :4] = False
    together = prior.resample(codes, uniforms, where=where)
    kept = ~where[:, None].expand_as(together)
    assert torch.equal(together[kept], codes[:, None].expand_as(together)[kept])
    for copy in range(3):
        assert not torch.equal(together[:, copy], codes)
    assert not torch.equal(together[:, 0], together[:, 1])
    for i in range(4):
        alone = prior.resample(codes[i : i + 1], uniforms[i : i + 1], where=where[i : i + 1])
        assert torch.equal(alone[0], together[i])
        last = prior.resample(codes[i : i + 1], uniforms[i : i + 1, 2:], where=where[i : i + 1])
        assert torch.equal(last[0, 0], together[i, 2])


def test_draw_follows_the_distribution() -> None:
    logits = torch.tensor([0.5, 0.2, 0.3]).log().expand(30_000, 3)
    uniforms = torch.rand(30_000, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(draw(logits, uniforms), minlength=3) / 30_000
    assert torch.allclose(share, torch.tensor([0.5, 0.2, 0.3]), atol=0.01)
    assert int(draw(torch.zeros(3), torch.tensor(0.999999999))) == 2


@pytest.mark.parametrize("kind", ["masked", "pixelsnail"])
def test_scalars_matter_where_they_are_built_in_and_are_looked_at_nowhere_else(kind: str) -> None:
    config = PriorConfig(kind, 11, (6, 7), width=16, blocks=2, pairs=1, heads=2, context=1)
    prior, plain = awake(build_prior(config)), awake(build_prior(replace(config, context=0)))
    codes = torch.randint(11, (2, 6, 7))
    first, second = torch.zeros(2, 1), torch.ones(2, 1)
    assert not torch.allclose(prior.log_prob(codes, first).nll, prior.log_prob(codes, second).nll)
    for wrong in (None, torch.zeros(2, 2), torch.zeros(3, 1)):
        with pytest.raises(ValueError, match=r"scalars: expected \(2, 1\), got"):
            prior.log_prob(codes, wrong)
    assert torch.equal(plain.log_prob(codes, first).nll, plain.log_prob(codes).nll)
    uniforms, everywhere = torch.rand(2, 3, 6, 7), torch.ones_like(codes, dtype=torch.bool)
    drawn = [one.resample(codes, uniforms, where=everywhere, scalars=second) for one in (prior, plain)]
    assert torch.equal(drawn[1], plain.resample(codes, uniforms, where=everywhere))
    assert not torch.equal(drawn[0], prior.resample(codes, uniforms, where=everywhere, scalars=first))
    with pytest.raises(ValueError, match="classes: expected 0, got 3"):
        replace(config, classes=3)


def test_fast_vqvae_is_fully_deterministic_in_eval() -> None:
    model = VQVAE(VQVAEConfig()).eval()
    image = torch.rand(3, 3, 128, 128)
    whole = model.encode(image)
    assert torch.equal(whole[1:2], model.encode(image[1:2]))
    before = model.quantiser.codebook.clone()
    model(image)
    assert torch.equal(before, model.quantiser.codebook)


def test_folded_batch_norms_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    trunk = EfficientNetLite().eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low in (("running_mean", -0.2), ("running_var", 0.5), ("weight", 0.5), ("bias", -0.2)):
                values = getattr(module, name)
                values.data.copy_(low + torch.rand(values.shape, generator=generator))
    image = torch.rand(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        before = trunk(image)
        fold(trunk)
        after = trunk(image)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())
    for one, other in zip(before, after, strict=True):
        assert float(one.abs().max()) > 0.1
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    # Folded again it stays as it is.
    fold(trunk)
    with torch.no_grad():
        assert torch.equal(trunk(image)[2], after[2])
