"""What penalties on directions share: lengths do not matter down to min_norm, and below it gradients are bounded."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, list_regularizers, regularizer_options

NAMES = ("mgd", "mhc", "mhp", "mhs", "mma", "orthonormal", "orthoreg", "uniformity")


def gradient(name, w, **options):
    model = nn.Linear(w.shape[1], w.shape[0], bias=False)
    model.weight = nn.Parameter(w.clone())
    regularizer = create_regularizer(name, model, weight=1.0, output=None, **options)
    value = regularizer()
    return value.item(), torch.autograd.grad(value, model.weight)[0]


def test_they_are_the_ones_with_the_option():
    theirs = [name for name in list_regularizers() if regularizer_options(name).get("min_norm") == 0.01]
    assert set(NAMES) <= set(theirs)
    with pytest.raises(ValueError, match="min_norm must be at least 0"):
        create_regularizer("mma", nn.Linear(3, 3), min_norm=-1)


@pytest.mark.parametrize("name", NAMES)
def test_healthy_neurons_are_the_same_with_and_without(normal, name):
    w = 0.2 * normal(9, 5, dtype=torch.float32)
    assert w.norm(dim=1).min() > 0.1
    (value, grad), (other, wanted) = gradient(name, w), gradient(name, w, min_norm=0.0)
    assert value == other
    assert grad.equal(wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("power", [-3, -6, -12, -30])
def test_neurons_of_nearly_no_length_have_bounded_gradients(normal, name, power):
    """A zeroed head after a first small step: no derivative of a direction is larger than 1 / min_norm."""
    w = 10.0**power * normal(9, 5, dtype=torch.float32)
    value, grad = gradient(name, w)
    healthy = gradient(name, normal(9, 5, dtype=torch.float32))[1]
    assert abs(value) < 1e3
    assert grad.norm() < 2 * (1 + healthy.norm()) / 0.01
    w[1:] = w[:1] + 1e-3 * w[1:]  # and nearly parallel, as after a batch of one
    assert gradient(name, w)[1].norm() < 2 * (1 + healthy.norm()) / 0.01


DEFECTS = {
    "equal": lambda w: w[:1].expand_as(w).clone(),
    "multiples": lambda w: w[:1] * torch.arange(1, len(w) + 1)[:, None],
    "antiparallel": lambda w: w[:1] * torch.tensor([1.0, -1.0]).repeat(len(w))[: len(w), None],
    "zero": torch.zeros_like,
    "one axis": lambda w: w * (torch.arange(w.shape[1]) == 0),
    "of length 1e-6": lambda w: 1e-6 * w / w.norm(dim=1, keepdim=True),
    "equal pairs": lambda w: torch.cat((w[:4], 3 * w[:4])),
}


BASELINES = [name for name in list_regularizers() if name != "none" and "he" not in name]


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("defect", DEFECTS)
def test_gradients_at_defects_are_those_of_float64(normal, name, defect):
    """What is parallel has no direction to part in, and rounding gives it none that moves a weight."""
    w = DEFECTS[defect](0.3 * normal(8, 4, dtype=torch.float32))
    grad, exact = gradient(name, w)[1].double(), gradient(name, w.double())[1]
    assert (grad - exact).norm() < 3e-5 * (5 + exact.norm())
    if name in NAMES:
        default = regularizer_options(name)["weight"]
        assert 0.1 * default * exact.norm() < 5  # a step of SGD at 0.1
        if defect in ("equal", "multiples", "antiparallel") and name not in ("mhp", "mhc"):
            assert exact.norm() < 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1e-3, 1e-6])
def test_a_step_does_not_throw_a_head_that_was_zero(normal, name, length):
    model = nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 10))
    w = length * nn.functional.normalize(normal(10, 32, dtype=torch.float32))
    model[1].weight.data = w.clone()
    create_regularizer(name, model)().backward()
    assert 0.01 * model[1].weight.grad.norm() < 0.5
