"""The layers of a shared MLP over rows that pass in blocks, each small enough to stay in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .moments import Moments

NARROW = 16  # the first layer of an input up to this width is computed again rather than kept
BLOCK = 1 << 19  # numbers in the widest block on a CPU


def row_parts(rows: int, group: int, width: int, device: torch.device) -> list[slice]:
    """The rows as slices of whole groups, such that a block of ``width`` columns stays in a CPU's cache."""
    numbers = BLOCK if device.type == "cpu" else 1 << 28
    size = max(1, numbers // (group * width)) * group
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


class Chain:
    """Layers of linear, batch norm and ReLU, and what is known of their values.

    Kept are the linear outputs of a layer, from which its activations are computed block by block wherever they are
    needed; with them the mean and the biased variance of each column.

    Args:
        x: rows [R, C_0].
        table, index: [n, C_1] and int64 [R]; ``table[index]`` is added to the first product. None: nothing is.
        group: rows that belong together, 0 for single rows.
        eps: of every batch norm.
        parameters: all weights, then all gammas, then all betas.
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
        self.kept: list[Tensor | None] = []

    def parts(self, layer: int) -> list[slice]:
        """The blocks for a pass over this layer's inputs and outputs."""
        return row_parts(len(self.x), self.group or 1, max(self.weights[layer].shape), self.x.device)

    def buffer(self, parts: list[slice], layer: int) -> Tensor:
        """Memory for any block of this layer's outputs."""
        return self.x.new_empty(parts[0].stop, len(self.weights[layer]))

    def linear(self, layer: int, part: slice, out: Tensor) -> Tensor:
        """The layer's linear outputs, kept or (in ``out``) computed again."""
        kept = self.kept[layer] if layer < len(self.kept) else None
        if kept is not None:
            return kept[part]
        out, weight = out[: part.stop - part.start], self.weights[0].t()
        if self.table is None:
            return torch.mm(self.x[part], weight, out=out)
        return torch.index_select(self.table, 0, self.index[part], out=out).addmm_(self.x[part], weight)

    def reader(self, layer: int, parts: list[slice]) -> Callable[[slice], Tensor]:
        """A function that gives the layer's activations at a part, always in the same memory."""
        out = self.buffer(parts, layer)
        return lambda part: self._activate(layer, part, out)

    def activations(self, layer: int) -> Tensor:
        """All activations of a layer, [R, C]."""
        out = self.x.new_empty(len(self.x), len(self.weights[layer]))
        for part in self.parts(layer):
            self._activate(layer, part, out[part])
        return out

    def advance(self) -> None:
        """Make the next layer's linear outputs from the activations below."""
        layer = len(self.kept)
        parts, weight = self.parts(layer), self.weights[layer].t()
        y = None if layer == 0 and self.narrow else self.x.new_empty(len(self.x), weight.shape[1])
        buffer = self.buffer(parts, layer) if y is None else None
        read = self.reader(layer - 1, parts) if layer else None
        moments = Moments()
        for part in parts:
            out = buffer if y is None else y[part]
            moments.add(self.linear(0, part, out) if read is None else torch.mm(read(part), weight, out=out))
        self.kept.append(y)
        for known, value in zip((self.means, self.variances), moments.result(), strict=True):
            known.append(value.to(self.x.dtype))

    def _activate(self, layer: int, part: slice, out: Tensor) -> Tensor:
        scale = self.gammas[layer] * (self.variances[layer] + self.eps[layer]).rsqrt()
        shift = self.betas[layer] - self.means[layer] * scale
        y = self.linear(layer, part, out)
        return torch.addcmul(shift, y, scale, out=out[: len(y)]).relu_()
