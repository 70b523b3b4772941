"""Graph attention network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GATConv
from torch_geometric.utils import add_self_loops, remove_self_loops, softmax

from comhe.zoo.registry import register_model

from .operators import GraphModel
from .sparse import SparseMatrix, check_dropout, check_edge_index, dropout


class GAT(GraphModel):
    r"""Graph attention network; per head, over the incoming edges j -> i and the self-loop,

    .. math:: \alpha_{ij} = \mathrm{softmax}_j \, \mathrm{leaky\,relu}_{0.2}(a^\top W h_i + b^\top W h_j), \quad
              h_i' = \sum_j \alpha_{ij} W h_j + c

    Hidden layers concatenate their heads and apply elu, the last averages its heads. Dropout acts on the input of every
    layer and on the attention coefficients. Layers are PyG's ``GATConv`` used as parameter holders, because GATConv
    itself cannot read a sparse x. Edges given twice count once.

    Shapes:
        x [N, in_channels], graph as :class:`GraphModel` says (only the positions of its values are used)
        -> [nodes asked for, num_classes]
    Errors: ValueError for shapes that do not fit, an edge outside the graph, dropout outside [0, 1).
    Source: Velickovic et al., Graph Attention Networks, ICLR 2018 (Cora and CiteSeer: 8 heads of 8, then one head).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        hidden_channels: int,
        heads: int,
        output_heads: int,
        num_layers: int,
        dropout: float,
    ):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        check_dropout(dropout)
        self.in_channels, self.num_classes, self.dropout = in_channels, num_classes, dropout
        self.output_layer = f"convs.{num_layers - 1}"
        widths = [in_channels] + [hidden_channels * heads] * (num_layers - 1)
        self.convs = nn.ModuleList(GATConv(width, hidden_channels, heads) for width in widths[:-1])
        self.convs.append(GATConv(widths[-1], num_classes, output_heads, concat=False))

    def reset_parameters(self) -> None:
        for conv in self.convs:
            conv.reset_parameters()

    def propagation(self, edge_index: Tensor, num_nodes: int) -> SparseMatrix:
        check_edge_index(edge_index, num_nodes)
        edge_index, _ = add_self_loops(remove_self_loops(edge_index)[0], num_nodes=num_nodes)
        return SparseMatrix.from_edge_index(edge_index, num_nodes)

    def forward(self, x: SparseMatrix | Tensor, graph) -> Tensor:
        view = self.operators(x, graph)
        last = len(self.convs) - 1
        for i, (conv, adjacency) in enumerate(zip(self.convs, view.layers(last + 1), strict=True)):
            x = self._attend(conv, dropout(x, self.dropout, self.training), adjacency)
            if i < last:
                x = F.elu(x)
        return view.select(x)

    def _attend(self, conv: GATConv, x: SparseMatrix | Tensor, adjacency: SparseMatrix) -> Tensor:
        target, source = (index.long() for index in adjacency.indices())
        h = (x @ conv.lin.weight.t()).view(-1, conv.heads, conv.out_channels)
        score = (h * conv.att_src).sum(-1)[source] + (h * conv.att_dst).sum(-1)[target]  # [E, heads]
        alpha = softmax(F.leaky_relu(score, conv.negative_slope), target, num_nodes=adjacency.shape[0])
        alpha = dropout(alpha, self.dropout, self.training)
        messages = h.index_select(0, source) * alpha.unsqueeze(-1)
        out = torch.zeros_like(h).index_add(0, target, messages)
        return (out.flatten(1) if conv.concat else out.mean(1)) + conv.bias

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"


@register_model
def gat(
    in_channels: int,
    num_classes: int,
    hidden_channels: int = 8,
    heads: int = 8,
    output_heads: int = 1,
    num_layers: int = 2,
    dropout: float = 0.6,
) -> GAT:
    """Velickovic et al.'s graph attention network: 8 heads of 8 units, one output head (PubMed: 8), dropout 0.6."""
    return GAT(in_channels, num_classes, hidden_channels, heads, output_heads, num_layers, dropout)
