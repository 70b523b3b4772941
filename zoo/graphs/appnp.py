"""Approximate personalised propagation of neural predictions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn import Linear

from comhe.zoo.registry import register_model

from .operators import GraphModel
from .sparse import SparseMatrix, check_dropout, dropout


class APPNP(GraphModel):
    r"""A two-layer perceptron whose predictions are spread by K steps of personalised PageRank.

    .. math:: Z_0 = H = \mathrm{MLP}(X), \quad Z_{k+1} = (1 - \alpha) \hat A Z_k + \alpha H

    Dropout acts on both layers of the perceptron and, drawn anew in every step, on :math:`\hat A`.

    Shapes:
        x [N, in_channels], graph as :class:`GraphModel` says -> [nodes asked for, num_classes]
    Errors: ValueError for shapes that do not fit, an edge outside the graph, dropout or alpha outside its range.
    Source: Gasteiger, Bojchevski & Guennemann, Predict then Propagate, ICLR 2019.
    """

    output_layer = "lin2"

    def __init__(
        self, in_channels: int, num_classes: int, hidden_channels: int, num_steps: int, alpha: float, dropout: float
    ):
        super().__init__()
        check_dropout(dropout)
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        self.in_channels, self.num_classes, self.dropout = in_channels, num_classes, dropout
        self.num_steps, self.alpha = num_steps, alpha
        self.lin1 = Linear(in_channels, hidden_channels, weight_initializer="glorot", bias_initializer="zeros")
        self.lin2 = Linear(hidden_channels, num_classes, weight_initializer="glorot", bias_initializer="zeros")

    def reset_parameters(self) -> None:
        self.lin1.reset_parameters()
        self.lin2.reset_parameters()

    def forward(self, x: SparseMatrix | Tensor, graph) -> Tensor:
        view = self.operators(x, graph)
        x = dropout(x, self.dropout, self.training) @ self.lin1.weight.t() + self.lin1.bias
        h = self.lin2(dropout(F.relu(x, inplace=True), self.dropout, self.training))
        z, teleport = h, self.alpha * h
        for adjacency in view.layers(self.num_steps):
            z = (1 - self.alpha) * (adjacency.dropout(self.dropout, self.training) @ z) + teleport
        return view.select(z)

    def extra_repr(self) -> str:
        return f"num_steps={self.num_steps}, alpha={self.alpha}, dropout={self.dropout}"


@register_model
def appnp(
    in_channels: int,
    num_classes: int,
    hidden_channels: int = 64,
    num_steps: int = 10,
    alpha: float = 0.1,
    dropout: float = 0.5,
) -> APPNP:
    """Predict then propagate: 64 hidden units, 10 steps, teleport probability 0.1."""
    return APPNP(in_channels, num_classes, hidden_channels, num_steps, alpha, dropout)
