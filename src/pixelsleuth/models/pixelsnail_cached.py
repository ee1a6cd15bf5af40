"""Sample from PixelSNAIL in raster order with cached activations: only the next position is computed.

The direct algorithm runs the whole network over the whole grid for every place. Here a row of the vertical stream,
which knows the rows above alone, is computed once for all its places; the horizontal stream and the attention one
place at a time, from the last few columns and the keys and values kept of earlier places (cached convolutions as in
Ramachandran et al. 2017, "Fast generation for autoregressive models"). The result is the same function.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from pixelsleuth.models.pixelsnail import PixelSNAIL, _Gated

#: Rows that a convolution of the vertical stream spans, and columns of the horizontal one's.
ROWS, LEFT = 3, 5


class _Window(NamedTuple):
    """A convolution as matrices: `parts` (inward, outward), one for each row of its window; `bias` (outward,)."""

    parts: tuple[Tensor, ...]
    bias: Tensor


class _Gate(NamedTuple):
    first: _Window
    beside: _Window | None
    second: _Window


def _window(conv: nn.Conv2d) -> _Window:
    """Of a (weight-normed) convolution; columns of a row and channels are one axis, columns first."""
    weight = conv.weight.detach()
    outward = weight.shape[0]
    parts = [weight[:, :, row].permute(2, 1, 0).reshape(-1, outward).contiguous() for row in range(weight.shape[2])]
    return _Window(tuple(parts), conv.bias.detach())


def _gate(block: _Gated) -> _Gate:
    beside = None if block.beside is None else _window(block.beside)
    return _Gate(_window(block.first.conv), beside, _window(block.second.conv))


def _table(conv: nn.Conv2d, embedded: Tensor) -> Tensor:
    """(taps (K + 1), C): what each code adds at each tap of the first layer's window; the code K adds nothing."""
    weight = conv.weight.detach()
    taps = torch.einsum("oirc,ki->rcko", weight, embedded).flatten(0, 1)
    return F.pad(taps, (0, 0, 0, 1)).flatten(0, 1).contiguous()


class CachedSampler:
    """One PixelSNAIL laid out for walking; `CachedSampler(prior).resample(...)`.

    Takes float32 or float64 networks in eval mode; the answers are the prior's own up to rounding.
    """

    def __init__(self, prior: PixelSNAIL) -> None:
        config = prior.config
        self.height, self.breadth = config.grid
        self.codes, self.width, self.step = config.codes, config.width, config.attention_stride
        embedded = prior.embed.weight.detach() if prior.embed is not None else None
        if embedded is None:
            embedded = torch.eye(config.codes, dtype=prior.place.dtype, device=prior.place.device)
        self.above, self.left = _table(prior.above.conv, embedded), _table(prior.left.conv, embedded)
        self.above_bias, self.left_bias = prior.above.conv.bias.detach(), prior.left.conv.bias.detach()
        self.place = prior.place.detach()[0].permute(1, 2, 0)
        self.down = [[_gate(block) for block in one.vertical] for one in prior.blocks]
        self.across = [[_gate(block) for block in one.horizontal] for one in prior.blocks]
        self.out = [_gate(one.out) for one in prior.blocks]
        self.query = [_window(one.attention.query) for one in prior.blocks]
        self.key = prior.blocks[0].attention.key
        self.known, self.placed = [], []
        for one in prior.blocks:
            (matrix,), bias = _window(one.attention.key_value)
            self.known.append(matrix[: self.width])
            # What the code at a place adds to its key and value, for every code.
            self.placed.append(prior.beside.weight.detach() @ matrix[self.width :] + bias)
        self.head = _window(prior.head[1])

    def resample(
        self, codes: Tensor, uniforms: Tensor, first_row: int, last_row: int, where: Tensor | None, above: float | None,
        about: Tensor | None, choose: Any,
    ) -> Tensor:  # fmt: skip
        """Walk the grids of S copies of each image.

        Args:
            codes: (B, h, w) int64; uniforms (B, S, h, w).
            first_row: nothing is drawn before this row, so that the copies of an image walk to it as one.
            last_row: nothing is drawn after this row.
            where: (B, h, w) bool, the codes to draw; or
            above: draw where the surprise in nats, given the restored prefix, exceeds this.
            about: (B, C) what the context adds, or None.
            choose: (n, K) logits, (n,) uniforms -> (n,) codes.

        Returns:
            (B, S, h, w) int64.
        """
        copies = uniforms.shape[1]
        walk = _Steps(self, codes, about)
        for row in range(first_row):
            walk.row(row, None)
        walk.multiply(copies)
        uniforms = uniforms.flatten(0, 1)
        chosen = None if where is None else where.repeat_interleave(copies, 0)
        for row in range(first_row, last_row + 1):

            def drawn(column: int, logits: Tensor, now: Tensor, row: int = row) -> Tensor:
                if chosen is not None:
                    flagged = chosen[:, row, column]
                else:
                    nll = -logits.float().log_softmax(1).gather(1, now[:, None])[:, 0]
                    flagged = nll > above
                return torch.where(flagged, choose(logits, uniforms[:, row, column]), now)

            walk.row(row, drawn)
        return walk.grid().unflatten(0, (len(codes), copies))


class _Steps:
    """The state of one walk: n grids that stand at the same place."""

    def __init__(self, walk: CachedSampler, codes: Tensor, about: Tensor | None) -> None:
        self.walk, self.about = walk, about
        # Code K all around stands for what lies outside.
        self.padded = F.pad(codes, (3, 3, 3, 0), value=walk.codes)
        self.taps = torch.arange(21, device=codes.device) * (walk.codes + 1)
        # Rows above of the vertical stream, unfolded, before each layer's first and second window.
        self.rows: list[list[Tensor]] = [[] for _ in range(2 * sum(map(len, walk.down)))]
        self.columns = self._empty(2 * sum(map(len, walk.across)), len(codes), walk.breadth + LEFT - 1, walk.width)
        cells = math.ceil(walk.height / walk.step) * math.ceil(walk.breadth / walk.step)
        # The first key and value are zeros: the first place attends to them.
        self.keys = self._empty(len(walk.out), len(codes), cells + 1, walk.key)
        self.values = self._empty(len(walk.out), len(codes), cells + 1, walk.width)
        self.mixed = self._empty(len(walk.out), len(codes), math.ceil(walk.breadth / walk.step), walk.width)
        self.cell = 0

    def _empty(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.walk.place.dtype, device=self.walk.place.device)

    def multiply(self, copies: int) -> None:
        """Each grid becomes `copies` of itself."""
        if copies == 1:
            return
        self.padded = self.padded.repeat_interleave(copies, 0)
        self.about = None if self.about is None else self.about.repeat_interleave(copies, 0)
        self.rows = [[past.repeat_interleave(copies, 0) for past in layer] for layer in self.rows]
        for name in ("columns", "keys", "values", "mixed"):
            setattr(self, name, getattr(self, name).repeat_interleave(copies, 1))

    def grid(self) -> Tensor:
        """(n, h, w) int64, the codes as they are now."""
        return self.padded[:, 3:, 3:-3]

    def row(self, row: int, drawn: Any) -> None:
        """Walk one row; `drawn(column, logits, codes)` gives the codes that stand there from then on, None keeps
        what is there."""
        walk = self.walk
        start = self._start_of(row)
        beside = self._down(start)
        is_cell_row = row % walk.step == 0
        for column in range(walk.breadth):
            is_cell = is_cell_row and column % walk.step == 0
            before = F.embedding_bag(
                self.padded[:, row + 3, column : column + 3] + self.taps[:3], walk.left, mode="sum"
            )
            x = start[:, column] + before + walk.left_bias
            seen = []
            layer = 0
            for block, out in enumerate(walk.out):
                for gate in walk.across[block]:
                    x = self._across(x, gate, layer, column, beside[layer][:, column])
                    layer += 1
                active = F.elu(x)
                if is_cell:
                    seen.append(active)
                    attended = self._attended(active, block)
                    assert out.beside is not None
                    self.mixed[block][:, column // walk.step] = torch.addmm(
                        out.beside.bias, F.elu(attended), out.beside.parts[0]
                    )
                y = torch.addmm(out.first.bias, active, out.first.parts[0]) + self.mixed[block][:, column // walk.step]
                x = x + F.glu(torch.addmm(out.second.bias, F.elu(y), out.second.parts[0]), dim=1)
            now = self.padded[:, row + 3, column + 3]
            if drawn is not None:
                now = drawn(column, torch.addmm(walk.head.bias, F.elu(x), walk.head.parts[0]), now)
                self.padded[:, row + 3, column + 3] = now
            if is_cell:
                self.cell += 1
                for block, active in enumerate(seen):
                    both = walk.placed[block][now] + active @ walk.known[block]
                    self.keys[block][:, self.cell] = both[:, : walk.key]
                    self.values[block][:, self.cell] = both[:, walk.key :]

    def _start_of(self, row: int) -> Tensor:
        """(n, w, C): what the first layer knows of the three rows above."""
        walk = self.walk
        around = self.padded[:, row : row + 3].unfold(2, 7, 1).permute(0, 2, 1, 3).flatten(2) + self.taps
        summed = F.embedding_bag(around.flatten(0, 1), walk.above, mode="sum").view(len(around), walk.breadth, -1)
        start = summed + walk.above_bias + walk.place[row]
        return start if self.about is None else start + self.about[:, None]

    def _down(self, x: Tensor) -> list[Tensor]:
        """One row of the vertical stream through all layers; gives what it adds to each layer of the horizontal one,
        (n, w, C) each."""
        found = []
        layer = 0
        for down, across in zip(self.walk.down, self.walk.across, strict=True):
            for gate, level in zip(down, across, strict=True):
                y = self._above(F.elu(x), gate.first, 2 * layer)
                x = x + F.glu(self._above(F.elu(y), gate.second, 2 * layer + 1), dim=2)
                assert level.beside is not None
                found.append(F.elu(x) @ level.beside.parts[0] + (level.beside.bias + level.first.bias))
                layer += 1
        return found

    def _above(self, active: Tensor, window: _Window, layer: int) -> Tensor:
        """(n, w, C) of the present row -> the window's answer, from it and the rows kept; keeps it for the next."""
        wide = F.pad(active, (0, 0, 1, 1))
        unfolded = torch.cat([wide[:, :-2], wide[:, 1:-1], wide[:, 2:]], 2)
        rows = [*self.rows[layer], unfolded]
        result = torch.addmm(window.bias, unfolded.flatten(0, 1), window.parts[-1])
        for past, part in zip(reversed(rows[:-1]), reversed(window.parts[:-1]), strict=False):
            result.addmm_(past.flatten(0, 1), part)
        self.rows[layer] = rows[-(ROWS - 1) :]
        return result.view(*active.shape[:2], -1)

    def _across(self, x: Tensor, gate: _Gate, layer: int, column: int, beside: Tensor) -> Tensor:
        """One layer of the horizontal stream at one place: (n, C) -> (n, C)."""
        first, second = self.columns[2 * layer], self.columns[2 * layer + 1]
        first[:, column + LEFT - 1] = F.elu(x)
        y = torch.addmm(beside, first[:, column : column + LEFT].flatten(1), gate.first.parts[0])
        second[:, column + LEFT - 1] = F.elu(y)
        z = torch.addmm(gate.second.bias, second[:, column : column + LEFT].flatten(1), gate.second.parts[0])
        return x + F.glu(z, dim=1)

    def _attended(self, active: Tensor, block: int) -> Tensor:
        """(n, C): attention to every earlier cell."""
        query = torch.addmm(self.walk.query[block].bias, active, self.walk.query[block].parts[0])
        keys, values = self.keys[block][:, : self.cell + 1], self.values[block][:, : self.cell + 1]
        weights = (keys @ query[:, :, None] / math.sqrt(self.walk.key)).softmax(1)
        return (weights.transpose(1, 2) @ values)[:, 0]
