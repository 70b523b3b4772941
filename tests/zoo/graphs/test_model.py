"""A sweep of one calling convention over all graph networks."""

import pytest
import torch
from torch_geometric.nn.models import GCN as PygGCN

from comhe.zoo import create_model, list_models
from comhe.zoo.graphs import SparseMatrix, prepare_graph

from .conftest import CLASSES, FEATURES, NODES, build

MODELS = list_models(domain="graphs")


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

    def test_reset_parameters_is_the_initialization(self, name):
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

    def test_sizes_are_those_asked_for(self, graph, name):
        x, edge_index = graph
        model = create_model(name, in_channels=FEATURES, num_classes=9, hidden_channels=12)
        assert model(x, edge_index).shape == (NODES, 9)
        widths = {size for p in model.parameters() if p.ndim == 2 for size in p.shape}
        assert 12 * (8 if name == "gat" else 1) in widths

    def test_errors_name_the_value(self, graph, name):
        x, edge_index = graph
        model = build(name)
        view = model.prepare(edge_index, NODES)
        with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), not 1.0"):
            build(name, dropout=1.0)
        with pytest.raises(ValueError, match=f"x has 5 rows, the graph operator needs {NODES}"):
            model(x[:5], view)
        with pytest.raises(ValueError, match=f"x has 3 features, .*in_channels={FEATURES}"):
            model(x[:, :3], view)
        with pytest.raises(ValueError, match=r"edge_index entry 59 is outside \[0, 59\)"):
            model.prepare(torch.tensor([[0], [59]]), 59)
        with pytest.raises(ValueError, match=r"node index 60 is outside \[0, 60\)"):
            model.prepare(edge_index, NODES, nodes=torch.tensor([60]))
        with pytest.raises(ValueError, match=r"edge_index must be integers \[2, E\]"):
            model.prepare(edge_index.float(), NODES)


def test_modules_in_the_style_of_pyg_are_prepared_as_the_networks_of_the_zoo(graph):
    x, edge_index = graph
    ours, theirs = build("gcn", dropout=0.0), PygGCN(FEATURES, 16, 2, CLASSES)
    theirs.load_state_dict(ours.state_dict())
    nodes = torch.tensor([3, 17, 40])
    for features in (x, SparseMatrix.from_torch(x)):
        for index in (nodes, torch.zeros(NODES, dtype=torch.bool).index_fill(0, nodes, True), None):
            logits = []
            for model in (ours, theirs):
                inputs, operators, rows = prepare_graph(model, features, edge_index, index)
                out = model(inputs, operators)
                logits.append(out if rows is None else out[rows])
            assert len(logits[0]) == (NODES if index is None else 3)
            torch.testing.assert_close(*logits, atol=1e-6, rtol=1e-5)


def test_a_network_of_the_zoo_computes_at_the_nodes_only(graph):
    x, edge_index = graph
    model, nodes = build("gcn").eval(), torch.tensor([3])
    inputs, operators, rows = prepare_graph(model, SparseMatrix.from_torch(x), edge_index, nodes)
    expected = model.prepare(edge_index, NODES, nodes=nodes)
    assert rows is None
    assert inputs.shape[0] == len(operators.rows) < NODES
    assert model(inputs, operators).equal(model(expected.inputs(SparseMatrix.from_torch(x)), expected))


@pytest.mark.parametrize("name", MODELS)
def test_edges_of_any_integers_and_in_any_form(name, graph):
    x, edge_index = graph
    model = build(name).eval()
    expected = model(x, edge_index)
    nodes = torch.tensor([3, 1])
    for edges in (edge_index.int(), edge_index.short(), edge_index.numpy(), edge_index.tolist(), tuple(edge_index)):
        torch.testing.assert_close(model(x, edges), expected)
    for dtype in (torch.int32, torch.uint8):
        prepared = model.prepare(edge_index.to(dtype), NODES, nodes=nodes.to(dtype))
        torch.testing.assert_close(model(prepared.inputs(x), prepared), expected[nodes])
    for edges, fault in ((edge_index.t(), "transpose it"), ("edges", "not a str"), (None, "not a NoneType"), (7, "")):
        with pytest.raises(ValueError, match=rf"(edge_index|graph) must be .*{fault}"):
            model(x, edges)
