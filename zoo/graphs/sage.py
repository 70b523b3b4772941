"""GraphSAGE with the mean aggregator."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import SAGEConv

from comhe.zoo.registry import register_model

from .operators import GraphModel, mean_norm
from .sparse import SparseMatrix, check_dropout, dropout


class SAGE(GraphModel):
    r"""GraphSAGE on the full graph.

    .. math:: H_{l+1} = \mathrm{relu}(D^{-1} A H_l L_l^\top + b_l + H_l R_l^\top)

    without relu after the last layer; dropout before every layer. State dicts are those of
    ``torch_geometric.nn.models.GraphSAGE`` (layers are PyG's ``SAGEConv``, used as parameter holders). The weights are
    applied before the mean, which is the same product and lets x stay sparse.

    Shapes:
        x [N, in_channels], graph as :class:`GraphModel` says -> [nodes asked for, num_classes]
    Errors: ValueError for shapes that do not fit, an edge outside the graph, dropout outside [0, 1).
    Source: Hamilton, Ying & Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017.
    """

    def __init__(self, in_channels: int, num_classes: int, hidden_channels: int, num_layers: int, dropout: float):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        check_dropout(dropout)
        self.in_channels, self.num_classes, self.dropout = in_channels, num_classes, dropout
        self.output_layer = f"convs.{num_layers - 1}"
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [num_classes]
        self.convs = nn.ModuleList(SAGEConv(a, b) for a, b in pairwise(widths))

    def reset_parameters(self) -> None:
        for conv in self.convs:
            conv.reset_parameters()

    def propagation(self, edge_index: Tensor, num_nodes: int) -> SparseMatrix:
        return mean_norm(edge_index, num_nodes)

    def forward(self, x: SparseMatrix | Tensor, graph) -> Tensor:
        view = self.operators(x, graph)
        last = len(self.convs) - 1
        for i, (conv, adjacency) in enumerate(zip(self.convs, view.layers(last + 1), strict=True)):
            x = dropout(x, self.dropout, self.training)
            x = adjacency @ (x @ conv.lin_l.weight.t()) + conv.lin_l.bias + x @ conv.lin_r.weight.t()
            if i < last:
                x = F.relu(x, inplace=True)
        return view.select(x)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"


@register_model
def sage(
    in_channels: int, num_classes: int, hidden_channels: int = 64, num_layers: int = 2, dropout: float = 0.5
) -> SAGE:
    """GraphSAGE, mean aggregator, full batch: two layers of 64 hidden units."""
    return SAGE(in_channels, num_classes, hidden_channels, num_layers, dropout)
