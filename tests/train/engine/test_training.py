"""What a run remembers: the best weights, and the state that another device or number of ranks has left."""

import pytest
import torch

from comhe.errors import UsageError
from comhe.train.engine.distributed import DistributedContext
from comhe.train.engine.training import Training, adapt_optimizer_state, check_output, load_ranks
from comhe.train.graphs import GraphTask
from comhe.train.runs.run import Run


def test_the_best_epoch_has_the_best_accuracy_then_the_lower_loss_then_comes_first(recipe):
    training = Training(GraphTask(recipe), None)
    kept = []
    for epoch, (accuracy, loss) in enumerate([(0.5, 1.0), (0.5, 0.9), (0.4, 0.1), (0.5, 0.9), (0.6, 2.0)]):
        training.select_best(epoch, {"accuracy": accuracy, "loss": loss})
        kept.append(training._best["epoch"])
    assert kept == [0, 1, 1, 1, 4]
    with torch.no_grad():
        next(training.model.parameters()).add_(1.0)
    name = next(iter(training._best["weights"]))
    assert not training._best["weights"][name].equal(training.model.state_dict()[name])  # copies


@pytest.mark.parametrize(("best", "splits"), [(0, ["test", "test"]), (1, ["test"])])
def test_weights_are_evaluated_once_in_each_split(recipe, tmp_path, best, splits):
    task = GraphTask(recipe.replace(epochs=2))
    training, run, asked = Training(task, None), Run(tmp_path / "run"), []
    evaluate = task.evaluate
    for epoch in range(2):
        training.log.add_epoch({"epoch": epoch, "val_accuracy": 0.25 + epoch, "val_loss": 1.5})
        training.select_best(epoch, {"accuracy": float(epoch == best), "loss": 1.0})
    task.evaluate = lambda model, split: asked.append(split) or evaluate(model, split)
    run.start(task.recipe)
    result = training.finish(run)
    assert asked == splits
    assert [result[which]["epoch"] for which in ("last", "best")] == [1, best]
    assert [result[which]["val_accuracy"] for which in ("last", "best")] == [1.25, 0.25 + best]
    assert all(
        {"test_accuracy", "test_loss", "val_loss", "energy"} <= result[which].keys() for which in ("last", "best")
    )


def test_a_model_with_other_outputs_than_classes_is_refused(recipe, monkeypatch):
    class Wider(torch.nn.Module):
        def __init__(self, outputs):
            super().__init__()
            self.layer = torch.nn.Linear(3, outputs)

        def forward(self, x, graph):
            return self.layer.weight.new_zeros(x.shape[0], self.layer.out_features)

    task = GraphTask(recipe)
    monkeypatch.setattr(GraphTask, "views", {"test": (task.graph.features, task.graph.edge_index)})
    check_output(Wider(7), task)
    with pytest.raises(UsageError, match=r"^gcn must return logits \[samples, 7\], not \[2500, 9\]$"):
        check_output(Wider(9), task)


@pytest.mark.parametrize("classes", [3, 9])
def test_a_number_of_classes_that_the_data_do_not_have_is_refused(recipe, classes):
    with pytest.raises(UsageError, match=f"num_classes={classes}, but {recipe.data} has 7 classes; leave"):
        GraphTask(recipe.replace(model_options={"num_classes": classes})).model()


def test_an_optimizers_state_takes_the_memory_order_of_its_parameters():
    x = torch.randn(4, 3, 2, 2)
    models = [torch.nn.Conv2d(3, 4, 2) for _ in range(2)]
    models[1] = models[1].to(memory_format=torch.channels_last)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, fused=i == 1) for i, m in enumerate(models)]
    models[0].weight.grad = x.clone()
    models[0].bias.grad = torch.ones(4)
    optimizers[0].step()
    state = optimizers[0].state_dict()
    adapt_optimizer_state(optimizers[1], state)
    optimizers[1].load_state_dict(state)
    momentum = optimizers[1].state[models[1].weight]["momentum_buffer"]
    assert momentum.equal(x)
    assert momentum.stride() == models[1].weight.stride()
    assert optimizers[1].param_groups[0]["fused"]


def test_another_number_of_ranks_shares_the_sums(recipe):
    training = Training(GraphTask(recipe), None)
    random = {"cpu": torch.get_rng_state()}
    states = [
        {"sums": {"sums": torch.tensor([value, 1.0], dtype=torch.float64), "count": 3}, "random": random}
        for value in (2.0, 4.0)
    ]
    load_ranks(states, training.step, 3)
    assert training.step.means() == (1.0, 1 / 3)
    expected = torch.rand(1)
    training.step.context = DistributedContext(1, 3)  # a rank that did not exist begins a stream of its own
    load_ranks(states, training.step, 3)
    assert not torch.rand(1).equal(expected)
