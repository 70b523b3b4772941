"""Graph attention network."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.zoo.adapters.graphs import adapt_gat
from comhe.zoo.registry import register_model

from .edges import EdgeMatrix, self_looped
from .model import LayeredModel
from .operators import Adjacency
from .products import is_traced
from .pyg import pyg_nn
from .sparse import Features, SparseMatrix, check_edge_index, dropout


@register_model(domain="graphs", name="gat")
class GAT(LayeredModel):
    r"""Graph attention network; per head, over the incoming edges j -> i and the self-loop,

    .. math:: \alpha_{ij} = \mathrm{softmax}_j \, \mathrm{leaky\,relu}_{0.2}(a^\top W h_i + b^\top W h_j), \quad
              h_i' = \sum_j \alpha_{ij} W h_j + c

    Hidden layers concatenate their heads and apply elu, the last averages its heads. Dropout acts on the input of every
    layer and on the attention coefficients. Layers are PyG's ``GATConv`` used as parameter holders, because GATConv
    itself cannot read a sparse x, and treat edges as it does: one given twice gets two coefficients, a node has one
    self-loop, and weights are not used.

    Source: Velickovic et al., Graph Attention Networks, ICLR 2018 (the defaults, but 8 output heads on PubMed).
    """

    untold = "attention with self-loops, slope 0.2 of the leaky ReLU, ELU between layers"

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        hidden_channels: int = 8,
        heads: int = 8,
        output_heads: int = 1,
        num_layers: int = 2,
        dropout: float = 0.6,
    ) -> None:
        super().__init__(in_channels, num_classes, dropout, num_layers)
        GATConv = pyg_nn().GATConv
        widths = [in_channels] + [hidden_channels * heads] * (num_layers - 1)
        self.convs = nn.ModuleList(GATConv(width, hidden_channels, heads) for width in widths[:-1])
        self.convs.append(GATConv(widths[-1], num_classes, output_heads, concat=False))

    uses_edge_weight = False

    def propagation(self, edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None) -> Adjacency:
        edge_index = check_edge_index(edge_index, num_nodes)
        if is_traced():
            return self_looped(edge_index, num_nodes, None, self.operator_dtype)
        from torch_geometric.utils import add_self_loops, remove_self_loops

        edge_index, _ = add_self_loops(remove_self_loops(edge_index)[0], num_nodes=num_nodes)
        return SparseMatrix.from_coo(edge_index[1], edge_index[0], None, (num_nodes, num_nodes), sum_duplicates=False)

    def activation(self, h: Tensor) -> Tensor:
        return F.elu(h)

    def layer(self, conv: Any, x: Features, adjacency: Adjacency) -> Tensor:
        from torch_geometric.utils import softmax

        target, source = (index.long() for index in adjacency.indices())
        h = x.mm(conv.lin.weight.t()).view(-1, conv.heads, conv.out_channels)
        score = (h * conv.att_src).sum(-1)[source] + (h * conv.att_dst).sum(-1)[target]  # [E, heads]
        score = F.leaky_relu(score, conv.negative_slope)
        if isinstance(adjacency, EdgeMatrix):
            score = score.masked_fill((adjacency.values == 0)[:, None], -torch.inf)
        alpha = softmax(score, target, num_nodes=adjacency.shape[0])
        alpha = dropout(alpha, self.dropout, self.training)
        messages = h.index_select(0, source) * alpha.unsqueeze(-1)
        out = messages.new_zeros(h.shape).index_add(0, target, messages)
        return (out.flatten(1) if conv.concat else out.mean(1)) + conv.bias

    adapt = staticmethod(adapt_gat)
