"""PyTorch Geometric's layers, which the regularizers know by name only."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, neurons

pyg = pytest.importorskip("torch_geometric.nn")

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 0, 2], [1, 0, 2, 1, 3, 2, 0, 3, 2, 0]])


def support(outputs, parameter):
    weights = torch.linspace(0.5, 1.5, outputs.numel()).view(outputs.shape)
    return torch.autograd.grad((outputs * weights).sum(), parameter, retain_graph=True)[0] != 0


@pytest.mark.parametrize(
    ("model", "name", "block"),
    [
        (pyg.GCNConv(5, 4), "lin", 1),
        (pyg.GATConv(5, 4, heads=2), "lin", 4),  # attention mixes the channels of a head
        (pyg.SAGEConv(5, 4), "lin_l", 1),
        (pyg.GraphConv(5, 4), "lin_root", 1),
        (pyg.GCN2Conv(5, 0.5, theta=0.5, layer=1), "", 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_rows_make_their_channel(normal, model, name, block):
    x = normal(4, 5, dtype=torch.float32)
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


def test_layers_without_a_view_are_listed():
    model = nn.ModuleList([pyg.RGCNConv(5, 4, num_relations=3), nn.Linear(4, 2)])
    (skipped,) = create_regularizer("mhe", model).skipped
    assert skipped.name == "0"
    assert "RGCNConv.weight" in skipped.reason
    assert "register_neurons" in skipped.reason
