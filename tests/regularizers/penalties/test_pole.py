"""What the penalties with a learned pole share."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, mhc, mhp

SIGNED = [("mhp", mhp, -1), ("mhc", mhc, 1)]  # the penalty is the function times the sign, and the pole ascends it


@pytest.mark.parametrize("function", [mhp, mhc])
def test_leading_dimensions_and_errors(normal, function):
    w, pole = normal(6, 4), normal(4, seed=1)
    both = function(torch.stack([w, w]), torch.stack([normal(4, seed=2), pole]))
    assert both.shape == (2,)
    torch.testing.assert_close(both[1], function(w, pole))
    with pytest.raises(ValueError, match="pole must have"):
        function(w, pole[1:])


@pytest.mark.parametrize("name", ["mhp", "mhc"])
def test_poles_raise_what_the_neurons_lower_and_are_restored(name):
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    regularizer = create_regularizer(name, model, output=None, steps=1)
    values = torch.stack([regularizer() for _ in range(30)]).detach()
    assert values[-1] > values[0]
    assert all(pole.norm().item() == pytest.approx(1, rel=1e-5) for pole in regularizer.buffers())
    twin = create_regularizer(name, model, output=None, steps=1, seed=3)
    twin.load_state_dict(regularizer.state_dict())
    assert twin().item() == regularizer().item()


@pytest.mark.parametrize(("name", "function", "sign"), SIGNED)
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("half_space", [False, True])
def test_the_pole_follows_the_gradient_along_the_sphere(name, function, sign, steps, half_space):
    """With momentum, which starts at zero in every call."""
    model = nn.Sequential(nn.Linear(6, 15)).double()
    options = {"weight": 1.0, "output": None, "half_space": half_space}
    regularizer = create_regularizer(name, model, steps=steps, rate=0.1, momentum=0.7, **options)
    (layer,) = regularizer.layers
    w, pole = model[0].weight.detach(), regularizer.state_of(layer).clone()
    velocity = torch.zeros_like(pole)
    for _ in range(steps):
        leaf = pole.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(sign * function(w, leaf, half_space=half_space), leaf)
        velocity = 0.7 * velocity + gradient
        velocity = velocity - (velocity @ pole) * pole
        pole = pole + 0.1 * velocity
        pole = pole / pole.norm()
    assert regularizer().item() == pytest.approx(sign * function(w, pole, half_space=half_space).item(), rel=1e-9)
    torch.testing.assert_close(regularizer.state_of(layer), pole)


@pytest.mark.parametrize("function", [mhp, mhc])
def test_the_half_space_counts_the_negatives(normal, function):
    w, pole = normal(5, 3), normal(3, seed=1)
    expected = function(torch.cat((w, -w)), pole)
    for half in (w, w * torch.tensor([1.0, -1, -1, 1, -1])[:, None]):
        torch.testing.assert_close(function(half, pole, half_space=True), expected)


@pytest.mark.parametrize("name", ["mhp", "mhc"])
def test_hidden_layers_have_the_half_space_and_output_layers_do_not(name):
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight[4:] = -model[0].weight[:4]
    regularizer, other = (create_regularizer(name, model, half_space=half) for half in (True, False))
    rows, full = regularizer.report().layers, other.report().layers
    assert rows[0].penalty == pytest.approx(full[0].penalty, rel=1e-5)  # the negatives are there already
    assert rows[1].penalty == full[1].penalty


@pytest.mark.parametrize("name", ["mhp", "mhc"])
def test_a_pole_that_sits_on_a_neuron_leaves_it_in_bounded_steps(name):
    model = nn.Sequential(nn.Linear(8, 20))
    regularizer = create_regularizer(name, model, output=None, half_space=False)
    (layer,) = regularizer.layers
    direction = nn.functional.normalize(model[0].weight.detach()[0] + 1e-5, dim=0)
    regularizer.state_of(layer).copy_(direction)
    for _ in range(3):
        regularizer()
    u = nn.functional.normalize(model[0].weight.detach())
    assert (u @ regularizer.state_of(layer)).amax() < 0.9


@pytest.mark.parametrize("options", [{"steps": 0}, {"rate": 0.0}, {"momentum": 1.0}, {"min_norm": -1.0}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        create_regularizer("mhp", nn.Linear(3, 3), **options)
