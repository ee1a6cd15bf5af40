"""Vector quantisation (van den Oord et al. 2017): each vector becomes its nearest codebook entry."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.models.share import drawn_rows, summed


class Quantised(NamedTuple):
    """Attributes:
    values: (B, D, h, w) float32, the nearest codebook entries, with the straight-through gradient.
    codes: (B, h, w) int64 in [0, K).
    codebook_loss: scalar, mean (e - sg z)^2; zero where the codebook learns by moving average.
    commitment_loss: scalar, mean (z - sg e)^2.
    """

    values: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class Quantiser(nn.Module):
    """A codebook of K entries in D dimensions.

    With `decay` None the codebook learns by gradient (the three-term loss of van den Oord et al. 2017); otherwise by an
    exponential moving average of the encoder's outputs (van den Oord et al. 2017, appendix A.1), starts
    from k-means of the first batch, and entries that fell out of use are replaced by current outputs. Of processes that
    train together each follows the outputs of all, so that they keep one codebook.
    """

    #: A code used less often than this share of the mean use is taken for dead.
    DEAD = 0.1

    def __init__(self, codes: int, dimensions: int, decay: float | None = 0.98) -> None:
        super().__init__()
        self.codes, self.decay = codes, decay
        start = torch.randn(codes, dimensions) / dimensions**0.5
        if decay is None:
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("use", torch.ones(codes))
            self.register_buffer("total", start.clone())
            self.register_buffer("started", torch.tensor(False))

    def nearest(self, vectors: Tensor) -> Tensor:
        """(N, D) float32 -> (N,) int64, argmin over k of |z - e_k|^2, the lowest k on a tie."""
        return self.distances(vectors).argmin(1)

    def distances(self, vectors: Tensor) -> Tensor:
        """(N, D) float32 -> (N, K) float32, |z - e_k|^2 less |z|^2, which is the same for every k."""
        book = self.codebook.float()
        return torch.addmm((book**2).sum(1), vectors, book.T, alpha=-2)

    def look_up(self, codes: Tensor) -> Tensor:
        """(B, h, w) int64 -> (B, D, h, w) float32."""
        return F.embedding(codes, self.codebook.float()).permute(0, 3, 1, 2)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise (B, D, h, w); in training mode a moving-average codebook also learns from it."""
        z = z.float()
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        if self.training and self.decay is not None and not bool(self.started):
            self._start(flat.detach())
        indices = self.nearest(flat.detach())
        codes = indices.view(z.shape[0], *z.shape[2:])
        entries = self.look_up(codes)
        commitment = F.mse_loss(z, entries.detach())
        if self.decay is None:
            codebook_loss = F.mse_loss(entries, z.detach())
        else:
            codebook_loss = z.new_zeros(())
            if self.training:
                self._follow(flat.detach(), indices)
        return Quantised(z + (entries - z).detach(), codes, codebook_loss, commitment)

    @torch.no_grad()
    def _start(self, vectors: Tensor, rounds: int = 10) -> None:
        """k-means of the first batch."""
        self.codebook.copy_(drawn_rows(vectors, self.codes))
        for _ in range(rounds):
            count, total = self._sums(vectors, self.nearest(vectors))
            used = count > 0
            self.codebook[used] = total[used] / count[used, None]
        self.use.fill_(float(count.sum()) / self.codes)
        self.total.copy_(self.codebook * self.use[:, None])
        self.started.fill_(True)

    @torch.no_grad()
    def _follow(self, vectors: Tensor, nearest: Tensor) -> None:
        """One step of the moving average, then new entries for dead ones."""
        count, total = self._sums(vectors, nearest)
        step = 1 - (self.decay or 0.0)
        self.use.lerp_(count, step)
        self.total.lerp_(total, step)
        dead = self.use < self.DEAD * self.use.mean()
        if bool(dead.any()):
            fresh = drawn_rows(vectors, int(dead.sum()))
            self.use[dead] = self.use.mean()
            self.total[dead] = fresh * self.use.mean()
        self.codebook.copy_(self.total / self.use[:, None])

    def _sums(self, vectors: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
        """(K,) how many vectors of all processes each entry is nearest to, and (K, D) their sums."""
        count = torch.bincount(nearest, minlength=self.codes).to(vectors.dtype)
        total = torch.zeros_like(self.total).index_add_(0, nearest, vectors)
        return summed(count), summed(total)


def perplexity(codes: Tensor, size: int) -> tuple[float, float]:
    """Perplexity exp(H) of the codes' distribution, in [1, K], and the share of the K entries in use.

    >>> perplexity(torch.tensor([0, 0, 1, 1]), 4)
    (2.0, 0.5)
    """
    share = torch.bincount(codes.flatten(), minlength=size).double()
    share = share / share.sum()
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return round(float(entropy.exp()), 6), float((share > 0).double().mean())
