"""Training on graphs: what the task does besides the loop that engine/test_loop.py tests."""

import pytest
import torch
from torch.nn import functional as F

from comhe.datasets import load_graph
from comhe.errors import UsageError
from comhe.train import graphs
from comhe.train.choices import base_recipe
from comhe.train.engine.distributed import DistributedContext
from comhe.train.graphs import GraphRecipe, GraphTask
from comhe.train.recipe import get_recipe


def test_methods_come_in_any_order_and_leave_the_random_numbers_alone(recipe):
    torch.manual_seed(0)
    expected = [GraphTask(recipe).model().state_dict(), torch.rand(1)]
    task = GraphTask(recipe)
    torch.manual_seed(0)
    batch = task.collate(*next(iter(task.inputs(0))))
    x, *_ = task.example()
    model = task.model()
    assert torch.rand(1).equal(expected[1])
    assert all(tensor.equal(expected[0][name]) for name, tensor in model.state_dict().items())
    loss, logits = task.loss(model, batch)
    assert logits.shape == (len(batch[-1]), task.graph.num_classes)
    loss.backward()
    assert x.shape[1] == task.graph.num_features


def test_a_graph_gets_one_thread_if_a_step_reads_few_features(recipe, monkeypatch):
    task = GraphTask(recipe)
    read = task.collate()[0].values.numel()
    assert read < task.graph.features.values().numel(), "of most nodes nothing is read"
    monkeypatch.setattr(graphs, "LARGE", read + 1)
    assert task.threads == 1
    monkeypatch.setattr(graphs, "LARGE", read)
    assert task.threads is None


def test_a_batch_is_the_full_graph_at_the_training_nodes(recipe):
    task = GraphTask(recipe)
    model, graph = task.model().eval(), task.graph
    operators = model.prepare(graph.edge_index, graph.num_nodes)
    logits = model(operators.inputs(graph.features), operators)
    expected = F.cross_entropy(logits[graph.train], graph.labels[graph.train])
    torch.testing.assert_close(task.loss(model, task.collate())[0], expected)
    accuracy = (logits[graph.val].argmax(1) == graph.labels[graph.val]).double().mean().item()
    assert task.evaluate(model, "val")["accuracy"] == pytest.approx(accuracy)


def test_a_plain_module_is_trained_at_the_same_nodes(recipe, monkeypatch):
    class Plain(torch.nn.Module):
        def __init__(self, task):
            super().__init__()
            self.layer = torch.nn.Linear(task.graph.num_features, task.graph.num_classes)

        def forward(self, x, edge_index):
            return self.layer(x)

    task = GraphTask(recipe)
    monkeypatch.setattr(task, "model", lambda: Plain(task))
    model = task.model()
    loss, logits = task.loss(model, task.collate())
    assert len(logits) == len(task.graph.labels[task.graph.train])
    assert 0 <= task.evaluate(model, "test")["accuracy"] <= 1
    loss.backward()


def test_only_the_first_layer_decays_unless_all_do(recipe):
    task = GraphTask(recipe)
    model = task.model()
    decayed, others = task.optimizer(model).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].rsplit(".", 1)[0] for p in decayed["params"]} == {"convs.0", "convs.0.lin"}
    assert others["weight_decay"] == 0
    assert len(GraphTask(recipe.replace(decay="all")).optimizer(model).param_groups) == 1


def test_named_recipes_start_from_the_published_settings_and_have_what_was_chosen():
    base = base_recipe("kipf", "gcn", "cora", "rp-comhe")
    assert (base.hidden_channels, base.dropout, base.lr, base.epochs) == (16, 0.5, 0.01, 200)
    chosen = get_recipe("kipf", "gcn", "cora", "rp-comhe")
    assert chosen != base
    assert chosen.replace(weight=None, output_weight=None, regularizer_options=base.regularizer_options) == base
    assert get_recipe("kipf", "gat", "cora", "rp-comhe") == base_recipe("kipf", "gat", "cora", "rp-comhe")


def test_each_network_has_the_training_of_its_own_paper():
    deep = get_recipe("published", "gcn2", "cora", "rp-comhe")
    assert deep.model_options == {"num_layers": 64}
    narrow = deep.replace(data="citations", model_options={"num_layers": 2}, hidden_channels=4)
    model = (task := GraphTask(narrow)).model()
    names = {id(p): name.partition(".")[0] for name, p in model.named_parameters()}
    decays = {(names[id(p)], g["weight_decay"]) for g in task.optimizer(model).param_groups for p in g["params"]}
    assert decays == {("convs", 0.01), ("lins", 5e-4)}
    assert get_recipe("published", "gat", "pubmed", "none").model_options == {"output_heads": 8}
    assert get_recipe("published", "gat", "pubmed-random3", "none").lr == 0.01
    assert get_recipe("published", "gcn", "cora", "none") == base_recipe("kipf", "gcn", "cora", "none").replace(
        recipe="published"
    )


def test_a_graph_is_not_divided():
    with pytest.raises(UsageError, match="a graph is one batch, which 2 processes cannot divide"):
        GraphTask(GraphRecipe(data="citations"), context=DistributedContext(0, 2))


def test_a_random_split_is_the_seeds_own():
    tasks = [GraphTask(get_recipe("kipf", "gcn", "citations-random", "none", seed=seed)) for seed in (1, 2)]
    for task, name in zip(tasks, ("citations-random1", "citations-random2"), strict=True):
        assert task.graph.train.equal(load_graph(name).train)
        assert task.graph.test.equal(load_graph(name).test)
    assert not tasks[0].graph.test.equal(tasks[1].graph.test)
