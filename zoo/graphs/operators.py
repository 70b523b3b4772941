"""From an edge list to the operators that a graph network applies, and to the rows of them that some outputs need."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from comhe.errors import UsageError

from .edges import EdgeMatrix, self_looped
from .products import is_traced
from .pyg import pyg_nn
from .sparse import Features, SparseMatrix, as_index, check_edge_index

Adjacency = SparseMatrix | EdgeMatrix


def gcn_norm(
    edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None, dtype: torch.dtype | None = None
) -> Adjacency:
    """Kipf's renormalized adjacency :math:`D^{-1/2} (A + I) D^{-1/2}`, with the values of PyG's ``gcn_norm``.

    An edge that is given twice counts twice; a node has one self-loop, whatever is given.

    Shape: edge_index [2, E], edge_weight [E] -> [num_nodes, num_nodes] in ``dtype``; symmetric if the edges are.

    Example:
        >>> gcn_norm(torch.tensor([[0, 1], [1, 0]]), 2).to_dense()
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])

    Source: Kipf & Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, eq. 2.
    """
    edge_index = check_edge_index(edge_index, num_nodes, edge_weight)
    dtype = dtype or torch.get_default_dtype()
    if is_traced():
        edges = self_looped(edge_index, num_nodes, edge_weight, dtype)
        degree = edges.values.new_zeros(num_nodes).index_add(0, edges.target, edges.values)
        scale = torch.where(degree == 0, 0, degree.pow(-0.5))
        return replace(edges, values=scale[edges.source] * edges.values * scale[edges.target])
    edge_weight = None if edge_weight is None else edge_weight.to(dtype)
    edge_index, weight = pyg_nn().conv.gcn_conv.gcn_norm(edge_index, edge_weight, num_nodes, dtype=dtype)
    return SparseMatrix.from_edge_index(edge_index, num_nodes, weight)


def mean_norm(edge_index: Tensor, num_nodes: int, dtype: torch.dtype | None = None) -> Adjacency:
    """Row-stochastic adjacency :math:`D^{-1} A`: the mean over incoming edges, zero for nodes without any.

    An edge that is given twice counts twice; self-loops are edges like others.

    Shape: edge_index [2, E] -> [num_nodes, num_nodes] in ``dtype``.
    Source: Hamilton, Ying & Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017.
    """
    edge_index = check_edge_index(edge_index, num_nodes)
    source, target = edge_index
    ones = torch.ones_like(target, dtype=dtype or torch.get_default_dtype())
    values = ones.new_zeros(num_nodes).index_add(0, target, ones)[target].reciprocal()
    if is_traced():
        return EdgeMatrix(target, source, values, num_nodes)
    return SparseMatrix.from_edge_index(edge_index, num_nodes, values)


@dataclass(frozen=True)
class Operators:
    """What ``model.prepare`` computes of a graph once, and ``model(x, operators)`` uses in every step.

    Attributes:
        adjacency: one square operator, or one rectangular operator per layer (first layer first).
        rows: the nodes whose features the first layer reads, or None for all; see :meth:`inputs`.
        outputs: the rows of the last layer that are returned, or None for all.
    """

    adjacency: Adjacency | tuple[Adjacency, ...]
    rows: Tensor | None = None
    outputs: Tensor | None = None

    def inputs(self, features: Features) -> Features:
        """Select the rows of the full graph's features that the model expects with these operators; do it once."""
        if isinstance(features, Tensor) and features.layout != torch.strided:
            features = SparseMatrix.from_torch(features)
        if self.rows is None:
            return features
        return features.rows(self.rows) if isinstance(features, SparseMatrix) else features[self.rows]

    def layers(self, depth: int) -> Sequence[Adjacency]:
        """Return one operator for each of ``depth`` layers."""
        if not isinstance(self.adjacency, tuple):
            return (self.adjacency,) * depth
        if len(self.adjacency) != depth:
            raise UsageError(
                f"the operators are for {len(self.adjacency)} layers, the model has {depth}; use its own prepare()"
            )
        return self.adjacency

    def select(self, h: Tensor) -> Tensor:
        """Select the rows of the last layer that were asked for."""
        return h if self.outputs is None else h.index_select(0, self.outputs)


def receptive_field(adjacency: SparseMatrix, nodes: Tensor, depth: int) -> Operators:
    """Return the rectangular operators with which ``depth`` layers compute their outputs at ``nodes`` only.

    The loss of transductive training reads 60 to 140 labeled nodes; outputs and gradients are those of the full graph,
    but only the rows within ``depth`` hops are computed.

    Shape: nodes int64 [n] -> adjacency: ``depth`` matrices, the first [n_1, len(rows)], the last [n, n_(depth-1)].
    """
    nodes = as_index(nodes, adjacency.shape[0], "node")
    blocks: list[SparseMatrix] = []
    for _ in range(depth):
        block = adjacency.rows(nodes)
        nodes = block.used_columns()
        blocks.append(block.columns(nodes))
    return Operators(adjacency=tuple(reversed(blocks)), rows=nodes)
