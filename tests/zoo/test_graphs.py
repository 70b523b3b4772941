"""Graph networks against PyTorch Geometric, and a sweep of one calling convention over all of them."""

import pytest
import torch
from torch_geometric.nn import APPNP as PygAPPNP
from torch_geometric.nn import GATConv, GCN2Conv
from torch_geometric.nn.models import GCN as PygGCN
from torch_geometric.nn.models import GraphSAGE as PygSAGE

from comhe.zoo import create_model, list_models
from comhe.zoo.graphs import SparseMatrix, gcn_norm

NODES, FEATURES, CLASSES = 60, 30, 4
MODELS = list_models(domain="graphs")


@pytest.fixture
def graph():
    """Sparse features [60, 30] as a dense tensor, and an undirected edge_index with an isolated last node."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(NODES, FEATURES, generator=g) * (torch.rand(NODES, FEATURES, generator=g) < 0.2)
    half = torch.randint(NODES - 1, (2, 70), generator=g)
    half = half[:, half[0] != half[1]]
    return x, torch.cat([half, half.flip(0)], 1).unique(dim=1)


def build(name, **kwargs):
    torch.manual_seed(0)
    model = create_model(name, in_channels=FEATURES, num_classes=CLASSES, **kwargs)
    with torch.no_grad():  # zero biases would hide a bias that is not added
        for p in model.parameters():
            if p.ndim == 1:
                p.uniform_(-0.5, 0.5)
    return model


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize(("name", "other"), [("gcn", PygGCN), ("sage", PygSAGE)])
def test_state_dicts_are_interchangeable_with_pyg(graph, name, other, num_layers):
    x, edge_index = graph
    ours = build(name, num_layers=num_layers, hidden_channels=16).eval()
    theirs = other(FEATURES, 16, num_layers, CLASSES).eval()
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


def test_gat_is_a_stack_of_gatconv(graph):
    x, edge_index = graph
    model = build("gat", output_heads=2).eval()
    hidden = GATConv(FEATURES, 8, 8)
    last = GATConv(64, CLASSES, 2, concat=False)
    hidden.load_state_dict(model.convs[0].state_dict())
    last.load_state_dict(model.convs[1].state_dict())
    expected = last(torch.nn.functional.elu(hidden(x, edge_index)), edge_index)
    torch.testing.assert_close(model(x, edge_index), expected, atol=1e-6, rtol=1e-5)


def test_appnp_propagates_as_pyg_does(graph):
    x, edge_index = graph
    model = build("appnp").eval()
    expected = PygAPPNP(10, 0.1)(model.lin2(model.lin1(x).relu()), edge_index)
    torch.testing.assert_close(model(x, edge_index), expected, atol=1e-6, rtol=1e-5)


def test_gcn2_is_a_stack_of_gcn2conv(graph):
    x, edge_index = graph
    model = build("gcn2", num_layers=5).eval()
    h = h_0 = model.lins[0](x).relu()
    for i, conv in enumerate(model.convs):
        same = GCN2Conv(64, 0.1, 0.5, i + 1)
        same.load_state_dict(conv.state_dict())
        h = same(h, h_0, edge_index).relu()
    torch.testing.assert_close(model(x, edge_index), model.lins[1](h), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_trains(self, graph, name):
        x, edge_index = graph
        model = build(name)
        nodes = torch.tensor([5, 1, 30, 59])
        view = model.prepare(edge_index, NODES, nodes=nodes)
        sparse = view.inputs(SparseMatrix.from_torch(x))
        torch.manual_seed(1)
        logits = model(sparse, view)
        assert logits.shape == (4, CLASSES)
        assert logits.isfinite().all()
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
        for key, p in model.named_parameters():
            assert p.grad is not None, key
            assert p.grad.isfinite().all(), key
            assert p.grad.any(), key
        torch.manual_seed(1)
        assert torch.equal(logits, model(sparse, view))  # dropout obeys the seed
        assert not torch.equal(logits, model(sparse, view))

    def test_one_answer_for_every_form_of_the_input(self, graph, name):
        x, edge_index = graph
        model = build(name).eval()
        full = model(x, edge_index)
        assert full.shape == (NODES, CLASSES)
        nodes = torch.tensor([5, 1, 30, 59])
        view = model.prepare(edge_index, NODES)
        part = model.prepare(edge_index, NODES, nodes=nodes)
        mask = torch.zeros(NODES, dtype=torch.bool).index_fill(0, nodes, True)
        masked = model.prepare(edge_index, NODES, nodes=mask)
        torch.testing.assert_close(model(masked.inputs(x), masked), full[mask], atol=1e-6, rtol=1e-5)
        for features in (x, SparseMatrix.from_torch(x), x.to_sparse_csr()):
            torch.testing.assert_close(model(view.inputs(features), view), full, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(model(part.inputs(features), part), full[nodes], atol=1e-6, rtol=1e-5)
        square = model.propagation(edge_index, NODES)
        torch.testing.assert_close(model(x, square), full, atol=1e-6, rtol=1e-5)

    def test_gradients_at_nodes_are_those_of_the_full_graph(self, graph, name):
        x, edge_index = graph
        model = build(name, dropout=0.0)
        nodes = torch.tensor([5, 1, 30, 59])
        model(x, edge_index)[nodes].square().sum().backward()
        full = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        view = model.prepare(edge_index, NODES, nodes=nodes)
        model(view.inputs(SparseMatrix.from_torch(x)), view).square().sum().backward()
        for p, expected in zip(model.parameters(), full, strict=True):
            torch.testing.assert_close(p.grad, expected, atol=1e-5, rtol=1e-4)

    def test_state_dict_round_trip(self, graph, name, tmp_path):
        x, edge_index = graph
        model, other = build(name).eval(), build(name).eval()
        other.reset_parameters()
        assert not torch.equal(model(x, edge_index), other(x, edge_index))
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        assert torch.equal(model(x, edge_index), other(x, edge_index))

    def test_reset_parameters_is_the_initialisation(self, name):
        torch.manual_seed(7)
        fresh = create_model(name, in_channels=FEATURES, num_classes=CLASSES)
        model = build(name)
        torch.manual_seed(7)
        model.reset_parameters()
        before = [p.clone() for p in model.parameters()]
        torch.manual_seed(7)
        model.reset_parameters()
        for a, b in zip(before, model.parameters(), strict=True):
            assert torch.equal(a, b)
        # Same law as a new model (the draws differ where a layer also draws in its own constructor).
        for a, b in zip(fresh.parameters(), model.parameters(), strict=True):
            assert a.shape == b.shape
            assert bool(a.any()) == bool(b.any())

    def test_sizes_are_honoured(self, graph, name):
        x, edge_index = graph
        model = create_model(name, in_channels=FEATURES, num_classes=9, hidden_channels=12)
        assert model(x, edge_index).shape == (NODES, 9)
        widths = {size for p in model.parameters() if p.ndim == 2 for size in p.shape}
        assert 12 * (8 if name == "gat" else 1) in widths

    def test_errors_name_the_value(self, graph, name):
        x, edge_index = graph
        model = build(name)
        view = model.prepare(edge_index, NODES)
        with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1.0"):
            build(name, dropout=1.0)
        with pytest.raises(ValueError, match=f"x has 5 rows, the graph operator needs {NODES}"):
            model(x[:5], view)
        with pytest.raises(ValueError, match=f"x has 3 features, .*in_channels={FEATURES}"):
            model(x[:, :3], view)
        with pytest.raises(ValueError, match=r"edge_index entry 59 is outside \[0, 59\)"):
            model.prepare(torch.tensor([[0], [59]]), 59)
        with pytest.raises(ValueError, match=r"node index 60 is outside \[0, 60\)"):
            model.prepare(edge_index, NODES, nodes=torch.tensor([60]))
        with pytest.raises(ValueError, match=r"edge_index must be int64 \[2, E\]"):
            model.prepare(edge_index.float(), NODES)


def test_operators_of_another_depth_are_refused(graph):
    x, edge_index = graph
    view = build("gcn", num_layers=3).prepare(edge_index, NODES, nodes=torch.tensor([0]))
    with pytest.raises(ValueError, match="operators for 3 layers given to a model of 2"):
        build("gcn")(view.inputs(x), view)


def test_gcn_takes_a_sequence_of_operators(graph):
    x, edge_index = graph
    model, adjacency = build("gcn").eval(), gcn_norm(edge_index, NODES)
    expected = model(x, edge_index)[[3, 4]]
    torch.testing.assert_close(model(x, [adjacency, adjacency.rows(torch.tensor([3, 4]))]), expected)
