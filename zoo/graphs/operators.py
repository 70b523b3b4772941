"""From an edge list to the operators a graph network applies, and to the part of them that some outputs need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn.conv.gcn_conv import gcn_norm as pyg_gcn_norm

from .sparse import SparseMatrix, as_index, check_edge_index


def gcn_norm(edge_index: Tensor, num_nodes: int) -> SparseMatrix:
    r"""Kipf's renormalised adjacency :math:`D^{-1/2} (A + I) D^{-1/2}`, values as PyG's ``gcn_norm``.

    Shapes:
        edge_index [2, E] -> [num_nodes, num_nodes]; symmetric if the edges are.
    Source: Kipf & Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, eq. 2.
    """
    check_edge_index(edge_index, num_nodes)
    edge_index, weight = pyg_gcn_norm(edge_index, None, num_nodes, dtype=torch.get_default_dtype())
    return SparseMatrix.from_edge_index(edge_index, num_nodes, weight)


def mean_norm(edge_index: Tensor, num_nodes: int) -> SparseMatrix:
    r"""Row-stochastic adjacency :math:`D^{-1} A`: the mean over incoming edges, zero for nodes without any.

    Shapes:
        edge_index [2, E] -> [num_nodes, num_nodes].
    Source: Hamilton, Ying & Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017.
    """
    check_edge_index(edge_index, num_nodes)
    degree = torch.bincount(edge_index[1], minlength=num_nodes).to(torch.get_default_dtype())
    return SparseMatrix.from_edge_index(edge_index, num_nodes, degree[edge_index[1]].reciprocal())


@dataclass(frozen=True)
class Operators:
    """What :meth:`GraphModel.prepare` makes of a graph, once, and ``model(x, operators)`` uses in every step.

    adjacency: one square operator, or one rectangular operator per layer (first layer first).
    rows: the nodes whose features the first layer reads, or None for all; see :meth:`inputs`.
    outputs: the rows of the last layer that are returned, or None for all.
    """

    adjacency: SparseMatrix | tuple[SparseMatrix, ...]
    rows: Tensor | None = None
    outputs: Tensor | None = None

    def inputs(self, features: SparseMatrix | Tensor) -> SparseMatrix | Tensor:
        """The rows of the whole graph's features that the model expects with these operators; slice them once."""
        if features.__class__ is not SparseMatrix and features.layout != torch.strided:
            features = SparseMatrix.from_torch(features)
        if self.rows is None:
            return features
        return features.rows(self.rows) if isinstance(features, SparseMatrix) else features[self.rows]

    def layers(self, depth: int) -> Sequence[SparseMatrix]:
        """One operator for each of ``depth`` layers."""
        if not isinstance(self.adjacency, tuple):
            return (self.adjacency,) * depth
        if len(self.adjacency) != depth:
            raise ValueError(
                f"operators for {len(self.adjacency)} layers given to a model of {depth}; prepare them anew"
            )
        return self.adjacency

    def select(self, h: Tensor) -> Tensor:
        return h if self.outputs is None else h.index_select(0, self.outputs)


def receptive_field(adjacency: SparseMatrix, nodes: Tensor, depth: int) -> Operators:
    """The rectangular operators with which ``depth`` layers compute their outputs at ``nodes`` and nothing else.

    The loss of transductive training sees 60 to 140 labelled nodes; outputs and gradients are those of the full graph,
    but only the rows within ``depth`` hops are computed.

    Shapes:
        nodes int64 [n] -> adjacency: ``depth`` matrices, the first [n_1, len(rows)], the last [n, n_(depth-1)].
    """
    nodes = as_index(nodes, adjacency.shape[0], "node")
    blocks: list[SparseMatrix] = []
    for _ in range(depth):
        block = adjacency.rows(nodes)
        nodes = block.used_columns()
        blocks.append(block.columns(nodes))
    return Operators(adjacency=tuple(reversed(blocks)), rows=nodes)


class GraphModel(nn.Module):
    """What all graph networks of the zoo share: ``logits = model(x, graph)``.

    x is a :class:`SparseMatrix` or a dense tensor [nodes, in_channels]. graph is what :meth:`prepare` returned (a loop
    prepares once), or the same less prepared: an ``edge_index`` [2, E], one square :class:`SparseMatrix` or a sequence
    of them, one per layer. Returned are logits [nodes asked for, num_classes].
    """

    def propagation(self, edge_index: Tensor, num_nodes: int) -> SparseMatrix:
        """The square operator that this network applies to a graph."""
        return gcn_norm(edge_index, num_nodes)

    def prepare(self, edge_index: Tensor, num_nodes: int, nodes: Tensor | None = None) -> Operators:
        """Everything needed for the logits at ``nodes`` (int64 [n] or bool [num_nodes], all if None), once.

        >>> view = model.prepare(edge_index, num_nodes, nodes=train)
        >>> x = view.inputs(features)
        >>> logits = model(x, view)  # [len(train), num_classes]
        """
        outputs = None if nodes is None else as_index(nodes, num_nodes, "node")
        return Operators(adjacency=self.propagation(edge_index, num_nodes), outputs=outputs)

    def operators(self, x: SparseMatrix | Tensor, graph) -> Operators:
        """``graph`` in any accepted form as :class:`Operators`, checked against x."""
        if not isinstance(graph, Operators):
            if isinstance(graph, Tensor):
                graph = self.prepare(graph, x.shape[0])
            else:
                graph = Operators(graph if isinstance(graph, SparseMatrix) else tuple(graph))
        first = graph.adjacency[0] if isinstance(graph.adjacency, tuple) else graph.adjacency
        if x.shape[0] != first.shape[1]:
            raise ValueError(
                f"x has {x.shape[0]} rows, the graph operator needs {first.shape[1]}; slice x once with view.inputs(x)"
            )
        if x.shape[1] != self.in_channels:
            raise ValueError(f"x has {x.shape[1]} features, the model was built with in_channels={self.in_channels}")
        return graph
