"""What all graph networks share, and how training calls them and graph modules of other packages alike."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.errors import UsageError, check_at_least, check_dropout, first_line, warn
from comhe.zoo.adapters.graphs import options_of
from comhe.zoo.state import State

from .edges import EdgeMatrix
from .operators import Adjacency, Operators, gcn_norm
from .products import compute_dtype
from .sparse import Features, SparseMatrix, as_index, dropout

Graph = Operators | Adjacency | Sequence[Adjacency] | Tensor


class GraphModel(nn.Module):
    """A classifier of a graph's nodes: ``logits = model(x, graph)``.

    ``x`` is a :class:`SparseMatrix` or a dense tensor [nodes, in_channels]. ``graph`` is what :meth:`prepare` returned
    (a training loop prepares once), or an ``edge_index`` [2, E] of any integers, one square :class:`SparseMatrix`, or a
    sequence of matrices, one per layer. The logits are [nodes asked for, num_classes].
    """

    output_layer: str
    untold = ""  # what this network does and its tensors do not tell
    uses_edge_weight = True

    def __init__(self, in_channels: int, num_classes: int, dropout: float, num_layers: int = 1) -> None:
        super().__init__()
        check_at_least("num_layers", num_layers, 1)
        check_dropout(dropout)
        self.in_channels, self.num_classes, self.dropout = in_channels, num_classes, dropout

    def settle(self, theirs: State, ours: State) -> list[str]:
        """Tell how weights are read that may be of a network with other settings."""
        return [f"read with {self.untold}, which tensors do not tell"] if self.untold else []

    def reset_parameters(self) -> None:
        """Draw new initial weights, layer by layer."""
        for child in self.children():
            for layer in child if isinstance(child, nn.ModuleList) else [child]:
                layer.reset_parameters()  # type: ignore[operator]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.parameters()).dtype

    @property
    def operator_dtype(self) -> torch.dtype:
        """The type of a graph's operator: that of the weights, or float32 for half types, as it is multiplied."""
        return compute_dtype(self.dtype)

    def propagation(self, edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None) -> Adjacency:
        """Return the square operator that this network applies to a graph."""
        return gcn_norm(edge_index, num_nodes, edge_weight, self.operator_dtype)

    def prepare(
        self, edge_index: Tensor, num_nodes: int, nodes: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Operators:
        """Compute once what the logits at ``nodes`` (int64 [n] or bool [num_nodes], all if None) need.

        Edges are read as PyG's layers read them: source and target, in one direction each, with positive weights or
        without. A network that has no use for weights warns of those it is given.
        """
        if edge_weight is not None and not self.uses_edge_weight:
            warn(f"{type(self).__name__} has no use for edge weights: all edges count alike")
        outputs = None if nodes is None else as_index(nodes, num_nodes, "node")
        return Operators(adjacency=self.propagation(edge_index, num_nodes, edge_weight), outputs=outputs)

    def read(self, x: Features, graph: Graph) -> tuple[Features, Operators]:
        """Return features and a graph in any accepted form as what the layers multiply, once they are checked."""
        if not isinstance(x, (Tensor, SparseMatrix)):  # tuples, because torch 2.9 compiles no isinstance(x, A | B)
            hint = "of a numpy array, torch.from_numpy(x).float() makes one"
            raise UsageError(f"x must be a tensor or a SparseMatrix, not {type(x).__name__}; {hint}")
        if len(x.shape) != 2:
            wanted = f"[nodes, {self.in_channels}], one row a node and no batch axis"
            raise UsageError(f"x must be {wanted}, not {list(x.shape)}")
        if isinstance(x, Tensor) and x.layout != torch.strided:
            x = SparseMatrix.from_torch(x)
        if x.dtype != self.dtype and isinstance(x, Tensor) and not torch.is_autocast_enabled(x.device.type):
            other = f", or the model with model.to({x.dtype})" if x.is_floating_point() else ""
            hint = f"convert x with x.to({self.dtype}){other}"
            raise UsageError(f"x has numbers of type {x.dtype}, the model has weights of type {self.dtype}; {hint}")
        if not isinstance(graph, (Operators, SparseMatrix, EdgeMatrix, Tensor)) and not _are_operators(graph):
            wanted = "graph must be an edge_index [2, E], what model.prepare returned, or sparse matrices"
            graph = as_edges(graph, wanted, x.device)
        if isinstance(graph, Tensor):
            graph = self.prepare(graph, x.shape[0])
        elif not isinstance(graph, Operators):
            graph = Operators(graph if isinstance(graph, (SparseMatrix, EdgeMatrix)) else tuple(graph))
        first = graph.adjacency[0] if isinstance(graph.adjacency, tuple) else graph.adjacency
        if x.shape[0] != first.shape[1]:
            raise UsageError(
                f"x has {x.shape[0]} rows, the graph operator needs {first.shape[1]}; select them once with "
                "operators.inputs(x)"
            )
        if x.shape[1] != self.in_channels:
            raise UsageError(f"x has {x.shape[1]} features, the model was built with in_channels={self.in_channels}")
        return x, graph

    options_of = staticmethod(options_of)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"


def _are_operators(graph: Any) -> bool:
    return isinstance(graph, Sequence) and all(isinstance(each, (SparseMatrix, EdgeMatrix)) for each in graph)


def as_edges(edges: Any, wanted: str, device: torch.device | None = None) -> Tensor:
    """Edges that are an array, or two lists, arrays or tensors, as DGL's are; UsageError says what is ``wanted``."""
    try:
        if isinstance(edges, Sequence) and len(edges) == 2:
            return torch.stack([torch.as_tensor(each, device=device) for each in edges])
        return torch.as_tensor(edges, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{wanted}, not a {type(edges).__name__} ({first_line(error)})") from error


class LayeredModel(GraphModel):
    """A stack of layers of one kind: dropout, a method ``layer(conv, x, adjacency)``, and an activation in between."""

    convs: Any  # a ModuleList of PyG's layers
    layer: Callable[..., Tensor]

    def __init__(self, in_channels: int, num_classes: int, dropout: float, num_layers: int) -> None:
        super().__init__(in_channels, num_classes, dropout, num_layers)
        self.output_layer = f"convs.{num_layers - 1}"

    def activation(self, h: Tensor) -> Tensor:
        return F.relu(h, inplace=True)

    def forward(self, x: Features, graph: Graph) -> Tensor:
        x, operators = self.read(x, graph)
        last = len(self.convs) - 1
        for i, (conv, adjacency) in enumerate(zip(self.convs, operators.layers(last + 1), strict=True)):
            h = self.layer(conv, dropout(x, self.dropout, self.training), adjacency)
            x = self.activation(h) if i < last else h
        return operators.select(h)


def prepare_graph(
    model: nn.Module,
    features: Features,
    edge_index: Tensor,
    nodes: Tensor | None = None,
    edge_weight: Tensor | None = None,
) -> tuple[Features, Operators | Tensor, Tensor | None]:
    """Prepare a graph for any module that classifies nodes, with or without a method ``prepare``.

    A :class:`GraphModel` computes at ``nodes`` (int64 [n] or bool [N], all if None) only. A module in the style of
    PyTorch Geometric, with ``forward(x, edge_index)``, gets dense features, no weights, and computes at all nodes.
    Returned are ``x`` and ``graph`` for ``logits = model(x, graph)``, and the rows of these logits that belong to
    ``nodes``, None for all.
    """
    if hasattr(model, "prepare"):
        weights = {} if edge_weight is None else {"edge_weight": edge_weight}
        operators = model.prepare(edge_index, features.shape[0], nodes=nodes, **weights)  # type: ignore[operator]
        return operators.inputs(features), operators, None
    if edge_weight is not None:
        warn(f"{type(model).__name__} is called without the edge weights: it has no prepare()")
    dense = features.to_dense()
    return dense, edge_index, None if nodes is None else as_index(nodes, len(dense), "node")
