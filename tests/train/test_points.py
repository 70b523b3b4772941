"""Training on point clouds: what the task does besides the loop that engine/test_loop.py tests."""

import pytest
import torch
from torch.nn import functional as F

from comhe.datasets import AUGMENTATIONS
from comhe.train.cli.main import main
from comhe.train.engine.loop import fit
from comhe.train.points import PointRecipe, PointTask
from comhe.train.recipe import get_recipe, list_recipes
from comhe.train.runs.run import Run


@pytest.fixture
def recipe():
    return PointRecipe(recipe="test", data="solids", points=32, epochs=1, batch_size=64)


def test_the_models_own_loss_is_part_of_the_loss(recipe):
    task = PointTask(recipe.replace(model="pointnet_t", label_smoothing=0.2))
    torch.manual_seed(0)
    model = task.model().train()
    x, labels = task.collate(*next(iter(task.inputs(0))))
    assert x.shape == (64, 32, 3)
    loss, logits = task.loss(model, (x, labels))
    added = model.auxiliary_loss()
    assert added > 0 or loss.requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.2) + added)


def test_batch_norms_momentum_halves(recipe):
    recipe = recipe.replace(epochs=10, norm_decay=0.3)
    task = PointTask(recipe)
    model = task.model()
    momenta = []
    for epoch in range(10):
        task.on_epoch(model, epoch)
        (momentum,) = {m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)}
        momenta.append(momentum)
    assert momenta == [0.5] * 3 + [0.25] * 3 + [0.125] * 3 + [0.0625]
    still = PointTask(recipe.replace(norm_decay=0.0))
    assert {m.momentum for m in still.model().modules() if isinstance(m, torch.nn.BatchNorm1d)} == {0.1}


def test_votes_are_mean_probabilities_over_views(recipe):
    recipe = recipe.replace(votes=3, augmentation="pointnet")
    task = PointTask(recipe)
    torch.manual_seed(0)
    model = task.model()
    figures = task.evaluate(model, "test")
    assert set(figures) == {"accuracy", "top5", "class_accuracy", "loss", "vote_accuracy"}
    assert "vote_accuracy" not in task.evaluate(model, "val")
    generator, right = torch.Generator().manual_seed(0), 0
    with torch.no_grad():
        for x, labels in task.data.batches("test", 64, points=32):
            views = [AUGMENTATIONS["pointnet"](x, generator, task.data.up) for _ in range(3)]
            right += (torch.stack([model(v).softmax(1) for v in views]).mean(0).argmax(1) == labels).sum().item()
    assert figures["vote_accuracy"] == pytest.approx(right / len(task.data.test), abs=2e-3)


@pytest.mark.parametrize("name", list_recipes("points"))
@pytest.mark.parametrize("regularizer", ["none", "rp-comhe", "ap-comhe"])
def test_named_recipes_build(name, regularizer):
    recipe = get_recipe(name, "pointnet", "solids", regularizer)
    assert recipe == type(recipe).from_json(recipe.to_json())
    task = PointTask(recipe)
    assert task.regularizer(task.model())().isfinite()


def test_training_learns(recipe, tmp_path):
    recipe = recipe.replace(
        points=16,
        batch_size=32,
        regularizer="hs-mhe",
        regularizer_options={"exclude": "head.*"},
        augmentation="none",
        lr=2e-3,
    )
    result = fit(PointTask(recipe), Run(tmp_path / "run"))
    classes = len(PointTask(recipe).data.classes)
    assert result["last"]["test_accuracy"] > 2 / classes  # twice what guessing gives


def test_more_points_than_there_are(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "points", "--data", "solids", "--points", "5000", "--epochs", "1"]) == 2
    assert "5000" in capsys.readouterr().err


def test_the_axis_that_is_up_is_a_part_of_the_sets_name():
    recipe = PointRecipe(data="folder-random3:my/shapes", up="y")
    assert (recipe.data, recipe.up) == ("folder-random3-up-y:my/shapes", "")
    assert recipe.replace(seed=1).data == recipe.data
    assert PointRecipe.from_json(recipe.to_json()) == recipe
    assert PointRecipe(data="folder:x").digest == PointRecipe(data="folder:x", up="").digest
    with pytest.raises(ValueError, match="'solids' has its axes, so up='z' cannot be said of it"):
        PointRecipe(data="solids", up="z")
