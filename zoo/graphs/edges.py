"""A graph operator as a list of edges, for programs that a compiler or exporter traces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .masks import keep_mask, keep_probability
from .products import indexed_product


@dataclass(frozen=True)
class EdgeMatrix:
    """What a :class:`.SparseMatrix` is to a network, without a CSR tensor and with sizes that data do not decide.

    Edges need no order, and repeated ones are summed. A value of zero stands for an edge that is not there, because how
    many edges an operation leaves (self-loops, for example) is not known while a program is traced.
    """

    target: Tensor  # int64 [E]
    source: Tensor  # int64 [E]
    values: Tensor  # [E]
    size: int  # number of nodes

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def indices(self) -> tuple[Tensor, Tensor]:
        return self.target, self.source

    def dropout(self, p: float, training: bool = True) -> EdgeMatrix:
        if not training or p == 0.0:
            return self
        kept = self.values * keep_mask(self.values.shape, p, self.values.device) / keep_probability(p)
        return EdgeMatrix(self.target, self.source, kept, self.size)

    def mm(self, dense: Tensor) -> Tensor:
        return indexed_product(self.target, self.source, self.values, dense, self.size)


def self_looped(edge_index: Tensor, num_nodes: int, weight: Tensor | None, dtype: torch.dtype) -> EdgeMatrix:
    """Add a self-loop of weight 1 to every node, in place of those it has, whose weight it takes if there are weights.

    Shape: edge_index int64 [2, E], weight [E] -> E + num_nodes edges, of which replaced loops have the value 0
    """
    source, target = edge_index
    values = torch.ones_like(source, dtype=dtype) if weight is None else weight.to(dtype)
    nodes, is_loop = torch.arange(num_nodes, device=source.device), source == target
    loops = torch.ones(num_nodes + 1, dtype=dtype, device=source.device)
    if weight is not None:
        loops = loops.scatter(0, torch.where(is_loop, source, num_nodes), values)  # the last entry is for the others
    values = torch.cat([values.masked_fill(is_loop, 0), loops[:num_nodes]])
    return EdgeMatrix(torch.cat([target, nodes]), torch.cat([source, nodes]), values, num_nodes)
