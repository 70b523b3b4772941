"""Graph convolutional network."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from comhe.zoo.registry import register_model

from .operators import GraphModel, Operators, receptive_field
from .ports import convert_gcn
from .sparse import SparseMatrix, check_dropout, dropout


class GCN(GraphModel):
    r"""Kipf's graph convolutional network.

    .. math:: H_{l+1} = \mathrm{relu}(\hat A \, \mathrm{dropout}(H_l) W_l^\top + b_l), \quad
              \hat A = D^{-1/2} (A + I) D^{-1/2}

    without relu after the last layer. Dropout acts on the input and on every hidden layer (PyG's ``GCN`` model spares
    the input). Layers are PyG's ``GCNConv``, used as parameter holders: state dicts are those of
    ``torch_geometric.nn.models.GCN``.

    Shapes:
        x [N, in_channels], graph as :class:`GraphModel` says -> [nodes asked for, num_classes]
    Errors: ValueError for shapes that do not fit, an edge outside the graph, dropout outside [0, 1).
    Source: Kipf & Welling, ICLR 2017 (defaults of github.com/tkipf/gcn).
    """

    def __init__(self, in_channels: int, num_classes: int, hidden_channels: int, num_layers: int, dropout: float):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        check_dropout(dropout)
        self.in_channels, self.num_classes, self.dropout = in_channels, num_classes, dropout
        self.output_layer = f"convs.{num_layers - 1}"
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [num_classes]
        self.convs = nn.ModuleList(GCNConv(a, b) for a, b in pairwise(widths))

    def reset_parameters(self) -> None:
        for conv in self.convs:
            conv.reset_parameters()

    def translate(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state dict of another implementation by this one's names; see :mod:`.ports`."""
        return convert_gcn(state)

    def prepare(self, edge_index: Tensor, num_nodes: int, nodes: Tensor | None = None) -> Operators:
        adjacency = self.propagation(edge_index, num_nodes)
        return Operators(adjacency) if nodes is None else receptive_field(adjacency, nodes, len(self.convs))

    def forward(self, x: SparseMatrix | Tensor, graph) -> Tensor:
        view = self.operators(x, graph)
        last = len(self.convs) - 1
        for i, (conv, adjacency) in enumerate(zip(self.convs, view.layers(last + 1), strict=True)):
            x = dropout(x, self.dropout, self.training)
            x = adjacency @ (x @ conv.lin.weight.t()) + conv.bias
            if i < last:
                x = F.relu(x, inplace=True)
        return view.select(x)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"


@register_model
def gcn(
    in_channels: int, num_classes: int, hidden_channels: int = 16, num_layers: int = 2, dropout: float = 0.5
) -> GCN:
    """Kipf & Welling's graph convolutional network: two layers, 16 hidden units, dropout 0.5 on input and hidden."""
    return GCN(in_channels, num_classes, hidden_channels, num_layers, dropout)
