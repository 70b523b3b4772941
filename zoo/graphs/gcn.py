"""Graph convolutional network."""

import re
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from comhe.zoo.registry import register_model

from .model import LayeredModel
from .operators import Adjacency, Operators, receptive_field
from .sparse import Features, SparseMatrix

_LAYER = re.compile(r"(?:gc|conv|convs\.)(?P<number>\d+)\.(?P<tensor>lin\.weight|weight|bias)")


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

    def __init__(
        self, in_channels: int, num_classes: int, hidden_channels: int = 16, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(in_channels, num_classes, dropout, num_layers)
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [num_classes]
        self.convs = nn.ModuleList(GCNConv(a, b) for a, b in pairwise(widths))

    def prepare(
        self, edge_index: Tensor, num_nodes: int, nodes: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Operators:
        adjacency = self.propagation(edge_index, num_nodes, edge_weight)
        if nodes is None or not isinstance(adjacency, SparseMatrix):
            return Operators(adjacency, outputs=nodes)
        return receptive_field(adjacency, nodes, len(self.convs))

    def layer(self, conv: GCNConv, x: Features, adjacency: Adjacency) -> Tensor:
        return adjacency.mm(x.mm(conv.lin.weight.t())) + conv.bias

    def adapt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Rename ``convs.0.lin.weight`` [out, in], ``convs.0.bias`` ... from a layout below; return others as they are.

        ====================================  ===========================================  =================
        tkipf/pygcn                           ``gc1.weight`` [in, out], ``gc1.bias``       layers from 1
        PyTorch Geometric before 2.0          ``conv1.weight`` [in, out], ``conv1.bias``   as its user named them
        PyTorch Geometric, its example        ``conv1.lin.weight`` [out, in], ...          layers from 1
        ====================================  ===========================================  =================

        The layers keep their order. pygcn divides the rows of the adjacency by their sums, where Kipf's paper and this
        zoo divide by square roots of both degrees: its weights give its logits here only with its own operator.
        """
        matches = {name: match for name in state if (match := _LAYER.fullmatch(name))}
        if len(matches) < len(state):
            return state
        order = sorted({int(match["number"]) for match in matches.values()})
        result = {}
        for name, match in matches.items():
            tensor = "bias" if match["tensor"] == "bias" else "lin.weight"
            value = state[name].t() if match["tensor"] == "weight" else state[name]
            result[f"convs.{order.index(int(match['number']))}.{tensor}"] = value
        return result
