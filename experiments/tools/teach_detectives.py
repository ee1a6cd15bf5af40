"""Teach several deep detectives from one stream of forged pairs on a GPU: the one to bundle, and those it is compared
with.

    python experiments/tools/teach_detectives.py STORE OUT --minutes 8 --trunk imagenet.safetensors
    python experiments/tools/teach_detectives.py STORE OUT --minutes 8 --begin OUT/main_256.safetensors

Forging takes the processor's cores, teaching the GPU; so the comparison costs little beside the bundled one. The first
two, at 256 and at 192 px, see every pair. The students see a sample each, all the same number of steps, at 192 px:

    reference      all sources, all kinds, both pictures through the camera's chain, ImageNet's trunk
    without_X      no face of source X: what it says of X is what the tool says of a source never seen
    no_pretrained  the trunk begins at random
    two_sources    DFDC and UTKFace alone
    no_landmarks   irregular patches alone, no shape that follows the face
    no_camera      pictures as they are: no tone, blur, noise, scaling or compression

With `--begin`, `longer_256` goes on from a detective that was taught before, and no students are taught. Every step has
as many pairs again that were seen before, mirrored, turned, moved, toned and grained anew on the GPU.

Learning rates fall by the clock (half a cosine over `--minutes`), so that a slower machine ends as well, only earlier.
`--trunk` is a file of pixelsleuth.models.backbone.imagenet_weights() (`--save-trunk` writes it). Written to OUT:
NAME.safetensors, averaged weights, float16; figures.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pixelsleuth.datasets.store import Store
from pixelsleuth.files import whole_file, write_text
from pixelsleuth.models.backbone import imagenet_weights
from pixelsleuth.models.configuration import DetectiveConfig
from pixelsleuth.models.detective import DEEP_STRIDE, DeepDetective
from pixelsleuth.synthesis.face_edits import SHARES
from pixelsleuth.training.data import Sampler, to_float
from pixelsleuth.training.pairs import PairSettings, PairSource
from pixelsleuth.training.presets import Stage
from pixelsleuth.training.stages import deep_detective_loss

#: Sources that count as one when one is left out.
ORIGINS = {
    "dfdc": ("faces_dfdc",),
    "utk": ("faces_utk", "utk_children", "utk_old"),
    "all_age": ("all_age_faces", "all_age_faces_more"),
    "mebeauty": ("mebeauty", "mebeauty_more"),
    "web_gender": ("web_gender", "web_gender_more"),
    "expressions": ("expressions",),
}
PATCHES = ("patched", "donor_patched")
#: Every so many pairs, one is left as it is, for the student that is taught without the camera's chain.
UNTREATED_EVERY = 10


@dataclass(frozen=True)
class Student:
    """Which pairs one detective learns from; empty: all."""

    name: str
    size: int = 192
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    treated: bool = True
    pretrained: bool = True


MAIN = (Student("main_256", 256), Student("main_192"))
LONGER = Student("longer_256", 256)
STUDENTS = (
    Student("reference"),
    *(Student(f"without_{name}", without=sources) for name, sources in ORIGINS.items()),
    Student("no_pretrained", pretrained=False),
    Student("two_sources", only=("faces_dfdc", "faces_utk")),
    Student("no_landmarks", kinds=PATCHES),
    Student("no_camera", treated=False),
)


class Stream(IterableDataset):
    """Batches of pairs without end: pixels (2 B, S, S, 3) uint8, masks (B, h, w) float32, and of each pair the numbers
    of its source and kind, and whether it passed the camera's chain, (B, 3) int64."""

    def __init__(self, path: Path, batch: int, size: int, seed: int, untreated: bool) -> None:
        with Store(path) as store:
            rows = store.rows("train")
            rows = rows[[store.landmarks(int(row)) is not None for row in rows]]
            origins = store.sources(rows)
        self.sources = sorted(set(origins))
        self.origin = np.array([self.sources.index(name) for name in origins])
        self.kinds = list(SHARES)
        settings = PairSettings(size, DEEP_STRIDE, dict(SHARES), seed)
        self.treated = PairSource(path, rows, settings)
        self.plain = PairSource.__new__(PairSource)
        self.plain.__dict__ |= {**self.treated.__dict__, "settings": PairSettings(**{**vars(settings), "treat": False})}
        self.untreated = untreated
        self.sampler = Sampler([""] * len(rows), Stage(batch=batch, balance=0.5), seed, origins)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        # One thread a worker: there are as many workers as cores.
        cv2.setNumThreads(1)
        worker = get_worker_info()
        step, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        while True:
            yield self.batch(step)
            step += stride

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = self.sampler.rows(step)
        pairs, about = [], []
        for place, row in enumerate(rows):
            number = step * len(rows) + place
            treated = number % UNTREATED_EVERY > 0 or not self.untreated
            pair = (self.treated if treated else self.plain).pair(int(row), number)
            pairs.append(pair)
            about.append((self.origin[row], self.kinds.index(pair.kind), treated))
        pixels = np.stack([p.picture for p in pairs] + [p.forgery for p in pairs])
        return torch.from_numpy(pixels), torch.from_numpy(np.stack([p.mask for p in pairs])), torch.tensor(about)


class Replay:
    """Pairs that were seen before, kept on the GPU; a new one takes the place of the oldest."""

    def __init__(self, most: int, size: int, device: str) -> None:
        self.pixels = torch.empty(2, most, size, size, 3, dtype=torch.uint8, device=device)
        self.mask = torch.empty(most, size // DEEP_STRIDE, size // DEEP_STRIDE, device=device)
        self.chance = torch.Generator(device).manual_seed(1)
        self.most, self.kept = most, 0

    def joined(self, image: Tensor, altered: Tensor, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """New pairs, (2 B, 3, S, S) float32 and (B, h, w), and as many from before; keeps the new ones, of which
        `pixels` are (2 B, S, S, 3) uint8."""
        count, device = len(mask), self.mask.device
        rows = torch.randint(max(1, min(self.kept, self.most)), (count,), generator=self.chance, device=device)
        self._add(pixels, mask)
        again, masks = self._varied(to_float(self.pixels[:, rows].flatten(0, 1)), self.mask[rows])
        parts = zip(image.chunk(2), again.chunk(2), strict=True)
        return torch.cat([part for pair in parts for part in pair]), torch.cat([altered, masks])

    def _add(self, pixels: Tensor, mask: Tensor) -> None:
        rows = (torch.arange(len(mask), device=self.mask.device) + self.kept) % self.most
        self.pixels[:, rows], self.mask[rows] = pixels.unflatten(0, (2, -1)), mask
        self.kept += len(mask)

    def _varied(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Half of the pairs mirrored, half turned, moved and scaled a little, tone and grain of all changed; both
        pictures of a pair alike."""
        count, device = len(mask), mask.device

        def drawn(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(count, *shape, generator=self.chance, device=device)

        moved = (drawn(0, 1) < 0.5).float()
        side = 1 - 2 * (drawn(0, 1) < 0.5).float()
        angle, scale = moved * drawn(-0.07, 0.07), 1 + moved * drawn(-0.1, 0.05)
        shift = moved[:, None] * drawn(-0.05, 0.05, 2)
        cosine, sine = scale * angle.cos(), scale * angle.sin()
        rows = [torch.stack([side * cosine, -sine, shift[:, 0]], 1), torch.stack([side * sine, cosine, shift[:, 1]], 1)]
        turn = torch.stack(rows, 1)
        image = _resampled(image, turn.repeat(2, 1, 1))
        mask = _resampled(mask[:, None], turn)[:, 0].clamp(0, 1)
        gamma, gain, lift = drawn(0.8, 1.25, 1, 1, 1), drawn(0.85, 1.15, 3, 1, 1), drawn(-0.05, 0.05, 1, 1, 1)
        grain = drawn(0, 0.015, 1, 1, 1) * (drawn(0, 1, 1, 1, 1) < 0.3)
        noise = torch.randn(image[:count].shape, generator=self.chance, device=device)
        image = (image.clamp(0, 1) ** gamma.repeat(2, 1, 1, 1) - 0.5) * gain.repeat(2, 1, 1, 1) + 0.5
        return (image + (lift + noise * grain).repeat(2, 1, 1, 1)).clamp(0, 1), mask


def _resampled(values: Tensor, turn: Tensor) -> Tensor:
    grid = F.affine_grid(turn, list(values.shape), align_corners=False)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


class Pupil:
    """One detective that is being taught."""

    def __init__(
        self, student: Student, begun: dict[str, Tensor], rate: float, decay: float, device: str, whole: bool = False
    ) -> None:
        """`begun` is of a trunk, or of a `whole` detective."""
        torch.manual_seed(0)
        self.student, self.rate, self.steps, self.pairs = student, rate, 0, 0
        self.network = DeepDetective(DetectiveConfig(kind="deep", size=student.size, pretrained=student.pretrained))
        if whole:
            self.network.load_state_dict(begun)
        elif student.pretrained:
            self.network.trunk.load_state_dict(begun)
        self.network.to(device, memory_format=torch.channels_last).train()
        self.averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.averaged.requires_grad_(False)
        parameters = self.network.parameters()
        self.optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, fused=device == "cuda")
        self.losses: list[Tensor] = []

    def admits(self, about: Tensor, sources: list[str], kinds: list[str]) -> Tensor:
        """(B,) bool, which pairs of `about` (B, 3) it may learn from."""
        student = self.student
        good = about[:, 2] == int(student.treated)
        if student.without or student.only:
            known = [(not student.only or s in student.only) and s not in student.without for s in sources]
            good &= torch.tensor(known)[about[:, 0]]
        if student.kinds:
            good &= torch.tensor([k in student.kinds for k in kinds])[about[:, 1]]
        return good

    def learn(self, image: Tensor, mask: Tensor, done: float) -> None:
        """One step on (2 B, 3, S, S) float32 and (B, h, w), `done` in [0, 1] of the time being over."""
        warm = min(1.0, (self.steps + 1) / 50)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * warm * max(0.01, 0.5 + 0.5 * math.cos(math.pi * done))
        size = self.student.size
        if image.shape[2] != size:
            image = F.interpolate(image, (size, size), mode="bilinear", antialias=True, align_corners=False)
            mask = F.adaptive_avg_pool2d(mask[:, None], size // DEEP_STRIDE)[:, 0]
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, torch.bfloat16):
            places, whole = self.network(image)
        loss, parts = deep_detective_loss(places.float(), whole.float(), mask)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.averaged.update_parameters(self.network)
        self.steps += 1
        self.pairs += len(mask)
        self.losses.append(torch.stack([loss.detach(), parts["ranked"]]))

    def recent(self) -> list[float]:
        """Mean loss and share of pairs in the right order since the last time asked."""
        if not self.losses:
            return []
        found = torch.stack(self.losses).mean(0).tolist()
        self.losses.clear()
        return [round(v, 4) for v in found]

    def save(self, folder: Path) -> None:
        _save_half(self.averaged.module.state_dict(), folder / f"{self.student.name}.safetensors")


def _save_half(state: dict[str, Tensor], path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    with whole_file(path) as partial:
        save_file({k: v.detach().cpu().contiguous() for k, v in half.items()}, partial)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--batch", type=int, default=96, help="pairs in a step of the first two")
    parser.add_argument("--trunk", type=Path, help="file of ImageNet's weights; default: the installed package's")
    parser.add_argument("--begin", type=Path, help="weights of a detective to go on from, figures.json beside it")
    parser.add_argument("--replays", type=int, default=60_000, help="pairs kept for that, 0.4 MB each on the GPU")
    parser.add_argument("--save-trunk", type=Path, help="only write that file")
    options = parser.parse_args()
    if options.save_trunk:
        _save_half(imagenet_weights(), options.save_trunk)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(2)
    if options.begin:
        earlier = json.loads(options.begin.with_name("figures.json").read_text())["pairs"][options.begin.stem]
        begun = {k: v.float() if v.is_floating_point() else v for k, v in load_file(options.begin).items()}
        mains = [Pupil(LONGER, begun, 8e-4, 0.998, device, whole=True)]
        students = []
    else:
        trunk = load_file(options.trunk) if options.trunk else imagenet_weights()
        mains = [Pupil(student, trunk, 8e-4, 0.999, device) for student in MAIN]
        students = [Pupil(student, trunk, 6e-4, 0.99, device) for student in STUDENTS]
    stream = Stream(options.store, options.batch, MAIN[0].size, 0 if students else 1, untreated=bool(students))
    loader = DataLoader(stream, batch_size=None, num_workers=options.workers, prefetch_factor=2, pin_memory=True)
    options.out.mkdir(parents=True, exist_ok=True)
    figures = _teach(mains, students, stream, loader, options, device)
    for pupil in (*mains, *students):
        pupil.save(options.out)
    if options.begin:
        # Half of what it saw were pairs seen before.
        figures["pairs"] = {LONGER.name: earlier + mains[0].pairs // 2}
    write_text(options.out / "figures.json", json.dumps(figures, indent=1))
    print(json.dumps({k: v for k, v in figures.items() if k != "curve"}))


def _teach(
    mains: list[Pupil], students: list[Pupil], stream: Stream, loader: Any, options: argparse.Namespace, device: str
) -> dict[str, Any]:
    """Teaches until the minutes are over; gives counts, speed and the curve of losses."""
    kept: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=len(students))
    chance = torch.Generator().manual_seed(0)
    together = options.batch - (math.ceil(options.batch / UNTREATED_EVERY) if students else 0)
    replay = None if students else Replay(options.replays, MAIN[0].size, device)
    curve, steps, start, told = [], 0, 0.0, 0.0
    for batch in loader:
        start = start or time.perf_counter()
        done = (time.perf_counter() - start) / (60 * options.minutes)
        if done >= 1:
            break
        # What is chosen by is left on the processor: asking the GPU would make each wait for the other.
        pixels, mask, about = *(part.to(device, non_blocking=True) for part in batch[:2]), batch[2]
        # Always as many: on a GPU every new shape costs seconds of choosing kernels.
        treated = about[:, 2].nonzero()[:together, 0]
        both = torch.cat([treated, treated + len(about)]).to(device, non_blocking=True)
        image, altered = to_float(pixels[both]), mask[both[: len(treated)]]
        if replay:
            image, altered = replay.joined(image, altered, pixels, mask)
        for pupil in mains:
            pupil.learn(image, altered, done)
        kept.append((pixels, mask, about))
        # Each student's turn comes once in as many steps as there are students, and it picks from all pairs since.
        if students and len(kept) == kept.maxlen:
            pupil = students[steps % len(students)]
            picked, where = _picked(pupil, kept, stream, together, chance)
            pupil.learn(to_float(picked), where, done)
        steps += 1
        if time.perf_counter() - told > 15:
            told = time.perf_counter()
            curve.append({"seconds": round(told - start), "steps": steps} | {p.student.name: p.recent() for p in mains})
            print(curve[-1], flush=True)
            # A lent machine may be taken back.
            for pupil in mains:
                pupil.save(options.out)
    seconds = time.perf_counter() - start
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "seconds": round(seconds, 1),
        "pairs_per_second": round(steps * options.batch / seconds, 1),
        "pairs": {p.student.name: p.pairs for p in (*mains, *students)},
        "last": {p.student.name: p.recent() for p in students},
        "curve": curve,
    }


def _picked(
    pupil: Pupil, kept: deque[tuple[Tensor, Tensor, Tensor]], stream: Stream, count: int, chance: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`count` of the kept pairs that a pupil may learn from, drawn at random; some twice where there are too few."""
    about = torch.cat([part for _, _, part in kept])
    rows = pupil.admits(about, stream.sources, stream.kinds).nonzero()[:, 0]
    order = torch.randperm(len(rows), generator=chance)
    rows = rows[torch.cat([order] * math.ceil(count / len(rows)))[:count]]
    size = len(kept[0][1])
    pixels = [kept[r // size][0][[r % size, r % size + size]] for r in rows.tolist()]
    mask = torch.stack([kept[r // size][1][r % size] for r in rows.tolist()])
    # Pictures first, then their forgeries.
    return torch.stack(pixels, 1).flatten(0, 1), mask


if __name__ == "__main__":
    main()
