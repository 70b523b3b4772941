"""GraphSAGE against PyTorch Geometric's."""

import pytest
import torch
from torch_geometric.nn.models import GraphSAGE as PygSAGE

from .conftest import CLASSES, FEATURES, build


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_state_dicts_are_interchangeable_with_pyg(graph, num_layers):
    x, edge_index = graph
    ours = build("sage", num_layers=num_layers, hidden_channels=16).eval()
    theirs = PygSAGE(FEATURES, 16, num_layers, CLASSES).eval()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index), atol=1e-6, rtol=1e-6)
    theirs.reset_parameters()
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index), atol=1e-6, rtol=1e-6)
