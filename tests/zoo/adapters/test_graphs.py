"""Graph networks in the layouts of PyTorch Geometric, old and new, of DGL, and of the authors."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GATConv, GATv2Conv, GCNConv, SAGEConv

from comhe.errors import WeightsError
from comhe.zoo import create_model, get_weights, load_weights


class PyG(nn.Module):
    """PyTorch Geometric's usual example."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = GCNConv(6, 5), GCNConv(5, 3)

    def forward(self, x, edge_index):
        return self.conv2(F.relu(self.conv1(x, edge_index)), edge_index)


LAYOUTS = {
    "example": lambda state: state,
    "old example": lambda state: {
        key.replace(".lin", ""): value.t() if "lin" in key else value for key, value in state.items()
    },
    "old models.GCN": lambda state: {
        key.replace(".lin", "").replace("conv1", "convs.0").replace("conv2", "convs.1"): value.t()
        if "lin" in key
        else value
        for key, value in state.items()
    },
    "pygcn": lambda state: {
        key.replace(".lin", "").replace("conv", "gc"): value.t() if "lin" in key else value
        for key, value in state.items()
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_graph_convolutional_networks(layout):
    torch.manual_seed(0)
    theirs = PyG().eval()
    for conv in (theirs.conv1, theirs.conv2):
        nn.init.uniform_(conv.bias)
    model = create_model("gcn", num_classes=3, **SIZES).eval()
    done = load_weights(model, LAYOUTS[layout](theirs.state_dict()))
    assert len(done.loaded) == 4
    x, edges = torch.rand(8, 6), torch.randint(8, (2, 20))
    torch.testing.assert_close(model(x, edges), theirs(x, edges))
    with pytest.raises(ValueError, match=r"for 3 classes, this GCN has 4"):
        load_weights(create_model("gcn", num_classes=4, **SIZES), LAYOUTS[layout](theirs.state_dict()))


SIZES = {"in_channels": 6, "hidden_channels": 5}


def edges():
    return torch.rand(8, 6), torch.randint(8, (2, 20)).unique(dim=1)


class PyGAT(nn.Module):
    """PyTorch Geometric's example."""

    def __init__(self, heads):
        super().__init__()
        self.conv1, self.conv2 = GATConv(6, 5, 4), GATConv(20, 3, heads, concat=False)
        for conv in (self.conv1, self.conv2):
            nn.init.uniform_(conv.bias)

    def forward(self, x, edge_index):
        return self.conv2(F.elu(self.conv1(x, edge_index)), edge_index)


def renamed_gat(state, names, heads=None):
    result = {}
    for i in (1, 2):
        lin, source, target, bias = (state[f"conv{i}.{n}"] for n in ("lin.weight", "att_src", "att_dst", "bias"))
        if names == "PyG 2.0":
            layer = {"lin_src.weight": lin, "lin_dst.weight": lin.clone(), "att_src": source, "att_dst": target}
        elif names == "PyG 1.7":
            layer = {"lin_l.weight": lin, "lin_r.weight": lin.clone(), "att_l": source, "att_r": target}
        elif names == "PyG 1.3":
            layer = {"weight": lin.t(), "att": torch.cat((target, source), -1)}
        elif names == "DGL":
            layer = {"fc.weight": lin, "attn_l": source, "attn_r": target}
            if i == 2:  # a bias for every head, of whose outputs the mean is taken
                noise = torch.randn(heads, len(bias))
                bias = (bias + noise - noise.mean(0)).flatten()
        else:
            layer = {"lin.weight": lin, "att_src": source, "att_dst": target}
        stem = f"gat_layers.{i - 1}" if names == "DGL" else f"conv{i}"
        result |= {f"{stem}.{name}": tensor for name, tensor in {**layer, "bias": bias}.items()}
    return result


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("names", ["PyG", "PyG 2.0", "PyG 1.7", "PyG 1.3", "DGL"])
def test_graph_attention_networks(names, heads):
    torch.manual_seed(0)
    theirs = PyGAT(heads).eval()
    options = {"in_channels": 6, "num_classes": 3, "hidden_channels": 5, "heads": 4, "output_heads": heads}
    model = create_model("gat", **options).eval()
    state = renamed_gat(theirs.state_dict(), names, heads)
    load_weights(model, {"model": state, "args": {"lr": 0.1}})
    x, edge_index = edges()
    torch.testing.assert_close(model(x, edge_index), theirs(x, edge_index), atol=1e-5, rtol=1e-5)
    with pytest.raises(WeightsError, match="build the model with hidden_channels=5, heads=4"):
        load_weights(create_model("gat", in_channels=6, num_classes=3, output_heads=heads), state)


def test_other_weights_for_source_and_target_are_refused():
    state = renamed_gat(PyGAT(1).state_dict(), "PyG 2.0")
    state["conv1.lin_dst.weight"] = state["conv1.lin_dst.weight"] + 1
    with pytest.raises(WeightsError, match="do not fit this GAT"):
        load_weights(create_model("gat", in_channels=6, num_classes=3, hidden_channels=5, heads=4), state)


class PySAGE(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = SAGEConv(6, 5), SAGEConv(5, 3)

    def forward(self, x, edge_index):
        return self.conv2(F.relu(self.conv1(x, edge_index)), edge_index)


@pytest.mark.parametrize("biases", [None, ["bias"], ["fc_neigh.bias", "fc_self.bias"], ["fc_self.bias"]])
def test_graph_sage(biases):
    torch.manual_seed(0)
    theirs = PySAGE().eval()
    state = theirs.state_dict()
    if biases:  # DGL's names: of several biases the sum counts
        split = {}
        for i in (1, 2):
            neighbors, bias, own = (state[f"conv{i}.{n}"] for n in ("lin_l.weight", "lin_l.bias", "lin_r.weight"))
            split |= {f"layers.{i - 1}.fc_neigh.weight": neighbors, f"layers.{i - 1}.fc_self.weight": own}
            split |= {f"layers.{i - 1}.{name}": bias / len(biases) for name in biases}
        state = split
    model = create_model("sage", num_classes=3, **SIZES).eval()
    load_weights(model, state)
    x, edge_index = edges()
    torch.testing.assert_close(model(x, edge_index), theirs(x, edge_index), atol=1e-5, rtol=1e-5)
    pooling = state | {f"{next(iter(state)).rsplit('.', 2)[0]}.fc_pool.weight": torch.ones(6, 6)}
    with pytest.raises(WeightsError, match="do not fit this SAGE"):
        load_weights(model, pooling)


def same_logits(name, state, ours):
    options = {"in_channels": 6, "num_classes": 3, "hidden_channels": 5}
    options |= {"num_layers": 3} if name == "gcn2" else {}
    model, expected = create_model(name, **options).eval(), create_model(name, **options).eval()
    expected.load_state_dict(ours)
    load_weights(model, state)
    x, edge_index = edges()
    assert model(x, edge_index).equal(expected(x, edge_index))


def test_propagated_predictions():
    torch.manual_seed(0)
    ours = create_model("appnp", in_channels=6, num_classes=3, hidden_channels=5).state_dict()
    same_logits("appnp", {n.replace("lin1", "layers.0").replace("lin2", "layers.1"): t for n, t in ours.items()}, ours)
    ours = {n: torch.zeros_like(t) if n.endswith("bias") else t for n, t in ours.items()}  # the authors' have none
    authors = {"fcs.0.weight": ours["lin1.weight"].t(), "fcs.1.weight": ours["lin2.weight"]}
    same_logits("appnp", authors | {"propagation.A_hat": torch.eye(3).to_sparse()}, ours)


def test_deep_networks_with_initial_residuals():
    torch.manual_seed(0)
    ours = create_model("gcn2", in_channels=6, num_classes=3, hidden_channels=5, num_layers=3).state_dict()
    same_logits("gcn2", {n.replace("lins", "fcs").replace("weight1", "weight"): t for n, t in ours.items()}, ours)
    biased = dict(ours) | {f"convs.{i}.bias": torch.zeros(5) for i in range(3)}
    same_logits("gcn2", biased, ours)
    with pytest.raises(WeightsError, match=r"unexpected: convs\.1\.bias"):
        same_logits("gcn2", biased | {"convs.1.bias": torch.ones(5)}, ours)


def layers(conv, widths=(6, 8, 3), **options):
    """PyG's layers, as an example's module names them."""
    found = [conv(a, b, **options) for a, b in pairwise(widths)]
    return found, {f"conv{i}.{n}": t for i, c in enumerate(found, 1) for n, t in c.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "conv", "options"),
    [
        ("gcn", GCNConv, {"bias": False}),
        ("sage", SAGEConv, {"bias": False}),
        ("sage", SAGEConv, {"root_weight": False}),
    ],
)
def test_what_a_layer_lacks_is_zero(name, conv, options):
    torch.manual_seed(0)
    theirs, state = layers(conv, **options)
    model = create_model(name, in_channels=6, num_classes=3, hidden_channels=8).eval()
    load_weights(model, state)
    x, edges = torch.randn(9, 6), torch.randint(9, (2, 30))
    edges = edges[:, edges[0] != edges[1]].unique(dim=1)
    expected = theirs[1](theirs[0](x, edges).relu(), edges)
    torch.testing.assert_close(model(x, edges), expected, atol=1e-5, rtol=1e-4)


def test_attention_without_a_bias():
    model = create_model("gat", in_channels=6, num_classes=3, hidden_channels=4, heads=2)
    state = {f"conv1.{n}": t for n, t in GATConv(6, 4, 2, bias=False).state_dict().items()}
    state |= {f"conv2.{n}": t for n, t in GATConv(8, 3, 1, concat=False, bias=False).state_dict().items()}
    loaded = load_weights(model, state)
    assert not model.convs[0].bias.any()
    assert str(loaded).endswith("slope 0.2 of the leaky ReLU, ELU between layers, which tensors do not tell")


@pytest.mark.parametrize(
    ("name", "conv", "options", "said"),
    [
        ("sage", SAGEConv, {"project": True}, r"lin\.\w+, of project=True"),
        ("sage", SAGEConv, {"aggr": "lstm"}, "an aggregation that is trained"),
        ("gat", GATConv, {"residual": True}, r"res\.weight, of residual=True"),
        ("gat", GATConv, {"edge_dim": 2}, "of edge_dim"),
        ("gat", GATv2Conv, {}, "of GATv2Conv"),
    ],
)
def test_options_that_the_zoo_lacks_are_named(name, conv, options, said):
    model = create_model(name, in_channels=6, num_classes=3, hidden_channels=8)
    with pytest.raises(WeightsError, match=said):
        load_weights(model, layers(conv, **options)[1])


def test_operators_that_tensors_do_not_tell_are_said():
    gcn, sage = (create_model(name, in_channels=6, num_classes=3) for name in ("gcn", "sage"))
    pygcn = {
        f"gc{int(name[6]) + 1}.{name.rpartition('.')[2]}": t.t() if t.dim() == 2 else t
        for name, t in gcn.state_dict().items()
    }
    assert "tkipf/pygcn, which averages over neighbors" in str(load_weights(gcn, pygcn))
    foreign = {name.replace("convs.0", "conv1").replace("convs.1", "conv2"): t for name, t in sage.state_dict().items()}
    assert "read with mean aggregation" in str(load_weights(sage, foreign))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gcn", "self-loops, D^-1/2 (A + I) D^-1/2, ReLU"),
        ("sage", "mean aggregation"),
        ("gat", "slope 0.2 of the leaky ReLU, ELU"),
        ("appnp", "num_steps=10 and alpha=0.1"),
        ("gcn2", "alpha=0.1 and theta=0.5"),
    ],
)
def test_settings_are_told_unless_a_card_has_them(name, said):
    """PyG's networks have the zoo's names, so names alone do not say that weights are the zoo's."""
    model = create_model(name, in_channels=6, num_classes=3)
    (note,) = load_weights(model, model.state_dict()).notes
    assert said in note
    weights = get_weights(f"{name}.cora-none")
    for known in (weights, weights.name, weights.path):
        assert not load_weights(weights.build(), known).notes


def test_a_second_matrix_of_gcnii_is_refused_by_its_option():
    model = create_model("gcn2", in_channels=6, num_classes=3, num_layers=2)
    theirs = model.state_dict() | {f"convs.{i}.weight2": torch.ones(64, 64) for i in range(2)}
    with pytest.raises(WeightsError, match=r"convs\.0\.weight2, of .*shared_weights=False"):
        load_weights(model, theirs)


def test_layers_without_a_graph_are_no_old_layout():
    """That of a graph convolution is a linear layer's, transposed: a square one would fit in silence."""
    square = nn.Linear(6, 6).state_dict()
    for stem in ("lin", "fc", "mlp.", "lins."):
        perceptron = {f"{stem}{i}.{name}": tensor for i in (1, 2) for name, tensor in square.items()}
        model = create_model("gcn", in_channels=6, num_classes=6, hidden_channels=6)
        with pytest.raises(WeightsError, match="the weights do not fit this GCN"):
            load_weights(model, perceptron)
