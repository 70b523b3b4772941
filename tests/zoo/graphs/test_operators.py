"""Operators against their formulas, and receptive fields against the full graph."""

import pytest
import torch

from comhe.zoo.graphs import gcn_norm, mean_norm, receptive_field

from .conftest import NODES, build, random_graph


def test_gcn_norm_is_the_formula_and_pygs():
    edge_index = random_graph()
    edge_index = torch.cat([edge_index, torch.tensor([[3], [3]])], 1).unique(dim=1)  # a self-loop counts once
    operator = gcn_norm(edge_index, 41)  # node 40 has no edge
    a = torch.zeros(41, 41)
    a[edge_index[1], edge_index[0]] = 1
    a.fill_diagonal_(1)
    d = a.sum(1).rsqrt()
    torch.testing.assert_close(operator.to_dense(), d[:, None] * a * d)
    assert operator.symmetric
    directed = gcn_norm(torch.tensor([[0, 1], [1, 2]]), 3)
    assert not directed.symmetric
    assert directed.to_dense()[1, 0] > 0  # row is the target of the edge
    assert directed.to_dense()[0, 1] == 0


def test_mean_norm_averages_incoming_edges():
    operator = mean_norm(torch.tensor([[0, 1, 0], [2, 2, 1]]), 3)
    torch.testing.assert_close(operator.to_dense(), torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_receptive_field_is_exact(depth):
    adjacency = gcn_norm(random_graph(), 40)
    nodes = torch.tensor([7, 3, 20])
    field = receptive_field(adjacency, nodes, depth)
    assert len(field.adjacency) == depth
    assert len(field.rows) < 40
    x = torch.randn(40, 4)
    full, part = x, field.inputs(x)
    for layer in field.adjacency:
        full, part = adjacency @ full, layer @ part
    torch.testing.assert_close(part, full[nodes])


def test_operators_of_another_depth_are_refused(graph):
    x, edge_index = graph
    view = build("gcn", num_layers=3).prepare(edge_index, NODES, nodes=torch.tensor([0]))
    with pytest.raises(ValueError, match="the operators are for 3 layers, the model has 2"):
        build("gcn")(view.inputs(x), view)
