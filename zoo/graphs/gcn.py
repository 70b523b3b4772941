"""Graph convolutional network."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from comhe.zoo.adapters.graphs import adapt_gcn, notes_of_gcn
from comhe.zoo.registry import register_model
from comhe.zoo.state import State

from .model import LayeredModel
from .operators import Adjacency, Operators, receptive_field
from .pyg import pyg_nn
from .sparse import Features, SparseMatrix


@register_model(domain="graphs", name="gcn")
class GCN(LayeredModel):
    r"""Kipf's graph convolutional network.

    .. math:: H_{l+1} = \mathrm{relu}(\hat A \, \mathrm{dropout}(H_l) W_l^\top + b_l), \quad
              \hat A = D^{-1/2} (A + I) D^{-1/2}

    without relu after the last layer. Dropout acts on the input and on every hidden layer (PyG's ``GCN`` model leaves
    the input alone). Layers are PyG's ``GCNConv``, used as parameter holders: state dicts are those of
    ``torch_geometric.nn.models.GCN``.

    Source: Kipf & Welling, ICLR 2017 (defaults of github.com/tkipf/gcn).
    """

    untold = "self-loops, D^-1/2 (A + I) D^-1/2, ReLU between layers"

    def __init__(
        self, in_channels: int, num_classes: int, hidden_channels: int = 16, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(in_channels, num_classes, dropout, num_layers)
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [num_classes]
        self.convs = nn.ModuleList(pyg_nn().GCNConv(a, b) for a, b in pairwise(widths))

    def prepare(
        self, edge_index: Tensor, num_nodes: int, nodes: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Operators:
        adjacency = self.propagation(edge_index, num_nodes, edge_weight)
        if nodes is None or not isinstance(adjacency, SparseMatrix):
            return Operators(adjacency, outputs=nodes)
        return receptive_field(adjacency, nodes, len(self.convs))

    def layer(self, conv: Any, x: Features, adjacency: Adjacency) -> Tensor:
        return adjacency.mm(x.mm(conv.lin.weight.t())) + conv.bias

    adapt = staticmethod(adapt_gcn)

    def settle(self, theirs: State, ours: State) -> list[str]:
        return notes_of_gcn(theirs) or super().settle(theirs, ours)
