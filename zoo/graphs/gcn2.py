"""GCNII: the deep graph convolutional network with initial residual and identity mapping."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.zoo.adapters.graphs import adapt_gcn2
from comhe.zoo.registry import register_model

from .model import Graph, GraphModel
from .pyg import pyg_nn
from .sparse import Features, check_alpha, dropout


@register_model(domain="graphs", name="gcn2")
class GCN2(GraphModel):
    r"""GCNII.

    .. math:: H_{l+1} = \mathrm{relu}\bigl(P_l ((1 - \beta_l) I + \beta_l W_l)\bigr), \quad
              P_l = (1 - \alpha) \hat A H_l + \alpha H_0, \quad \beta_l = \log(\theta / l + 1)

    between a linear layer in (with relu, giving :math:`H_0`) and one out. Layers are PyG's ``GCN2Conv``, used as
    parameter holders; the keys are those of PyG's example ``gcn2_cora.py`` (``lins.0``, ``convs.0.weight1``, ...).

    Source: Chen et al., Simple and Deep Graph Convolutional Networks, ICML 2020. Theirs on Cora is 64 layers deep
        (CiteSeer 32 x 256 units, PubMed 16 x 256); the default of 16 layers is a CPU's size.
    """

    output_layer = "lins.1"
    lins: Any  # a ModuleList of Linear
    convs: Any  # a ModuleList of GCN2Conv

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        hidden_channels: int = 64,
        num_layers: int = 16,
        alpha: float = 0.1,
        theta: float = 0.5,
        dropout: float = 0.6,
    ) -> None:
        super().__init__(in_channels, num_classes, dropout, num_layers)
        check_alpha(alpha)
        self.untold = f"alpha={alpha:g} and theta={theta:g}"
        ends = [(in_channels, hidden_channels), (hidden_channels, num_classes)]
        Linear, GCN2Conv = pyg_nn().Linear, pyg_nn().GCN2Conv
        self.lins = nn.ModuleList(Linear(a, b, weight_initializer="glorot", bias_initializer="zeros") for a, b in ends)
        self.convs = nn.ModuleList(GCN2Conv(hidden_channels, alpha, theta, layer) for layer in range(1, num_layers + 1))

    def forward(self, x: Features, graph: Graph) -> Tensor:
        x, operators = self.read(x, graph)
        h = dropout(x, self.dropout, self.training).mm(self.lins[0].weight.t()) + self.lins[0].bias
        h = h_0 = F.relu(h, inplace=True)
        for conv, adjacency in zip(self.convs, operators.layers(len(self.convs)), strict=True):
            p = adjacency.mm(dropout(h, self.dropout, self.training))
            p = torch.lerp(p, h_0.to(p.dtype), conv.alpha)  # autocast may have given them two types
            h = F.relu(torch.addmm(p, p, conv.weight1, beta=1 - conv.beta, alpha=conv.beta))
        return operators.select(self.lins[1](dropout(h, self.dropout, self.training)))

    adapt = staticmethod(adapt_gcn2)
