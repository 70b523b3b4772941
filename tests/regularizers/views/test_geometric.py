"""PyTorch Geometric's layers, which the regularizers know by name only."""

from functools import partial

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, neurons
from comhe.regularizers.selection import KINDS, select

pyg = pytest.importorskip("torch_geometric.nn")
linkx = pytest.importorskip("torch_geometric.nn.models.linkx")

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 0, 2], [1, 0, 2, 1, 3, 2, 0, 3, 2, 0]])


def support(outputs, parameter):
    weights = torch.linspace(0.5, 1.5, outputs.numel()).view(outputs.shape)
    return torch.autograd.grad((outputs * weights).sum(), parameter, retain_graph=True)[0] != 0


@pytest.mark.parametrize(
    ("make", "name", "block"),
    [
        (partial(pyg.GCNConv, 5, 4), "lin", 1),
        (partial(pyg.GATConv, 5, 4, heads=2), "lin", 4),  # attention mixes the channels of a head
        (partial(pyg.SAGEConv, 5, 4), "lin_l", 1),
        (partial(pyg.GraphConv, 5, 4), "lin_root", 1),
        (partial(pyg.GCN2Conv, 5, 0.5, theta=0.5, layer=1), "", 1),
    ],
)
def test_rows_make_their_channel(normal, make, name, block):
    model, x = make(), normal(4, 5, dtype=torch.float32)
    y = model(x, x, EDGES) if isinstance(model, pyg.GCN2Conv) else model(x, EDGES)
    regularizer = create_regularizer("mhe", model)
    layer = next(layer for layer in regularizer.layers if layer.name == name)
    weight = layer.module.weight1 if isinstance(model, pyg.GCN2Conv) else layer.module.weight
    view = layer.neurons()
    assert view.shape == (y.shape[1], 5)
    for channel in range(y.shape[1]):
        start = channel // block * block
        assert support(y[:, channel], weight).equal(support(view[start : start + block], weight))
    regularizer().backward()
    assert weight.grad.isfinite().all()
    assert weight.grad.count_nonzero() > 0


def test_linear_of_geometric():
    linear = pyg.Linear(5, 4)
    assert neurons(linear).equal(linear.weight)
    report = create_regularizer("mhe", nn.Sequential(linear, nn.Linear(4, 2))).report()
    assert [(row.name, row.role) for row in report.layers] == [("0", "hidden"), ("1", "output")]
    assert create_regularizer("mhe", nn.Sequential(linear, nn.Linear(4, 2)), kinds="linear").layers[0].name == "0"


def test_lazy_layers_are_listed_until_they_are_initialized(normal):
    model = nn.ModuleList([pyg.GCNConv(-1, 4), nn.Linear(4, 2)])
    (skipped,) = create_regularizer("mhe", model).skipped
    assert skipped.name == "0.lin"
    assert "lazy" in skipped.reason
    model[0](normal(4, 5, dtype=torch.float32), EDGES)
    assert [layer.name for layer in create_regularizer("mhe", model).layers] == ["0.lin", "1"]


@pytest.mark.parametrize("options", [{}, {"num_bases": 2}, {"num_blocks": 2}], ids=str)
@pytest.mark.parametrize("cls", [pyg.RGCNConv, pyg.FastRGCNConv])
def test_relations_are_sets(normal, cls, options):
    model = cls(6, 4, num_relations=3, bias=False, root_weight=False, aggr="add", **options).double()
    (layer,) = create_regularizer("mhe", model).layers
    edges, kinds, x = torch.tensor([[0, 0, 0], [1, 2, 3]]), torch.tensor([0, 1, 2]), normal(4, 6)
    y = model(x, edges, kinds)[1:]  # one message a relation
    sets = layer.neurons().detach()
    if "num_blocks" in options:  # each block sees its own inputs
        assert layer.shape == (6, 2, 3)
        sets = sets.unflatten(0, (3, 2))
        torch.testing.assert_close(torch.einsum("rbod,bd->rbo", sets, x[0].view(2, 3)).flatten(1), y)
    else:
        assert layer.shape == (3, 4, 6)
        torch.testing.assert_close(sets @ x[0], y)


def test_the_root_is_a_matrix_of_its_own():
    model = nn.ModuleList([pyg.RGCNConv(5, 4, num_relations=3, num_bases=2), nn.Linear(4, 2)])
    regularizer = create_regularizer("mhe", model)
    shapes = {layer.name: layer.shape for layer in regularizer.layers}
    assert shapes == {"0": (3, 4, 5), "0.root": (4, 5), "1": (2, 4)}
    assert regularizer.skipped == []
    regularizer().backward()
    assert all(p.grad.any() for name, p in model.named_parameters() if "bias" not in name)


def test_typed_layers(normal):
    typed, x = pyg.HeteroLinear(5, 4, num_types=3).double(), normal(3, 5)
    torch.testing.assert_close(torch.einsum("tod,td->to", neurons(typed), x) + typed.bias, typed(x, torch.arange(3)))
    model = pyg.HeteroDictLinear({"a": 5, "b": 6}, 4)
    assert {layer.name: layer.shape for layer in create_regularizer("mhe", model).layers} == {
        "lins.a": (4, 5),
        "lins.b": (4, 6),
    }


GRAPH = {
    "AntiSymmetricConv": lambda: pyg.AntiSymmetricConv(6),
    "ARMAConv": lambda: pyg.ARMAConv(6, 4, num_stacks=2, num_layers=3),
    "ChebConv": lambda: pyg.ChebConv(6, 4, K=3),
    "DNAConv": lambda: pyg.DNAConv(6, groups=2),
    "FiLMConv": lambda: pyg.FiLMConv(6, 4, num_relations=2),
    "GATv2Conv": lambda: pyg.GATv2Conv(6, 4, heads=2),
    "GCN2Conv": lambda: pyg.GCN2Conv(6, 0.5, theta=0.5, layer=1, shared_weights=False),
    "GMMConv": lambda: pyg.GMMConv(6, 4, dim=2, kernel_size=3),
    "GatedGraphConv": lambda: pyg.GatedGraphConv(6, num_layers=2),
    "HEATConv": lambda: pyg.HEATConv(6, 4, 2, 2, 3, 3, 3),
    "HGTConv": lambda: pyg.HGTConv(6, 4, (["a", "b"], [("a", "to", "b")]), heads=2),
    "MFConv": lambda: pyg.MFConv(6, 4, max_degree=2),
    "RGATConv": lambda: pyg.RGATConv(6, 4, 3, heads=2, num_bases=2, edge_dim=3),
    "TAGConv": lambda: pyg.TAGConv(6, 4),
    "TransformerConv": lambda: pyg.TransformerConv(6, 4, heads=2, edge_dim=3),
}


def test_weights_of_edges_multiply_from_the_right():
    layer = linkx.SparseLinear(6, 4, bias=False)
    edges = torch.tensor([[0, 5], [0, 1]])
    torch.testing.assert_close(layer(edges)[:2], neurons(layer).T[[0, 5]])


VECTORS = {"att", "att_src", "att_dst", "bias", "l1", "b1", "b2", "mu", "sigma", "weight_hh", "l2", "a__to__b"}


@pytest.mark.parametrize("name", GRAPH)
def test_every_matrix_is_seen_or_reported(name):
    model = GRAPH[name]()
    found = select(model, kinds=KINDS)
    assert found.layers
    read = {id(p) for layer in found.layers for p in layer.sources}
    text = " ".join(item.reason for item in found.skipped)
    unread = {
        key.rpartition(".")[2] for key, p in model.named_parameters() if p.numel() > max(p.shape) and id(p) not in read
    }
    assert all(f".{key} [" in text or "neuron" in text for key in unread)
    assert unread <= (VECTORS | {"weight"} if "1 neuron" in text else VECTORS)
