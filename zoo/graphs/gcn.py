"""Graph convolutional network."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from comhe.zoo.registry import register_model

from .adapters import adapt_gcn
from .model import Graph, GraphModel
from .operators import Operators, receptive_field
from .sparse import Features, dropout


@register_model(domain="graphs", name="gcn")
class GCN(GraphModel):
    r"""Kipf's graph convolutional network.

    .. math:: H_{l+1} = \mathrm{relu}(\hat A \, \mathrm{dropout}(H_l) W_l^\top + b_l), \quad
              \hat A = D^{-1/2} (A + I) D^{-1/2}

    without relu after the last layer. Dropout acts on the input and on every hidden layer (PyG's ``GCN`` model leaves
    the input alone). Layers are PyG's ``GCNConv``, used as parameter holders: state dicts are those of
    ``torch_geometric.nn.models.GCN``.

    Source: Kipf & Welling, ICLR 2017 (defaults of github.com/tkipf/gcn).
    """

    convs: Any  # a ModuleList of GCNConv

    def __init__(
        self, in_channels: int, num_classes: int, hidden_channels: int = 16, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(in_channels, num_classes, dropout, num_layers)
        self.output_layer = f"convs.{num_layers - 1}"
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [num_classes]
        self.convs = nn.ModuleList(GCNConv(a, b) for a, b in pairwise(widths))

    def adapt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Rename the state dict of another implementation; see :func:`.adapters.adapt_gcn`."""
        return adapt_gcn(state)

    def prepare(self, edge_index: Tensor, num_nodes: int, nodes: Tensor | None = None) -> Operators:
        adjacency = self.propagation(edge_index, num_nodes)
        return Operators(adjacency) if nodes is None else receptive_field(adjacency, nodes, len(self.convs))

    def forward(self, x: Features, graph: Graph) -> Tensor:
        operators = self.operators(x, graph)
        last = len(self.convs) - 1
        for i, (conv, adjacency) in enumerate(zip(self.convs, operators.layers(last + 1), strict=True)):
            x = dropout(x, self.dropout, self.training)
            h = adjacency @ (x @ conv.lin.weight.t()) + conv.bias
            x = F.relu(h, inplace=True) if i < last else h
        return operators.select(h)
