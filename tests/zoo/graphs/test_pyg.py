"""PyTorch Geometric is imported when a graph network is built, and not before."""

import torch_geometric.nn

from comhe.zoo import create_model
from comhe.zoo.graphs.pyg import pyg_nn


def test_layers_are_those_of_pyg():
    assert pyg_nn() is torch_geometric.nn
    model = create_model("gcn", in_channels=3, num_classes=2)
    assert all(type(layer) is torch_geometric.nn.GCNConv for layer in model.convs)
