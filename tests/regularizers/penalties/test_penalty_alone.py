"""Every regularizer alone, at its defaults, from random neurons: it lowers its own objective and harms no energy."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, hyperspherical_energy, list_regularizers, neurons

LAYERS = {
    "many": lambda: nn.Linear(24, 48),
    "few": lambda: nn.Linear(10, 30),
    "convolution": lambda: nn.Conv2d(3, 12, 3, stride=2),
}
CASES = [*((kind, "hidden") for kind in LAYERS), ("few", "output")]
GAMES = ("mhp", "mhc")
NAMES = [name for name in list_regularizers() if name != "none"]


def descend(name, layer, role, steps):
    regularizer = create_regularizer(name, layer, output="auto" if role == "output" else None)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        regularizer().backward()
        optimizer.step()
    return regularizer


def energy(layer, role):
    return hyperspherical_energy(neurons(layer).detach(), 2, half_space=role == "hidden").item()


@torch.no_grad()
def objective(regularizer, layer, trials=8):
    """The mean penalty over several draws; for a game the largest one over poles that have had time to move."""
    (part,) = regularizer.layers
    if regularizer.name in GAMES:
        w = neurons(layer).expand(trials, -1, -1)
        pole = regularizer.penalty.init(w, part, 1)
        for _ in range(20):
            pole = regularizer.penalty.update(w, part, pole, None)
        return regularizer.penalty.value(w, part, pole, None).amax().item()
    fresh = create_regularizer(regularizer.name, layer, seed=7, output=None if part.role == "hidden" else "auto")
    return sum(fresh().item() for _ in range(trials)) / trials


def check(name, kind, role, steps):
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    before = energy(layer, role)
    first = objective(create_regularizer(name, layer, output=None if role == "hidden" else "auto"), layer)
    regularizer = descend(name, layer, role, steps)
    assert energy(layer, role) < before + 0.02
    last = objective(regularizer, layer)
    n, d = regularizer.layers[0].shape
    if name in GAMES and role == "hidden" and n < d:  # a pole orthogonal to all neurons has the best there is
        assert last == pytest.approx(first, abs=1e-3)
    else:
        assert last < first


@pytest.mark.parametrize(("kind", "role"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_alone(name, kind, role):
    check(name, kind, role, steps=50 if name in GAMES else 20)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "role"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_alone_long(name, kind, role):
    check(name, kind, role, steps=2000)


def test_polarization_and_covering_do_not_collapse():
    """With the opposite sign, or with a pole that the neurons catch up with, pairs fall together."""
    for name in GAMES:
        torch.manual_seed(0)
        layer = nn.Linear(10, 30)
        before = energy(layer, "output")
        descend(name, layer, "output", 100)
        assert energy(layer, "output") < before - 0.02
