"""For the light detective: make forgeries of normal training images, each paired with its original.

Both pass the same re-encoding at the end, so that nothing global tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import torch

from pixelsleuth.datasets.store import Store
from pixelsleuth.models.checkpoint import Model
from pixelsleuth.models.prior import Prior
from pixelsleuth.records import Box
from pixelsleuth.scoring import draws
from pixelsleuth.scoring.complexity import laplacian_variance
from pixelsleuth.sources import faces
from pixelsleuth.sources.images import jpeg_round_trip
from pixelsleuth.synthesis import anomalies

BATCH = 64
MIN_PARALLEL = 200
#: Pictures among which a donor is sought: the one that looks most alike.
CANDIDATES = 200
#: Side, in pixels, of the thumbnails they are compared by.
THUMBNAIL = 12


@dataclass(frozen=True)
class Forged:
    """N pairs of a picture and a forgery made of it, the picture first.

    Attributes:
        pixels: (N, 2, size, size, 3) uint8; alike but for the mask and what re-encoding did.
        mask: (N, size, size) bool, where the forgery was altered.
        kind: (N,) of synthesis.anomalies.KINDS, of slices of synthesis.lesions.KINDS.
        scalars: (N, n) float32, what networks are told beside the pictures: of slices their position, else none.
        close: the pixels at the size a detective sees; None where that is the same.
        usual: (N, 2, size, size, 1) float16, standard scores against the atlas; None for none.
    """

    pixels: np.ndarray
    mask: np.ndarray
    kind: np.ndarray
    scalars: np.ndarray
    close: np.ndarray | None = None
    usual: np.ndarray | None = None


@dataclass(frozen=True)
class _Job:
    """One forgery to make, in a process of its own."""

    crop: np.ndarray
    kind: str
    seed: tuple[int, ...]
    sizes: tuple[int, int]
    alpha: np.ndarray
    donor: np.ndarray | None
    made: np.ndarray | None


def forge(
    model: Model,
    store: Store,
    rows: np.ndarray,
    kinds: Sequence[str],
    seed: int,
    scale: int = 1,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Forged:
    """Forge each image of `rows` once, the kind drawn from `kinds`; the same for the same seed.

    Args:
        scale: how many times the store's size a detective sees (see DetectiveConfig).

    Raises:
        ValueError: an unknown kind, or fewer than two pictures.
    """
    unknown = sorted(set(kinds) - set(anomalies.KINDS))
    if unknown:
        raise ValueError(f"kind: expected some of {', '.join(anomalies.KINDS)}; got {unknown[0]!r}")
    if len(rows) < 2:
        raise ValueError(f"rows: expected at least 2 pictures, one to forge and a donor; got {len(rows)}")
    size = store.size
    generator = np.random.default_rng((seed, 0))
    kind = np.array(kinds)[generator.integers(len(kinds), size=len(rows))]
    thumbnails = _thumbnails(store, rows)
    pixels = np.zeros((len(rows), 2, size, size, 3), np.uint8)
    mask = np.zeros((len(rows), size, size), bool)
    close = np.zeros((len(rows), 2, scale * size, scale * size, 3), np.uint8) if scale > 1 else None
    with ExitStack() as stack:
        each: Callable[[list[_Job]], Iterable[Any]] = partial(map, _made)
        # Starting processes takes longer than a few pairs.
        if workers > 1 and len(rows) >= MIN_PARALLEL:
            pool = stack.enter_context(get_context("spawn").Pool(workers))
            each = partial(pool.imap, _made, chunksize=4)
        for start in range(0, len(rows), BATCH):
            batch = range(start, min(start + BATCH, len(rows)))
            jobs = _jobs(model, store, rows, kind, thumbnails, seed, scale, batch)
            for i, (pairs, where) in enumerate(each(jobs), start):
                mask[i] = where
                for k, (square, near) in enumerate(pairs):
                    pixels[i, k] = square
                    if close is not None:
                        close[i, k] = near
            progress(min(start + BATCH, len(rows)), len(rows))
    return Forged(pixels, mask, kind, np.zeros((len(mask), 0), np.float32), close)


def _thumbnails(store: Store, rows: np.ndarray) -> np.ndarray:
    """(N, THUMBNAIL, THUMBNAIL, 3) float32 of the inner face."""
    found = []
    for start in range(0, len(rows), 512):
        for pixels in store.pixels(rows[start : start + 512]):
            found.append(cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
    return np.stack(found).astype(np.float32)


def _jobs(
    model: Model, store: Store, rows: np.ndarray, kind: np.ndarray, thumbnails: np.ndarray, seed: int, scale: int,
    batch: range,
) -> list[_Job]:  # fmt: skip
    size = store.size
    alphas, donors = {}, {}
    # Whose codes the networks work on: the picture's own, or a donor's.
    worked_on = {i: int(rows[i]) for i in batch if kind[i] in anomalies.MODEL_KINDS}
    for i in batch:
        generator = np.random.default_rng((seed, 1, int(rows[i])))
        whole = kind[i] in ("donor_face", *anomalies.FACE_KINDS) or (
            kind[i] in ("self_blend", "reconstruction_blend", "restoration_blend") and generator.random() < 0.3
        )
        alphas[i] = (
            anomalies.face_shape((size, size), generator)
            if whole
            else anomalies.soft_blob((size, size), generator, float(generator.uniform(0.01, 0.12)))
        )
        if kind[i] in (*anomalies.DONOR_KINDS, "generated_face"):
            others = generator.integers(len(rows), size=min(CANDIDATES, len(rows)))
            others = others[others != i]
            near = ((thumbnails[others] - thumbnails[i]) ** 2).mean((1, 2, 3))
            row = int(rows[others[int(near.argmin())]])
            if i in worked_on:
                worked_on[i] = row
            else:
                donors[i] = store.crop(row)
    made = _model_made(model, store, worked_on, kind, alphas, seed)
    return [
        _Job(
            store.crop(int(rows[i])), str(kind[i]), (seed, 2, int(rows[i])), (size, scale * size),
            alphas[i], donors.get(i), made.get(i),
        )
        for i in batch
    ]  # fmt: skip


@torch.no_grad()
def _model_made(
    model: Model, store: Store, worked_on: dict[int, int], kind: np.ndarray, alphas: dict[int, np.ndarray], seed: int
) -> dict[int, np.ndarray]:
    """What the networks make of the rows that are `worked_on`: a reconstruction, or a restoration of the codes under
    alpha."""
    if not worked_on:
        return {}
    which, rows = list(worked_on), list(worked_on.values())
    images = torch.from_numpy(store.pixels(rows)).permute(0, 3, 1, 2).float() / 255
    codes = model.vqvae.encode(images.contiguous(memory_format=torch.channels_last))
    grid = (int(codes.shape[1]), int(codes.shape[2]))
    where = torch.from_numpy(
        np.stack([cv2.resize(alphas[i], grid[::-1], interpolation=cv2.INTER_AREA) > 0.3 for i in which])
    )
    where &= torch.from_numpy(kind[which] == "restoration_blend")[:, None, None]
    prior: Prior = next(iter(model.priors.values()))
    uniforms = torch.from_numpy(draws.uniforms([f"{seed:032x}{row:032x}"[::-1] for row in rows], 1, grid))
    drawn = prior.resample(codes, uniforms, where=where)[:, 0]
    decoded = model.vqvae.decode(drawn).permute(0, 2, 3, 1).mul(255).round().byte().numpy()
    return dict(zip(which, decoded, strict=True))


def _made(job: _Job) -> tuple[list[tuple[np.ndarray, np.ndarray | None]], np.ndarray]:
    """The picture and its forgery, at the store's size and the detective's, and the mask at the store's."""
    cv2.setNumThreads(1)
    generator = np.random.default_rng(job.seed)
    ours = job.crop
    shape = (ours.shape[1], ours.shape[0])
    alpha = cv2.resize(job.alpha, shape, interpolation=cv2.INTER_LINEAR)
    if job.kind in anomalies.OWN_KINDS:
        edited = anomalies.own_kind(ours, job.kind, alpha, generator)
    elif job.donor is not None:
        theirs = cv2.resize(job.donor, shape, interpolation=cv2.INTER_CUBIC)
        if generator.random() < 0.5:
            theirs = anomalies.softened(theirs, generator.uniform(1.2, 2.5))
        # A swap's colours are matched well; a patch pasted by hand not always.
        match = 1.0 if job.kind == "donor_face" else float(generator.choice([0.0, 0.5, 1.0]))
        edited = (
            anomalies.poisson_blended(ours, theirs, alpha > 0.5)
            if job.kind == "donor_poisson"
            else anomalies.laid_over(ours, theirs, alpha, match)
        )
    else:
        assert job.made is not None
        theirs = cv2.resize(job.made, shape, interpolation=cv2.INTER_CUBIC)
        edited = anomalies.laid_over(ours, theirs, alpha, float(job.kind == "generated_face"))
    both = [ours, edited.pixels]
    if job.kind in anomalies.FACE_KINDS:
        # A generator's face is soft. Against its picture as it is that alone would tell; what should tell is that the
        # face is softer than what surrounds it.
        both = equally_sharp(*both)
    quality = int(generator.integers(75, 97))
    whole = Box(0, 0, *shape)
    pairs = [faces.cut_views(jpeg_round_trip(pixels, quality), whole, faces.Sizes(*job.sizes))[:2] for pixels in both]
    size = job.sizes[0]
    where = cv2.resize(edited.mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return pairs, where > 0.5


def equally_sharp(one: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    """Blur the sharper of the two until its Laplacian varies like the softer one's."""
    sharp = [laplacian_variance(p) for p in (one, other)]
    wanted = min(sharp)
    return [
        p if s == wanted else min((anomalies.blurred(p, float(sigma)) for sigma in np.arange(0, 2.05, 0.1)),
                                  key=lambda q: abs(laplacian_variance(q) - wanted))
        for p, s in zip((one, other), sharp, strict=True)
    ]  # fmt: skip
