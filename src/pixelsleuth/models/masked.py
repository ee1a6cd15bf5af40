"""A masked bidirectional prior: every code is predicted from codes on all its sides.

Convolutions learn the neighbourhood fast, attention carries what is far. Scoring hides the codes in four
complementary lattices, so that no code is seen by its own prediction (after MIM-OOD, Marimont et al. 2023;
the lattices in place of random masks make the score the same every time).
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsleuth.models.configuration import PriorConfig
from pixelsleuth.models.prior import draw, surprise_of, told
from pixelsleuth.models.share import Share, processes, summed
from pixelsleuth.records import Surprise

#: Lattices of spacing 2 that a grid falls into.
LATTICES = 4
#: Steps in which images are drawn from nothing.
SAMPLING_STEPS = 64


class _Convolution(nn.Module):
    """GroupNorm, SiLU, 3x3, SiLU, dropout, 1x1 (zero at the start), added."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.spread = nn.Conv2d(width, width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.dropout(F.silu(self.spread(F.silu(self.norm(x))))))


class _Attention(nn.Module):
    """GroupNorm, attention of every place to every place, projection (zero at the start), added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width: expected one that {heads} heads divide, got {width}")
        self.heads = heads
        self.norm = nn.GroupNorm(8, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, breadth = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, width // self.heads, height * breadth)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(-1, -2).reshape(batch, width, height, breadth))


class MaskedPrior(nn.Module):
    """See the module's text. Token K stands for a hidden code."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        height, breadth = config.grid
        self.embed = nn.Embedding(config.codes + 1, config.width)
        self.place = nn.Parameter(torch.randn(1, config.width, height, breadth) * 0.02)
        layers: list[nn.Module] = []
        for number in range(1, config.blocks + 1):
            layers.append(_Convolution(config.width, config.dropout))
            if number % config.attention_every == 0:
                layers.append(_Attention(config.width, config.heads))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.GroupNorm(8, config.width), nn.SiLU(), nn.Conv2d(config.width, config.codes, 1))
        if config.context:
            self.scalars = nn.Linear(config.context, config.width)

    def forward(self, codes: Tensor, hidden: Tensor, scalars: Tensor | None = None) -> Tensor:
        """(B, h, w) codes, of which `hidden` (B, h, w) bool are not seen -> (B, K, h, w) logits."""
        x = self.embed(codes.masked_fill(hidden, self.config.codes)).permute(0, 3, 1, 2) + self.place
        if self.config.context:
            x = x + self.scalars(told(self.config, scalars, codes))[:, :, None, None]
        return self.head(self.layers(x.contiguous(memory_format=torch.channels_last)))

    def loss(self, codes: Tensor, scalars: Tensor | None = None, share: Share | None = None) -> Tensor:
        hidden = random_masks(share or Share.whole(len(codes)), self.config.grid, codes.device)
        logits = self(codes, hidden, scalars)
        nll = F.cross_entropy(logits.float(), codes, reduction="none")
        # Hidden places, of which every process has another number, weigh alike.
        return (nll * hidden).sum() * processes() / summed(hidden.sum())

    @torch.no_grad()
    def log_prob(
        self, codes: Tensor, scalars: Tensor | None = None, partition: Tensor | None = None, parts: int = LATTICES
    ) -> Surprise:
        """Surprise of every code under the mask that hides it.

        Args:
            partition: (h, w) int64 in [0, parts): codes of one number are hidden together; the four lattices
                unless given.
        """
        if partition is None:
            partition = lattices(self.config.grid, codes.device)
        if torch.compiler.is_exporting():
            return self._log_prob_at_once(codes, scalars, partition, parts)
        nll = torch.zeros(codes.shape, device=codes.device)
        entropy = torch.zeros_like(nll)
        for number in range(parts):
            hidden = partition == number
            seen = surprise_of(self(codes, hidden.expand(codes.shape), scalars), codes)
            nll = torch.where(hidden, seen.nll, nll)
            entropy = torch.where(hidden, seen.entropy, entropy)
        return Surprise(nll, entropy)

    def _log_prob_at_once(self, codes: Tensor, scalars: Tensor | None, partition: Tensor, parts: int) -> Surprise:
        """`log_prob` in one pass over all parts: a graph would otherwise hold the network several times."""
        hidden = torch.stack([partition == number for number in range(parts)])
        copies = codes.repeat(parts, 1, 1)
        masks = hidden[:, None].expand(-1, codes.shape[0], -1, -1).flatten(0, 1)
        seen = surprise_of(self(copies, masks, told(self.config, scalars, codes).repeat(parts, 1)), copies)
        nll, entropy = (
            (values.unflatten(0, (parts, -1)) * hidden[:, None]).sum(0) for values in (seen.nll, seen.entropy)
        )
        return Surprise(nll, entropy)

    @torch.no_grad()
    def resample(
        self,
        codes: Tensor,
        uniforms: Tensor,
        *,
        where: Tensor | None = None,
        above: float | None = None,
        scalars: Tensor | None = None,
    ) -> Tensor:
        """Resample the chosen codes, as the protocol says. All are hidden, then drawn lattice by lattice in four steps,
        each given what was drawn before: codes drawn together are never neighbours. The first step is the same for
        every copy and computed once."""
        if where is None:
            if above is None:
                raise ValueError("resample: expected `where` or `above`, got neither")
            where = self.log_prob(codes, scalars).nll > above
        known, copies = told(self.config, scalars, codes), uniforms.shape[1]
        restored = codes[:, None].expand(uniforms.shape).clone()
        partition = lattices(self.config.grid, codes.device)
        hidden = where.clone()
        for number in range(LATTICES):
            now = hidden & (partition == number)
            images = now.flatten(1).any(1).nonzero()[:, 0]
            if not len(images):
                continue
            # Copies differ once something was drawn in them; until then one stands for all.
            alike = bool((hidden == where)[images].all())
            seen = restored[images, : 1 if alike else None]
            each = seen.shape[1]
            about, unseen = (part[images].repeat_interleave(each, 0) for part in (known, hidden))
            logits = self(seen.flatten(0, 1), unseen, about)
            # (copies, places, K): the chosen places of all these images.
            places = now[images]
            chosen = logits.permute(0, 2, 3, 1).unflatten(0, (len(images), each)).transpose(0, 1)[:, places]
            after = restored[images].transpose(0, 1).contiguous()
            after[:, places] = draw(chosen.expand(copies, -1, -1), uniforms[images].transpose(0, 1)[:, places])
            restored[images] = after.transpose(0, 1)
            hidden = hidden & ~now
        return restored

    @torch.no_grad()
    def sample(self, uniforms: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Sample whole grids, as the protocol says: few codes far apart at first, then ever more together, as MaskGIT
        does (Chang et al. 2022). Four steps, enough for restoration, would give codes that do not agree."""
        codes = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)
        hidden = torch.ones_like(codes, dtype=torch.bool)
        for now in sampling_steps(self.config.grid, codes.device):
            logits = self(codes, hidden, scalars).permute(0, 2, 3, 1)
            codes[:, now] = draw(logits[:, now], uniforms[:, now])
            hidden[:, now] = False
        return codes


def lattices(grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """(h, w) int64 in [0, LATTICES): each number is a lattice of spacing 2, the diagonal ones in turn."""
    rows = torch.arange(grid[0], device=device)[:, None] % 2
    columns = torch.arange(grid[1], device=device)[None, :] % 2
    return (rows ^ columns) * 2 + rows


def sampling_steps(grid: tuple[int, int], device: torch.device | str = "cpu") -> list[Tensor]:
    """(h, w) bool each, the places drawn together, each place once: in the order of an ordered dither (Bayer 1973), so
    that whatever was drawn lies evenly spread, on a cosine schedule of `SAMPLING_STEPS` steps."""
    bits = max(1, max(grid) - 1).bit_length()
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    rank = torch.zeros(grid, dtype=torch.int64)
    for bit in range(bits):
        one, other = rows >> bit & 1, columns >> bit & 1
        rank = rank * 4 + (one ^ other) * 2 + one
    order = rank.flatten().argsort(stable=True).argsort().view(grid).to(device)
    count = grid[0] * grid[1]
    ends = [math.ceil(count * (1 - math.cos(math.pi / 2 * t / SAMPLING_STEPS))) for t in range(SAMPLING_STEPS + 1)]
    return [(order >= a) & (order < b) for a, b in itertools.pairwise(ends) if b > a]


def random_masks(share: Share, grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """(B, h, w) bool, what training hides: half lattices, a quarter random shares, a quarter rectangles."""
    height, breadth = grid
    kind = share.rand(device=device)
    partition = lattices(grid, device)
    number = share.randint(0, 4, 1, 1, device=device)
    lattice = partition[None] == number
    # The arc-cosine law of MaskGIT (Chang et al. 2022) favours large shares, as when a restoration begins.
    hidden = share.rand(1, 1, device=device).mul(torch.pi / 2).cos()
    scattered = share.rand(height, breadth, device=device) < hidden
    scattered[:, 0, 0] |= ~scattered.flatten(1).any(1)
    size = share.randint(min(grid) // 4, min(grid), 2, device=device)
    corner = (share.rand(2, device=device) * (torch.tensor(grid, device=device) - size + 1)).long()
    rows = torch.arange(height, device=device)[None, :, None] - corner[:, 0, None, None]
    columns = torch.arange(breadth, device=device)[None, None, :] - corner[:, 1, None, None]
    rectangle = (rows >= 0) & (rows < size[:, 0, None, None]) & (columns >= 0) & (columns < size[:, 1, None, None])
    kind = kind[:, None, None]
    return torch.where(kind < 0.5, lattice, torch.where(kind < 0.75, scattered, rectangle))
