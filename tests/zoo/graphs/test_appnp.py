"""APPNP against PyTorch Geometric's propagation."""

import torch
from torch_geometric.nn import APPNP as PygAPPNP

from .conftest import build


def test_appnp_propagates_as_pyg_does(graph):
    x, edge_index = graph
    model = build("appnp").eval()
    expected = PygAPPNP(10, 0.1)(model.lin2(model.lin1(x).relu()), edge_index)
    torch.testing.assert_close(model(x, edge_index), expected, atol=1e-6, rtol=1e-5)
