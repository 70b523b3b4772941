"""GCN against PyTorch Geometric's."""

import pytest
import torch
from torch_geometric.nn.models import GCN as PygGCN

from comhe.zoo.graphs import SparseMatrix, gcn_norm

from .conftest import CLASSES, FEATURES, NODES, build


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_state_dicts_are_interchangeable_with_pyg(graph, num_layers):
    x, edge_index = graph
    ours = build("gcn", num_layers=num_layers, hidden_channels=16).eval()
    theirs = PygGCN(FEATURES, 16, num_layers, CLASSES).eval()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index), atol=1e-6, rtol=1e-6)
    theirs.reset_parameters()
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index), atol=1e-6, rtol=1e-6)


def test_gcn_trains_as_pyg_does_without_dropout(graph):
    x, edge_index = graph
    ours = build("gcn", dropout=0.0)
    theirs = PygGCN(FEATURES, 16, 2, CLASSES)
    theirs.load_state_dict(ours.state_dict())
    nodes, labels = torch.tensor([3, 17, 40]), torch.tensor([0, 1, 2])
    view = ours.prepare(edge_index, NODES, nodes=nodes)
    sparse = view.inputs(SparseMatrix.from_torch(x))
    torch.nn.functional.cross_entropy(ours(sparse, view), labels).backward()
    torch.nn.functional.cross_entropy(theirs(x, edge_index)[nodes], labels).backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-5, msg=name)


def test_gcn_takes_a_sequence_of_operators(graph):
    x, edge_index = graph
    model, adjacency = build("gcn").eval(), gcn_norm(edge_index, NODES)
    expected = model(x, edge_index)[[3, 4]]
    torch.testing.assert_close(model(x, [adjacency, adjacency.rows(torch.tensor([3, 4]))]), expected)
