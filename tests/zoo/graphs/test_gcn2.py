"""GCNII against PyTorch Geometric's layers."""

import torch
from torch_geometric.nn import GCN2Conv

from .conftest import build


def test_gcn2_is_a_stack_of_gcn2conv(graph):
    x, edge_index = graph
    model = build("gcn2", num_layers=5).eval()
    h = h_0 = model.lins[0](x).relu()
    for i, conv in enumerate(model.convs):
        same = GCN2Conv(64, 0.1, 0.5, i + 1)
        same.load_state_dict(conv.state_dict())
        h = same(h, h_0, edge_index).relu()
    torch.testing.assert_close(model(x, edge_index), model.lins[1](h), atol=1e-6, rtol=1e-5)
