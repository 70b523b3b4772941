"""GAT against PyTorch Geometric's layers."""

import torch
from torch_geometric.nn import GATConv

from .conftest import CLASSES, FEATURES, build


def test_gat_is_a_stack_of_gatconv(graph):
    x, edge_index = graph
    model = build("gat", output_heads=2).eval()
    hidden = GATConv(FEATURES, 8, 8)
    last = GATConv(64, CLASSES, 2, concat=False)
    hidden.load_state_dict(model.convs[0].state_dict())
    last.load_state_dict(model.convs[1].state_dict())
    expected = last(torch.nn.functional.elu(hidden(x, edge_index)), edge_index)
    torch.testing.assert_close(model(x, edge_index), expected, atol=1e-6, rtol=1e-5)
