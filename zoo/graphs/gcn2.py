"""GCNII: the deep graph convolutional network with initial residual and identity mapping."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCN2Conv, Linear

from comhe.zoo.registry import register_model

from .operators import GraphModel
from .sparse import SparseMatrix, check_dropout, dropout


class GCN2(GraphModel):
    r"""GCNII.

    .. math:: H_{l+1} = \mathrm{relu}\bigl(P_l ((1 - \beta_l) I + \beta_l W_l)\bigr), \quad
              P_l = (1 - \alpha) \hat A H_l + \alpha H_0, \quad \beta_l = \log(\theta / l + 1)

    between a linear layer in (with relu, giving :math:`H_0`) and one out. Layers are PyG's ``GCN2Conv``, used as
    parameter holders; the keys are those of PyG's example ``gcn2_cora.py`` (``lins.0``, ``convs.0.weight1``, ...).

    Shapes:
        x [N, in_channels], graph as :class:`GraphModel` says -> [nodes asked for, num_classes]
    Errors: ValueError for shapes that do not fit, an edge outside the graph, dropout or alpha outside its range.
    Source: Chen et al., Simple and Deep Graph Convolutional Networks, ICML 2020. Theirs on Cora is 64 layers deep
        (CiteSeer 32 x 256 units, PubMed 16 x 256); the default of 16 layers is a CPU's size.
    """

    output_layer = "lins.1"

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        hidden_channels: int,
        num_layers: int,
        alpha: float,
        theta: float,
        dropout: float,
    ):
        super().__init__()
        check_dropout(dropout)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        self.in_channels, self.num_classes, self.dropout = in_channels, num_classes, dropout
        ends = [(in_channels, hidden_channels), (hidden_channels, num_classes)]
        self.lins = nn.ModuleList(Linear(a, b, weight_initializer="glorot", bias_initializer="zeros") for a, b in ends)
        self.convs = nn.ModuleList(GCN2Conv(hidden_channels, alpha, theta, layer) for layer in range(1, num_layers + 1))

    def reset_parameters(self) -> None:
        for layer in (*self.lins, *self.convs):
            layer.reset_parameters()

    def forward(self, x: SparseMatrix | Tensor, graph) -> Tensor:
        view = self.operators(x, graph)
        x = dropout(x, self.dropout, self.training) @ self.lins[0].weight.t() + self.lins[0].bias
        x = x_0 = F.relu(x, inplace=True)
        for conv, adjacency in zip(self.convs, view.layers(len(self.convs)), strict=True):
            p = torch.lerp(adjacency @ dropout(x, self.dropout, self.training), x_0, conv.alpha)
            x = F.relu(torch.addmm(p, p, conv.weight1, beta=1 - conv.beta, alpha=conv.beta))
        return view.select(self.lins[1](dropout(x, self.dropout, self.training)))

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"


@register_model
def gcn2(
    in_channels: int,
    num_classes: int,
    hidden_channels: int = 64,
    num_layers: int = 16,
    alpha: float = 0.1,
    theta: float = 0.5,
    dropout: float = 0.6,
) -> GCN2:
    """GCNII: 16 layers of 64 units, initial residual 0.1, theta 0.5, dropout 0.6."""
    return GCN2(in_channels, num_classes, hidden_channels, num_layers, alpha, theta, dropout)
