"""The layers of a shared MLP over blocks of rows, each small enough to stay in the cache."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .moments import Moments

NARROW = 16  # the first layer of an input up to this width is computed again rather than stored
BLOCK = 1 << 19  # entries of the widest block on a CPU


def row_blocks(rows: int, group: int, width: int, device: torch.device) -> list[slice]:
    """Divide rows into slices of complete groups, such that a block of ``width`` columns stays in a CPU's cache."""
    if torch.compiler.is_compiling():  # the compiler chooses blocks
        return [slice(None)]
    entries = BLOCK if device.type == "cpu" else 1 << 28
    size = max(1, entries // (group * width)) * group
    return [slice(start, min(start + size, rows)) for start in range(0, max(1, rows), size)]


class Chain:
    """Layers of linear, batch norm and ReLU, and their values as far as they are computed.

    The input is ``x``, rows [R, C_0]; ``table[index]``, [n, C_1] and int64 [R], is added to the first product unless
    they are None. ``group`` rows belong together (0: single rows); ``parameters`` are all weights, all gammas, all
    betas. Stored are a layer's linear outputs, from which its activations are computed block by block wherever they are
    needed, and the mean and the biased variance of each column.
    """

    def __init__(
        self,
        x: Tensor,
        table: Tensor | None,
        index: Tensor | None,
        group: int,
        eps: Sequence[float],
        parameters: Sequence[Tensor],
    ) -> None:
        self.x, self.table, self.index, self.group, self.eps = x, table, index, group, eps
        self.depth = depth = len(parameters) // 3
        self.weights, self.gammas, self.betas = (parameters[i * depth : (i + 1) * depth] for i in range(3))
        self.narrow = x.shape[1] <= NARROW
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []
        self.stored: list[Tensor | None] = []

    def blocks(self, layer: int) -> list[slice]:
        """Return the blocks for a pass over this layer's inputs and outputs."""
        return row_blocks(len(self.x), self.group or 1, max(self.weights[layer].shape), self.x.device)

    def buffer(self, blocks: list[slice], layer: int) -> Tensor:
        """Allocate memory for any block of this layer's outputs."""
        return self.x.new_empty(blocks[0].stop, len(self.weights[layer]))

    def linear(self, layer: int, block: slice, out: Tensor) -> Tensor:
        """Return the layer's linear outputs: stored ones, or (in ``out``) those of the first layer computed again."""
        stored = self.stored[layer] if layer < len(self.stored) else None
        if stored is not None:
            return stored[block]
        out, weight = out[: block.stop - block.start], self.weights[0].t()
        if self.table is None or self.index is None:
            return torch.mm(self.x[block], weight, out=out)
        return torch.index_select(self.table, 0, self.index[block], out=out).addmm_(self.x[block], weight)

    def reader(self, layer: int, blocks: list[slice]) -> Callable[[slice], Tensor]:
        """Return a function that computes the layer's activations at a block, always in the same memory."""
        out = self.buffer(blocks, layer)
        return lambda block: self._activate(layer, block, out)

    def activations(self, layer: int) -> Tensor:
        """Compute all activations of a layer, [R, C]."""
        out = self.x.new_empty(len(self.x), len(self.weights[layer]))
        for block in self.blocks(layer):
            self._activate(layer, block, out[block])
        return out

    def advance(self) -> None:
        """Compute the next layer's linear outputs from the activations below."""
        layer = len(self.stored)
        blocks, weight = self.blocks(layer), self.weights[layer].t()
        y = None if layer == 0 and self.narrow else self.x.new_empty(len(self.x), weight.shape[1])
        buffer = self.buffer(blocks, layer) if y is None else y
        read = self.reader(layer - 1, blocks) if layer else None
        moments = Moments()
        for block in blocks:
            out = buffer if y is None else y[block]
            moments.add(self.linear(0, block, out) if read is None else torch.mm(read(block), weight, out=out))
        self.stored.append(y)
        for values, value in zip((self.means, self.variances), moments.result(), strict=True):
            values.append(value.to(self.x.dtype))

    def _activate(self, layer: int, block: slice, out: Tensor) -> Tensor:
        scale = self.gammas[layer] * (self.variances[layer] + self.eps[layer]).rsqrt()
        shift = self.betas[layer] - self.means[layer] * scale
        y = self.linear(layer, block, out)
        return torch.addcmul(shift, y, scale, out=out[: len(y)]).relu_()
