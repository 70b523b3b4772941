"""What tasks on batches share: microbatches, optimizer, regularizer, evaluation."""

import pytest
import torch
from torch.nn import functional as F

from comhe.datasets import Share
from comhe.regularizers import Penalty, list_regularizers, register_regularizer, registry
from comhe.train import get_recipe
from comhe.train.engine.batch_task import evaluate_batches, make_optimizer, split_batch
from comhe.train.images import ImageRecipe, ImageTask


@pytest.fixture
def recipe(folder):
    return ImageRecipe(recipe="test", model="resnet20", data=f"folder:{folder}", epochs=2, batch_size=9, lr=0.02)


def test_evaluation_counts_samples():
    torch.manual_seed(0)
    scores, labels = torch.randn(23, 7), torch.randint(7, (23,))
    model = torch.nn.Identity()
    batches = zip(scores.split(10), labels.split(10), strict=True)
    figures = evaluate_batches(model, batches, bf16=False)
    order = scores.argsort(1, descending=True)
    assert figures["accuracy"] == pytest.approx(sum(o[0] == y for o, y in zip(order, labels, strict=True)).item() / 23)
    assert figures["top5"] == pytest.approx(sum((o[:5] == y).any() for o, y in zip(order, labels, strict=True)) / 23)
    each = [(order[labels == c, 0] == c).double().mean().item() for c in labels.unique()]
    assert figures["class_accuracy"] == pytest.approx(sum(each) / len(each))
    assert figures["loss"] == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-6)


@pytest.mark.parametrize(("size", "count"), [(9, 1), (9, 2), (9, 9), (3, 5)])
def test_microbatches_are_the_batch(size, count):
    x, y = torch.randn(size, 2), torch.arange(size)
    microbatches = list(split_batch((x, y), Share(microbatches=min(size, count)), size))
    assert len(microbatches) == min(size, count)
    assert sum(factor for factor, _ in microbatches) == pytest.approx(1)
    assert torch.cat([labels for _, (_, labels) in microbatches]).equal(y)


def test_matrices_decay_and_nothing_else(recipe, tmp_path):
    model = ImageTask(recipe, str(tmp_path)).model()
    decayed, others = make_optimizer(recipe, model).param_groups
    assert decayed["weight_decay"] == recipe.weight_decay
    assert others["weight_decay"] == 0
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].split(".")[-1] for p in decayed["params"]} == {"weight"}
    assert all("bn" in names[id(p)] or names[id(p)] == "fc.bias" for p in others["params"])
    assert len(make_optimizer(recipe.replace(decay="all"), model).param_groups) == 1


@pytest.mark.parametrize("name", list_regularizers())
def test_every_regularizer_is_attached(recipe, tmp_path, name):
    task = ImageTask(recipe.replace(model="resnet8", regularizer=name), str(tmp_path))
    assert task.regularizer(task.model())().isfinite()


def test_an_option_called_rate_is_not_the_networks(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @register_regularizer("own")
    class Own(Penalty):
        def __init__(self, *, rate: float = 0.5, eps: float = 1e-3) -> None:
            self.rate, self.eps = rate, eps

        def value(self, w, layer, state, draws):
            return self.rate * w.square().sum((-2, -1))

    task = ImageTask(recipe.replace(regularizer="own"), str(tmp_path))
    assert task.regularizer(task.model()).penalty.rate == 0.5
    assert get_recipe("paper", "resnet8", "glyphs", "own").regularizer_options == {}


def test_learned_projections_move_at_the_networks_rate(recipe, tmp_path):
    recipe = recipe.replace(regularizer="ap-comhe", schedule="one-cycle", warmup=0.5)
    task = ImageTask(recipe, str(tmp_path))
    rate = task.regularizer(task.model()).penalty.rate
    assert [rate(step) for step in range(4)] == pytest.approx([1e-12, 0.01, 0.02, 0.01])
