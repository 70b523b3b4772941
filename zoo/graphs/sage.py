"""GraphSAGE with the mean aggregator."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from comhe.zoo.adapters.graphs import adapt_sage
from comhe.zoo.registry import register_model

from .model import LayeredModel
from .operators import Adjacency, mean_norm
from .pyg import pyg_nn
from .sparse import Features


@register_model(domain="graphs", name="sage")
class SAGE(LayeredModel):
    r"""GraphSAGE on the full graph.

    .. math:: H_{l+1} = \mathrm{relu}(D^{-1} A H_l L_l^\top + b_l + H_l R_l^\top)

    without relu after the last layer; dropout before every layer. State dicts are those of
    ``torch_geometric.nn.models.GraphSAGE`` (layers are PyG's ``SAGEConv``, used as parameter holders). The weights are
    applied before the mean, which is the same product and lets x stay sparse.

    Source: Hamilton, Ying & Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017.
    """

    untold = "mean aggregation, without normalization of the rows, ReLU between layers"

    def __init__(
        self, in_channels: int, num_classes: int, hidden_channels: int = 64, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(in_channels, num_classes, dropout, num_layers)
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [num_classes]
        self.convs = nn.ModuleList(pyg_nn().SAGEConv(a, b) for a, b in pairwise(widths))

    uses_edge_weight = False

    def propagation(self, edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None) -> Adjacency:
        return mean_norm(edge_index, num_nodes, self.operator_dtype)

    def layer(self, conv: Any, x: Features, adjacency: Adjacency) -> Tensor:
        return adjacency.mm(x.mm(conv.lin_l.weight.t())) + conv.lin_l.bias + x.mm(conv.lin_r.weight.t())

    adapt = staticmethod(adapt_sage)
