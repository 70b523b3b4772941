"""Approximate personalized propagation of neural predictions."""

from torch import Tensor
from torch.nn import functional as F

from comhe.zoo.adapters.graphs import adapt_appnp
from comhe.zoo.registry import register_model

from .model import Graph, GraphModel
from .pyg import pyg_nn
from .sparse import Features, check_alpha, dropout


@register_model(domain="graphs", name="appnp")
class APPNP(GraphModel):
    r"""A two-layer perceptron whose predictions are spread by K steps of personalized PageRank.

    .. math:: Z_0 = H = \mathrm{MLP}(X), \quad Z_{k+1} = (1 - \alpha) \hat A Z_k + \alpha H

    Dropout acts on both layers of the perceptron and, with new draws in every step, on :math:`\hat A`.

    Source: Gasteiger, Bojchevski & Guennemann, Predict then Propagate, ICLR 2019.
    """

    output_layer = "lin2"

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        hidden_channels: int = 64,
        num_steps: int = 10,
        alpha: float = 0.1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(in_channels, num_classes, dropout)
        check_alpha(alpha)
        self.num_steps, self.alpha = num_steps, alpha
        self.untold = f"num_steps={num_steps} and alpha={alpha:g}"
        Linear = pyg_nn().Linear
        self.lin1 = Linear(in_channels, hidden_channels, weight_initializer="glorot", bias_initializer="zeros")
        self.lin2 = Linear(hidden_channels, num_classes, weight_initializer="glorot", bias_initializer="zeros")

    def forward(self, x: Features, graph: Graph) -> Tensor:
        x, operators = self.read(x, graph)
        h = dropout(x, self.dropout, self.training).mm(self.lin1.weight.t()) + self.lin1.bias
        h = self.lin2(dropout(F.relu(h, inplace=True), self.dropout, self.training))
        z, teleport = h, self.alpha * h
        for adjacency in operators.layers(self.num_steps):
            z = (1 - self.alpha) * adjacency.dropout(self.dropout, self.training).mm(z) + teleport
        return operators.select(z)

    def extra_repr(self) -> str:
        return f"num_steps={self.num_steps}, alpha={self.alpha}, dropout={self.dropout}"

    adapt = staticmethod(adapt_appnp)
