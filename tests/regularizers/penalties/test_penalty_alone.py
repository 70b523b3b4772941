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
CASES = [(tuple(LAYERS), "hidden"), (("few",), "output")]
GAMES = ("mhp", "mhc")
FULL = ("mhe", "mma", "uniformity")  # for which a neuron's negative is as far as can be: 2 d neurons become d pairs
NAMES = [name for name in list_regularizers() if name != "none"]


def create(name, model, role, **options):
    return create_regularizer(name, model, output="auto" if role == "output" else None, **options)


def descend(name, model, role, steps):
    regularizer = create(name, model, role)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        regularizer().backward()
        optimizer.step()


def energy(name, layer, role):
    half_space = role == "hidden" and name not in FULL
    return hyperspherical_energy(neurons(layer).detach(), 2, half_space=half_space).item()


@torch.no_grad()
def objective(name, layer, role, trials=8):
    """The mean penalty over several draws; for a game the largest one over poles that have had time to move."""
    regularizer = create(name, layer, role, seed=7)
    (part,) = regularizer.layers
    if name in GAMES:
        w = neurons(layer).expand(trials, -1, -1)
        pole = regularizer.penalty.init(w, part, 1)
        for _ in range(20):
            pole = regularizer.penalty.update(w, part, pole, None)
        return regularizer.penalty.value(w, part, pole, None).amax().item()
    return sum(regularizer().item() for _ in range(trials)) / trials


def check(name, kinds, role, steps):
    torch.manual_seed(0)
    layers = nn.ModuleList(LAYERS[kind]() for kind in kinds)
    before = [(energy(name, layer, role), objective(name, layer, role)) for layer in layers]
    descend(name, layers, role, steps)
    for kind, layer, (energy_before, first) in zip(kinds, layers, before, strict=True):
        assert energy(name, layer, role) < energy_before + 0.02, kind
        last = objective(name, layer, role)
        n, d = neurons(layer).shape
        if name in GAMES and role == "hidden" and n < d:  # a pole orthogonal to all neurons has the best there is
            assert last == pytest.approx(first, abs=1e-3), kind
        else:
            assert last < first, kind


@pytest.mark.parametrize(("kinds", "role"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_alone(name, kinds, role):
    check(name, kinds, role, steps=50 if name in GAMES else 20)


@pytest.mark.long
@pytest.mark.parametrize(("kinds", "role"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_alone_long(name, kinds, role):
    check(name, kinds, role, steps=2000)


def test_polarization_and_covering_do_not_collapse():
    """With the opposite sign, or with a pole that the neurons catch up with, pairs fall together."""
    for name in GAMES:
        torch.manual_seed(0)
        layer = nn.Linear(10, 30)
        before = energy(name, layer, "output")
        descend(name, layer, "output", 100)
        assert energy(name, layer, "output") < before - 0.02
