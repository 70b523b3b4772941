"""Odd graphs: what every network makes of them is what PyTorch Geometric's own layers make."""

import re

import pytest
import torch
from torch.nn import functional as F
from torch_geometric.nn import APPNP as PygAPPNP

from comhe.zoo import create_model

N = 7
ODD = {
    "both directions": [[0, 1, 1, 2], [1, 0, 2, 1]],
    "one direction": [[0, 1, 2, 5], [1, 2, 3, 1]],
    "given twice": [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]],
    "self-loops": [[0, 1, 3, 3, 4], [1, 0, 3, 3, 4]],
    "no edge": [[], []],
}


def by_pyg(name, model, x, edges, weight=None):
    """The same network of PyG's layers, which hold the parameters."""
    weights = () if weight is None else (weight,)
    if name == "appnp":
        return PygAPPNP(model.num_steps, model.alpha)(model.lin2(model.lin1(x).relu()), edges, *weights)
    if name == "gcn2":
        h = h_0 = model.lins[0](x).relu()
        for conv in model.convs:
            h = conv(h, h_0, edges, *weights).relu()
        return model.lins[1](h)
    act = F.elu if name == "gat" else F.relu
    return model.convs[1](act(model.convs[0](x, edges, *weights)), edges, *weights)


def build(name):
    torch.manual_seed(0)
    options = {"num_layers": 3} if name == "gcn2" else {}
    return create_model(name, in_channels=6, num_classes=3, hidden_channels=5, **options).eval()


@pytest.mark.parametrize("name", ["appnp", "gat", "gcn", "gcn2", "sage"])
@pytest.mark.parametrize("kind", ODD)
def test_edges_are_read_as_pyg_reads_them(name, kind):
    model, x, edges = build(name), torch.rand(N, 6), torch.tensor(ODD[kind], dtype=torch.int64)
    expected = by_pyg(name, model, x, edges)
    torch.testing.assert_close(model(x, edges), expected, atol=1e-6, rtol=1e-5)
    nodes = torch.tensor([6, 1, 3])
    view = model.prepare(edges, N, nodes=nodes)
    torch.testing.assert_close(model(view.inputs(x), view), expected[nodes], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["appnp", "gcn", "gcn2"])
@pytest.mark.parametrize("kind", ODD)
def test_weights_of_edges_are_used_as_pyg_uses_them(name, kind):
    model, x, edges = build(name), torch.rand(N, 6), torch.tensor(ODD[kind], dtype=torch.int64)
    weight = torch.rand(edges.shape[1])
    if kind == "self-loops":
        weight[3] = weight[2]  # which of two loops of one node counts is not defined
    view = model.prepare(edges, N, edge_weight=weight)
    torch.testing.assert_close(model(x, view), by_pyg(name, model, x, edges, weight), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["gat", "sage"])
def test_a_network_without_use_for_weights_says_so(name):
    model, edges = build(name), torch.tensor(ODD["one direction"])
    with pytest.warns(UserWarning, match=f"{type(model).__name__} has no use for edge weights: all edges count alike"):
        view = model.prepare(edges, N, edge_weight=torch.rand(4))
    x = torch.rand(N, 6)
    assert model(x, view).equal(model(x, edges))


@pytest.mark.parametrize("name", ["appnp", "gat", "gcn", "gcn2", "sage"])
def test_inputs_that_do_not_fit_are_named(name):
    model, edges = build(name), torch.tensor(ODD["both directions"])
    with pytest.raises(ValueError, match=r"x has numbers of type torch.float64, .* torch.float32; convert x with"):
        model(torch.rand(N, 6).double(), edges)
    with pytest.raises(ValueError, match=r"type torch.int64, .*; convert x with x.to\(torch.float32\)$"):
        model(torch.ones(N, 6, dtype=torch.int64), edges)
    with pytest.raises(ValueError, match=r"x must be a tensor or a SparseMatrix, not ndarray; .*torch.from_numpy"):
        model(torch.rand(N, 6).numpy(), edges)
    for shape in ((), (6,), (1, N, 6)):
        with pytest.raises(ValueError, match=rf"x must be \[nodes, 6\], .*, not {re.escape(str(list(shape)))}"):
            model(torch.rand(shape), edges)
    with pytest.raises(ValueError, match=r"edge_weight must be floating-point \[4\]"):
        model.prepare(edges, N, edge_weight=torch.rand(3)) if name in ("gcn", "gcn2", "appnp") else build(
            "gcn"
        ).prepare(edges, N, edge_weight=torch.rand(3))
    assert model(torch.rand(N, 6).to_sparse(), edges).shape == (N, 3)
