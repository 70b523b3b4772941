"""DGCNN: edge convolutions on graphs of nearest neighbors in the space of the features."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.zoo.registry import register_model
from comhe.zoo.state import State

from .edge_conv import EdgeConv
from .model import PointModel
from .operations import nearest_neighbors
from .shared_mlp import Head

WIDTHS = (64, 64, 128, 256)  # of the edge convolutions
SLOPE = 0.2  # of every activation below zero


@register_model(domain="points", name="dgcnn")
class DGCNN(PointModel):
    """Four edge convolutions, one layer on all their outputs, its maximum and mean over the points, a classifier.

    Each convolution finds the k nearest neighbors, the point among them, in the features of the one before.

    Source: Wang et al., Dynamic Graph CNN for Learning on Point Clouds, ACM TOG 2019 (github.com/WangYueFt/dgcnn).
    """

    def __init__(self, num_classes: int = 40, in_channels: int = 3, dropout: float = 0.5, k: int = 20) -> None:
        super().__init__(in_channels, num_classes)
        self.k = k
        self.convs = nn.ModuleList(EdgeConv(a, b, SLOPE) for a, b in pairwise((in_channels, *WIDTHS)))
        self.linear = nn.Linear(sum(WIDTHS), 1024, bias=False)
        self.norm = nn.BatchNorm1d(1024)
        self.head = Head([2048, 512, 256], num_classes, (dropout, dropout), SLOPE)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        batch, number, _ = x.shape
        layers = []
        for conv in self.convs:
            x = conv(x, nearest_neighbors(x, x, self.k))
            layers.append(x)
        x = self.linear(torch.cat(layers, -1)).flatten(0, 1)
        x = F.leaky_relu(self.norm(x), SLOPE, inplace=True).view(batch, number, x.shape[-1])
        return self.head(torch.cat((x.amax(1), x.mean(1)), -1))

    def settle(self, theirs: State, ours: State) -> list[str]:
        """Tell the number of neighbors that weights are read with."""
        return [f"read with k={self.k} neighbors, which tensors do not tell"]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, k={self.k}"
