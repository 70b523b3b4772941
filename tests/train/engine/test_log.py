"""The tables of a run against the weights and batches that they are about."""

import csv

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from comhe.regularizers import create_regularizer, diagnose, neurons
from comhe.train.engine.log import layer_energies
from comhe.train.engine.loop import fit
from comhe.train.images import ImageRecipe, ImageTask
from comhe.train.runs.run import Run


@pytest.fixture
def recipe(folder):
    return ImageRecipe(recipe="test", model="resnet20", data=f"folder:{folder}", epochs=2, batch_size=9, lr=0.02)


def test_energies_and_steps_are_those_of_the_weights(recipe, tmp_path):
    recipe = recipe.replace(regularizer="hs-mhe", energies=1, log_steps=3)
    task, run = ImageTask(recipe, str(tmp_path)), Run(tmp_path / "run")
    fit(task, run)
    rows = list(csv.DictReader((run.folder / "energies.csv").open()))
    layers = len({row["layer"] for row in rows})
    assert [int(row["epoch"]) for row in rows] == [e for e in range(3) for _ in range(layers)]
    torch.manual_seed(recipe.seed)
    start, end = task.model(), task.model()
    end.load_state_dict(run.weights("last"))
    for row in rows:
        model = {0: start, 2: end}.get(int(row["epoch"]))
        if model is not None:
            expected = diagnose(neurons(model.get_submodule(row["layer"])).detach())
            assert float(row["half_space_energy"]) == pytest.approx(expected.half_space_energy, rel=1e-4)
            assert float(row["smallest_angle"]) == pytest.approx(expected.smallest_angle, rel=1e-4)
    steps = list(csv.DictReader((run.folder / "steps.csv").open()))
    assert [int(row["step"]) for row in steps] == [0, 3]
    x, y = task.collate(*next(iter(task.inputs(0))))
    logits = start.train()(x)
    assert float(steps[0]["loss"]) == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-3)
    assert float(steps[0]["accuracy"]) == pytest.approx((logits.argmax(1) == y).double().mean().item())
    assert float(steps[0]["largest_logit"]) == pytest.approx(logits.abs().max().item(), rel=1e-3)
    output = next(row for row in rows if row["role"] == "output")
    assert float(steps[0]["output_energy"]) == pytest.approx(float(output["energy"]), rel=1e-4)


def test_looking_at_energies_changes_nothing():
    """A spectral norm moves on whenever it is read in training."""
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 6)), nn.Linear(6, 4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = layer_energies(create_regularizer("mhe", model))
    assert {name: layer["role"] for name, layer in found.items()} == {"0": "hidden", "1": "output"}
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
