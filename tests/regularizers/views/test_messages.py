"""The output layers of models that end with a convolution of PyTorch Geometric: those that make its output."""

import warnings

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer
from comhe.regularizers.views.messages import makers

pyg = pytest.importorskip("torch_geometric.nn")

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 0, 2], [1, 0, 2, 1, 3, 2, 0, 3, 2, 0]])
KINDS = torch.arange(10) % 2
TYPES = (["a", "b"], [("a", "to", "b"), ("b", "to", "a")])


def graph(conv, x):
    return conv(x, EDGES)


def edges(conv, x):
    return conv(x, EDGES, torch.zeros(10, 4))


def relations(conv, x):
    return conv(x, EDGES, KINDS)


def pairs(conv, x):
    return conv((x, x), EDGES)


def clouds(conv, x):
    return conv(x, torch.zeros(4, 3), EDGES)


def dense(conv, x):
    return conv(x, torch.ones(4, 4))[0]


LAST = {
    "ARMAConv": (lambda: pyg.ARMAConv(8, 3), graph, ["init_weight", "root_weight"]),
    "ChebConv": (lambda: pyg.ChebConv(8, 3, K=2), graph, ["lins.0", "lins.1"]),
    "ClusterGCNConv": (lambda: pyg.ClusterGCNConv(8, 3), graph, ["lin_out", "lin_root"]),
    "DenseGraphConv": (lambda: pyg.DenseGraphConv(8, 3), dense, ["lin_rel", "lin_root"]),
    "DenseSAGEConv": (lambda: pyg.DenseSAGEConv(8, 3), dense, ["lin_rel", "lin_root"]),
    "DirGNNConv": (
        lambda: pyg.DirGNNConv(pyg.GATv2Conv(8, 3, add_self_loops=False)),
        graph,
        ["conv_in.lin_l", "conv_out.lin_l", "lin"],
    ),
    "EGConv": (lambda: pyg.EGConv(8, 3, num_heads=1), graph, ["bases_lin"]),
    "FeaStConv": (lambda: pyg.FeaStConv(8, 3, heads=2), graph, ["lin"]),
    "FiLMConv": (lambda: pyg.FiLMConv(8, 3), None, ["lins.0", "lin_skip"]),
    "GATConv": (lambda: pyg.GATConv(8, 3, edge_dim=4), edges, ["lin"]),
    "GATConv-pair": (lambda: pyg.GATConv((8, 8), 3, add_self_loops=False), pairs, ["lin_src"]),
    "GATConv-residual": (lambda: pyg.GATConv(8, 3, residual=True), graph, ["lin", "res"]),
    "GATv2Conv": (lambda: pyg.GATv2Conv(8, 3, edge_dim=4, residual=True), edges, ["lin_l", "res"]),
    "GeneralConv": (lambda: pyg.GeneralConv(8, 3, in_edge_channels=4, skip_linear=True), None, ["lin_msg", "lin_self"]),
    "GraphConv": (lambda: pyg.GraphConv(8, 3), graph, ["lin_rel", "lin_root"]),
    "HANConv": (lambda: pyg.HANConv(8, 3, TYPES), None, ["proj.a", "proj.b"]),
    "HGTConv": (lambda: pyg.HGTConv(8, 3, TYPES), None, ["out_lin.lins.a", "out_lin.lins.b"]),
    "LEConv": (lambda: pyg.LEConv(8, 3), graph, ["lin1", "lin2", "lin3"]),
    "MFConv": (lambda: pyg.MFConv(8, 3, max_degree=0), graph, ["lins_l.0", "lins_r.0"]),
    "PDNConv": (lambda: pyg.PDNConv(8, 3, edge_dim=4, hidden_channels=5), edges, ["lin"]),
    "PointTransformerConv": (lambda: pyg.PointTransformerConv(8, 3), clouds, ["lin"]),
    "RGATConv": (lambda: pyg.RGATConv(8, 3, 2), relations, [""]),
    "RGCNConv": (lambda: pyg.RGCNConv(8, 3, 2), relations, ["", "root"]),
    "ResGatedGraphConv": (lambda: pyg.ResGatedGraphConv(8, 3), graph, ["lin_value", "lin_skip"]),
    "SAGEConv": (lambda: pyg.SAGEConv(8, 3), graph, ["lin_l", "lin_r"]),
    "SAGEConv-lstm": (lambda: pyg.SAGEConv(8, 3, aggr="lstm", project=True), None, ["lin_l", "lin_r"]),
    "SignedConv": (
        lambda: pyg.SignedConv(8, 3, first_aggr=True),
        lambda conv, x: conv(x, EDGES, EDGES),
        ["lin_pos_l", "lin_pos_r", "lin_neg_l", "lin_neg_r"],
    ),
    "TAGConv": (lambda: pyg.TAGConv(8, 3, K=1), graph, ["lins.0", "lins.1"]),
    "TransformerConv": (lambda: pyg.TransformerConv(8, 3, edge_dim=4), edges, ["lin_value", "lin_skip"]),
}


@pytest.mark.filterwarnings("error:the output layer")
@pytest.mark.parametrize("name", LAST)
def test_all_matrices_that_make_the_output_are_the_output_layer(normal, name):
    """Without them nothing is left, and each of them alone gives something."""
    torch.manual_seed(0)
    build, forward, expected = LAST[name]
    conv = build()
    for model in (conv, nn.ModuleList([nn.Linear(16, 8), conv])):
        found = create_regularizer("mhe", model).layers
        outputs = [layer for layer in found if layer.role == "output"]
        assert [layer.name.removeprefix("1").removeprefix(".") for layer in outputs] == expected
        assert len({layer.found for layer in outputs}) == 1
    if forward is None:
        return
    conv.train(False)
    for key, p in conv.named_parameters():
        if key.endswith("bias"):
            nn.init.zeros_(p)
    weights = [next(p for p in layer.sources if p.dim() > 1) for layer in outputs]
    values = [w.detach().clone() for w in weights]
    x = normal(4, 8, dtype=torch.float32)
    for kept in range(-1, len(weights)):
        for index, (w, value) in enumerate(zip(weights, values, strict=True)):
            w.data = value if index == kept else torch.zeros_like(value)
        y = forward(conv, x)
        y = y if isinstance(y, torch.Tensor) else torch.cat(y)
        assert y.any() == (kept >= 0)


def test_a_convolution_is_a_group_in_models_of_the_library_and_below_other_names():
    def names(model):
        return [layer.name for layer in create_regularizer("mhe", model).layers if layer.role == "output"]

    assert names(pyg.GraphSAGE(12, 8, 2, 4)) == ["convs.1.lin_l", "convs.1.lin_r"]
    assert names(pyg.GAT(12, 8, 2, 4, v2=True, edge_dim=3)) == ["convs.1.lin_l"]
    assert names(pyg.GraphSAGE(12, 8, 2, 4, jk="cat")) == ["lin"]
    named = nn.ModuleDict({"out": pyg.TransformerConv(8, 3), "body": pyg.SAGEConv(5, 8)})
    assert names(named) == ["out.lin_value", "out.lin_skip"]
    to_two = pyg.HeteroConv({("a", "to", "b"): pyg.SAGEConv(8, 3), ("b", "to", "a"): pyg.SAGEConv(8, 3)})
    hetero = names(nn.ModuleList([nn.Linear(5, 8), to_two]))
    assert [name.rpartition(".")[2] for name in hetero] == ["lin_l", "lin_r"] * 2


def test_a_subclass_is_what_its_base_is_and_another_library_is_not():
    class Mine(pyg.SAGEConv):
        pass

    assert makers(Mine(4, 3)) == makers(pyg.SAGEConv(4, 3)) != ()

    class SAGEConv(nn.Module):
        pass

    assert makers(SAGEConv()) == ()


def test_hidden_convolutions_have_no_say():
    model = nn.ModuleList([pyg.GATv2Conv(12, 8), pyg.SAGEConv(8, 8), nn.Linear(8, 3)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layers = create_regularizer("mhe", model).layers
    assert [layer.name for layer in layers if layer.role == "output"] == ["2"]
    assert len(layers) == 5
