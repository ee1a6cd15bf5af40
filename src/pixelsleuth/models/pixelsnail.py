"""PixelSNAIL (Chen et al. 2018): an autoregressive prior in raster order.

Two streams of gated causal convolutions: the vertical one sees the rows above, the horizontal one also the
codes to the left; causal attention carries what is far. The logits at a place depend on no code at or
after it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pixelsleuth.models.configuration import PriorConfig
from pixelsleuth.models.pixelsnail_cached import CachedSampler
from pixelsleuth.models.prior import draw, surprise_of, told
from pixelsleuth.models.share import Share
from pixelsleuth.records import Surprise

#: Copies of grids that are walked together: enough to keep matrix products busy; at the paper's size each copy keeps
#: 2 MB of what came before.
AT_ONCE = 128


class _Window(nn.Module):
    """A weight-normed convolution whose window ends at the current place, or before it.

    `above`, `left`, `right`: how far the window reaches; the current row and column are its last ones
    where `right` is 0.
    """

    def __init__(self, inward: int, outward: int, above: int, left: int, right: int) -> None:
        super().__init__()
        self.pad = (left, right, above, 0)
        self.conv = weight_norm(nn.Conv2d(inward, outward, (above + 1, left + right + 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.pad))


class _Gated(nn.Module):
    """ELU, window, (+ what the other stream knows), ELU, dropout, window to 2C, GLU, added."""

    def __init__(self, width: int, reach: tuple[int, int, int], dropout: float, beside: int = 0) -> None:
        super().__init__()
        self.first = _Window(width, width, *reach)
        self.beside = weight_norm(nn.Conv2d(beside, width, 1)) if beside else None
        self.dropout = nn.Dropout(dropout)
        self.second = _Window(width, 2 * width, *reach)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        y = self.first(F.elu(x))
        if self.beside is not None and beside is not None:
            y = y + self.beside(F.elu(beside))
        return x + F.glu(self.second(self.dropout(F.elu(y))), dim=1)


class _CausalAttention(nn.Module):
    """One head; a place attends to places strictly before it, on the grid taken at `stride`.

    The first place of each stride x stride cell stands for the cell: it comes before the cell's other
    places in raster order, so what it may see, they may see.
    """

    def __init__(self, width: int, stride: int, key: int = 16) -> None:
        super().__init__()
        self.stride, self.key = stride, key
        self.query = weight_norm(nn.Conv2d(width, key, 1))
        self.key_value = weight_norm(nn.Conv2d(2 * width, key + width, 1))

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """x (B, C, h, w) knows the codes before a place; codes (B, C, h, w) are embedded at their place."""
        step = self.stride
        query = self.query(F.elu(x[:, :, ::step, ::step]))
        key_value = self.key_value(torch.cat([F.elu(x), codes], 1)[:, :, ::step, ::step])
        height, breadth = query.shape[2:]
        count = height * breadth
        q = query.flatten(2).transpose(1, 2)
        k, v = key_value.flatten(2).transpose(1, 2).split([self.key, x.shape[1]], dim=-1)
        # A zero at the front gives the first place something to attend to.
        k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
        earlier = torch.ones(count, count + 1, dtype=torch.bool, device=x.device).tril()
        # With its one head named, as exporters want it.
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], attn_mask=earlier)[:, 0]
        mixed = mixed.transpose(1, 2).reshape(x.shape[0], -1, height, breadth)
        if step > 1:
            mixed = mixed.repeat_interleave(step, 2).repeat_interleave(step, 3)
            mixed = mixed[:, :, : x.shape[2], : x.shape[3]]
        return mixed


class _Block(nn.Module):
    """Pairs of vertical and horizontal gated blocks, then attention mixed in through a gated 1x1 block."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        width, drop = config.width, config.dropout
        self.vertical = nn.ModuleList(_Gated(width, (2, 1, 1), drop) for _ in range(config.pairs))
        self.horizontal = nn.ModuleList(_Gated(width, (0, 4, 0), drop, beside=width) for _ in range(config.pairs))
        self.attention = _CausalAttention(width, config.attention_stride)
        self.out = _Gated(width, (0, 0, 0), drop, beside=width)

    def forward(self, vertical: Tensor, horizontal: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        for down, across in zip(self.vertical, self.horizontal, strict=True):
            vertical = down(vertical)
            horizontal = across(horizontal, vertical)
        return vertical, self.out(horizontal, self.attention(horizontal, codes))


class PixelSNAIL(nn.Module):
    """See the module's text."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        inward = config.embedding or config.codes
        self.embed = nn.Embedding(config.codes, config.embedding) if config.embedding else None
        self.beside = nn.Embedding(config.codes, config.width)
        # The first layer (type A): rows above, 7 wide; 3 codes to the left. Shifted, so the place is not seen.
        self.above = _Window(inward, config.width, 2, 3, 3)
        self.left = _Window(inward, config.width, 0, 2, 0)
        self.place = nn.Parameter(torch.randn(1, config.width, *config.grid) * 0.02)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.head = nn.Sequential(nn.ELU(), weight_norm(nn.Conv2d(config.width, config.codes, 1)))
        if config.context:
            self.scalars = nn.Linear(config.context, config.width)

    def forward(self, codes: Tensor, scalars: Tensor | None = None) -> Tensor:
        """(B, h, w) codes -> (B, K, h, w) logits; those at a place know only the codes before it."""
        embedded = self.embed(codes) if self.embed is not None else F.one_hot(codes, self.config.codes)
        x = embedded.permute(0, 3, 1, 2).to(self.place.dtype).contiguous(memory_format=torch.channels_last)
        vertical = self.above(F.pad(x, (0, 0, 1, 0))[:, :, :-1]) + self.place
        if self.config.context:
            vertical = vertical + self.scalars(told(self.config, scalars, codes))[:, :, None, None]
        horizontal = vertical + self.left(F.pad(x, (1, 0))[:, :, :, :-1])
        beside = self.beside(codes).permute(0, 3, 1, 2)
        for block in self.blocks:
            vertical, horizontal = block(vertical, horizontal, beside)
        return self.head(horizontal)

    def loss(self, codes: Tensor, scalars: Tensor | None = None, share: Share | None = None) -> Tensor:
        return F.cross_entropy(self(codes, scalars).float(), codes) * (share or Share.whole(len(codes))).weight

    @torch.no_grad()
    def log_prob(self, codes: Tensor, scalars: Tensor | None = None) -> Surprise:
        return surprise_of(self(codes, scalars), codes)

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
        """Resample codes as the protocol says; with `above`, redraw a code if its surprise *given the restored prefix*
        exceeds it (Marimont & Tarroni's algorithm).

        One pass finds what is flagged before anything is drawn. Images with nothing flagged are done; the others are
        walked place by place (`CachedSampler`), `AT_ONCE` copies together.
        """
        if (where is None) == (above is None):
            raise ValueError("resample: expected exactly one of `where` and `above`")
        flagged = where if where is not None else self.log_prob(codes, scalars).nll > above
        restored = codes[:, None].expand(uniforms.shape).clone()
        rows = flagged.any(2).cpu()
        numbers = torch.arange(codes.shape[1])
        first = torch.where(rows, numbers, codes.shape[1]).amin(1)
        # Grids that begin alike are walked together: they share what comes before.
        touched = torch.argsort(first, stable=True)[: int((first < codes.shape[1]).sum())]
        if not len(touched):
            return restored
        # What is kept from place to place is summed up over hundreds of steps: not in a reduced type.
        with torch.autocast(codes.device.type, enabled=False):
            walk = CachedSampler(self)
            about = self.scalars(told(self.config, scalars, codes)) if self.config.context else None
            for images in touched.split(max(1, AT_ONCE // uniforms.shape[1])):
                # With `above` a drawn code may make any later one unlikely.
                last = codes.shape[1] - 1 if where is None else int((rows[images] * numbers).max())
                here = images.to(codes.device)
                restored[here] = walk.resample(
                    codes[here], uniforms[here], int(first[images].min()), last, None if where is None else where[here],
                    above, None if about is None else about[here], draw,
                )  # fmt: skip
        return restored

    @torch.no_grad()
    def sample(self, uniforms: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Sample whole grids in raster order, as the protocol says."""
        everywhere = torch.ones(uniforms.shape, dtype=torch.bool, device=uniforms.device)
        return self.resample(everywhere.long(), uniforms[:, None], where=everywhere, scalars=scalars)[:, 0]

    @torch.no_grad()
    def resample_directly(self, codes: Tensor, uniforms: Tensor, above: float, scalars: Tensor | None = None) -> Tensor:
        """Marimont & Tarroni's algorithm word for word: the whole network over all copies at every place. The oracle of
        `resample`."""
        copies = uniforms.shape[1]
        restored = codes.repeat_interleave(copies, 0)
        about = told(self.config, scalars, codes).repeat_interleave(copies, 0)
        for row in range(self.config.grid[0]):
            for column in range(self.config.grid[1]):
                logits = self(restored, about)[:, :, row, column]
                nll = -logits.float().log_softmax(1).gather(1, restored[:, row, column, None])[:, 0]
                drawn = draw(logits, uniforms[:, :, row, column].flatten())
                restored[:, row, column] = torch.where(nll > above, drawn, restored[:, row, column])
        return restored.unflatten(0, (len(codes), copies))
