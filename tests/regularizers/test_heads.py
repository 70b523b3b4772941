"""Heads that are averaged: on a graph of one node, whose attention is 1, the output is the mean over the sets."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer
from comhe.regularizers.heads import Heads, averaged

pyg = pytest.importorskip("torch_geometric.nn")

LOOP = torch.tensor([[0], [0]])
AVERAGED = {
    "GATConv": lambda: pyg.GATConv(6, 3, heads=4, concat=False),
    "GATv2Conv": lambda: pyg.GATv2Conv(6, 3, heads=4, concat=False, bias=False, share_weights=True),
    "SuperGATConv": lambda: pyg.SuperGATConv(6, 3, heads=4, concat=False),
    "TransformerConv": lambda: pyg.TransformerConv(6, 3, heads=4, concat=False, bias=False, root_weight=False),
    "HypergraphConv": lambda: pyg.HypergraphConv(6, 3, use_attention=True, heads=4, concat=False),
    "FeaStConv": lambda: pyg.FeaStConv(6, 3, heads=4, add_self_loops=False),
}


@pytest.mark.parametrize("name", AVERAGED)
def test_averaged_heads_are_sets(normal, name):
    torch.manual_seed(0)
    conv, x = AVERAGED[name]().double(), normal(1, 6)
    layer = next(layer for layer in create_regularizer("mhe", conv).layers if layer.shape == (4, 3, 6))
    if name == "TransformerConv":
        layer = next(a for a in create_regularizer("mhe", conv).layers if a.name == "lin_value")
    if name == "FeaStConv":
        nn.init.zeros_(conv.bias)
        nn.init.zeros_(conv.c)  # a node and itself differ by nothing: each head has the same part
    y = conv(x, LOOP, hyperedge_attr=x) if name == "HypergraphConv" else conv(x, LOOP)
    torch.testing.assert_close(layer.neurons().mean(0) @ x[0], y[0])


def test_dense_and_general_heads(normal):
    x = normal(1, 6)
    dense = pyg.DenseGATConv(6, 3, heads=4, concat=False).double()
    (layer,) = create_regularizer("mhe", dense).layers
    torch.testing.assert_close(layer.neurons().mean(0) @ x[0], dense(x, x.new_ones(1, 1))[0, 0])
    general = pyg.GeneralConv(6, 3, heads=4, skip_linear=True, bias=False).double()
    messages, own = create_regularizer("mhe", general).layers
    torch.testing.assert_close(messages.neurons().mean(0) @ x[0] + own.neurons() @ x[0], general(x, LOOP)[0])


@pytest.mark.parametrize("options", [{}, {"num_bases": 2}, {"num_blocks": 2}], ids=str)
def test_averaged_heads_of_relations(normal, options):
    torch.manual_seed(0)
    conv, x = pyg.RGATConv(6, 3, num_relations=2, heads=4, concat=False, **options).double(), normal(1, 6)
    sets = next(layer for layer in create_regularizer("mhe", conv).layers if layer.name == "").neurons()
    if options.get("num_blocks"):  # each block has its inputs and two of the heads
        expected = torch.einsum("bhoi,bi->bho", sets.unflatten(0, (2, 2, 2))[1], x.view(2, 3)).flatten(0, 1).mean(0)
    else:
        expected = sets.unflatten(0, (2, 4))[1].mean(0) @ x[0]
    torch.testing.assert_close(expected, conv(x, LOOP, torch.tensor([1]))[0])


@pytest.mark.parametrize("separate", [False, True])
def test_kernels_that_are_summed(normal, separate):
    torch.manual_seed(0)
    conv = pyg.GMMConv(6, 4, 2, 3, separate, bias=False).double()
    nn.init.zeros_(conv.mu)
    x, (kernels, root) = normal(1, 6), create_regularizer("mhe", conv).layers
    y = kernels.neurons().sum(0) @ x[0] + root.neurons() @ x[0]
    torch.testing.assert_close(y, conv(x, LOOP, x.new_zeros(1, 2))[0])


def test_concatenated_heads_are_one_set_and_averaged_ones_have_no_energy_between_them():
    torch.manual_seed(0)
    together, apart = (pyg.GATConv(6, 3, heads=4, concat=concat) for concat in (True, False))
    apart.load_state_dict(together.state_dict() | {"bias": apart.bias})
    for conv in (together, apart):
        conv.lin.weight.data = conv.lin.weight[:3].repeat(4, 1)  # a class has one direction in all heads
    energies = [create_regularizer("mhe", conv, output=None)().item() for conv in (together, apart)]
    one = create_regularizer("mhe", nn.Linear(6, 3), output=None)
    one.layers[0].module.weight.data = apart.lin.weight[:3].detach()
    assert energies[1] == pytest.approx(one().item())
    assert energies[0] > 10 * energies[1]


class Conv(nn.Module):
    def __init__(self, heads=4, out_channels=3, concat=False):
        super().__init__()
        self.heads, self.out_channels, self.concat = heads, out_channels, concat
        self.project = nn.Linear(6, heads * out_channels) if isinstance(heads, int) else nn.Linear(6, 12)


def test_layers_of_ones_own():
    model = nn.ModuleList([Conv(), nn.Linear(3, 2)])
    assert create_regularizer("mhe", model).layers[0].shape == (4, 3, 6)
    (layer, _) = create_regularizer("mhe", nn.ModuleList([Conv(concat=True), nn.Linear(12, 2)])).layers
    assert layer.shape == (12, 6)


@pytest.mark.parametrize(
    ("owner", "rows"),
    [
        (Conv(heads=1), 3),
        (Conv(), 3),  # a matrix that the heads share
        (Conv(), 13),
        (Conv(), 15),  # of no four heads
        (Conv(concat=True), 12),
        (Conv(heads="four"), 12),
        (Conv(out_channels=0), 12),
        (nn.MultiheadAttention(12, 4), 12),
    ],
)
def test_what_has_no_averaged_heads(owner, rows):
    assert averaged(owner, rows) is None


def test_the_heads_are_those_of_the_view():
    weight = torch.arange(24.0).view(12, 2)
    assert Heads(4)(weight).equal(weight.view(4, 3, 2))
