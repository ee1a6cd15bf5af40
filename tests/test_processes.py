"""Training shared by processes: what is drawn, summed and kept is what one process draws, sums and keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsleuth.models.masked import random_masks
from pixelsleuth.models.share import Share, part_of
from pixelsleuth.training.data import Sampler, StepBatches, Viewed, augmented
from pixelsleuth.training.presets import Stage

ROOT = Path(__file__).parents[1]

#: One of two processes: a codebook that follows its half of each batch, and a masked prior's loss and gradient.
WORK = """
import sys
import torch
import torch.distributed as dist
from pixelsleuth.models.configuration import PriorConfig
from pixelsleuth.models.masked import MaskedPrior
from pixelsleuth.models.quantiser import Quantiser
from pixelsleuth.models.share import Share, part_of

rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
torch.manual_seed(0)
quantiser, prior = Quantiser(16, 4).train(), MaskedPrior(PriorConfig("masked", 16, (4, 4), width=8, blocks=1, heads=2))
batches = torch.randn(12, 7, 4, 4, 4) * torch.linspace(1, 3, 7)[:, None, None, None]
for step, batch in enumerate(batches):
    torch.manual_seed(step)
    part = part_of(7, rank, world)
    # Some entries fall out of use and are drawn anew.
    quantiser(batch[part] + (step > 5) * 9)
codes = torch.randint(16, (7, 4, 4), generator=torch.Generator().manual_seed(1))
share = Share(part.start, part.stop - part.start, 7, torch.Generator().manual_seed(2))
loss = prior.loss(codes[part], share=share)
loss.backward()
found = [quantiser.codebook, quantiser.use, loss.detach()[None], prior.head[-1].weight.grad]
if world > 1:
    for value in found[2:]:
        dist.all_reduce(value)
        value /= world
torch.save(found, f"{folder}/{world}_{rank}.pt")
"""


def test_one_codebook_and_one_loss_whatever_the_number_of_processes(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(rank), str(world), str(tmp_path)], env=os.environ | {"PYTHONPATH": path}
        )
        for world in (1, 2)
        for rank in range(world)
    ]
    assert [run.wait(timeout=240) for run in runs] == [0, 0, 0]
    alone, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1_0", "2_0", "2_1"))
    for ours, theirs, one in zip(first, second, alone, strict=True):
        assert torch.equal(ours, theirs), "the same to the bit in both processes"
        torch.testing.assert_close(ours, one, rtol=1e-4, atol=1e-5)


def test_parts_of_a_batch_are_the_batch() -> None:
    groups = [f"video {k // 10}" for k in range(90)]
    for stage in (Stage(batch=64, groups=8), Stage(batch=7), Stage(batch=32, balance=0.5)):
        sampler = Viewed(Sampler(groups, stage, 0, [f"source {k % 3}" for k in range(90)]), 2)
        for world in (2, 3):
            whole = StepBatches(lambda rows: rows, sampler, 4, 3)
            parts = [StepBatches(lambda rows: rows, sampler, 4, 3, rank, world) for rank in range(world)]
            for step in range(3):
                assert torch.equal(torch.cat([part[step] for part in parts]), whole[step])
        assert len(whole.after(6, 200)) == 1
        assert torch.equal(whole.after(6, 200)[0], whole[2])


@pytest.mark.parametrize("kind", ["flip", "faces", "scans"])
def test_what_is_drawn_hangs_on_the_batch_not_on_the_part(kind: str) -> None:
    image = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def shares(world: int) -> list[Share]:
        parts = [part_of(5, rank, world) for rank in range(world)]
        return [Share(p.start, p.stop - p.start, 5, torch.Generator().manual_seed(3)) for p in parts]

    whole = augmented(image, kind, shares(1)[0])
    parts = [augmented(image[s.first : s.first + s.count], kind, s) for s in shares(2)]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.equal(whole, image)
    masks = [random_masks(share, (8, 8)) for share in shares(2)]
    assert torch.equal(torch.cat(masks), random_masks(shares(1)[0], (8, 8)))


@pytest.mark.slow
def test_two_processes_train_what_one_trains_and_one_goes_on(store: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from experiments.benchmarks.training_processes import LOSSES, compare

    found = compare(store, tmp_path, epochs=25)
    for name in ("one_and_two", "one_and_two_then_one"):
        differences = found[name]
        assert isinstance(differences, dict)
        assert max(differences[f"{part}_loss"] for part in LOSSES) < 3e-2, differences
        assert differences["codebook"] < 3e-2 * differences["codebook_scale"]
        assert np.isfinite(list(differences.values())).all()
