"""What the penalties with a learned pole share."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, mhc, mhp


@pytest.mark.parametrize("function", [mhp, mhc])
def test_leading_dimensions_and_errors(normal, function):
    w, pole = normal(6, 4), normal(4, seed=1)
    both = function(torch.stack([w, w]), torch.stack([normal(4, seed=2), pole]))
    assert both.shape == (2,)
    torch.testing.assert_close(both[1], function(w, pole))
    with pytest.raises(ValueError, match="pole must have"):
        function(w, pole[1:])


@pytest.mark.parametrize(("name", "sign"), [("mhp", -1), ("mhc", 1)])
def test_poles_seek_and_are_restored(name, sign):
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    regularizer = create_regularizer(name, model, output=None)
    values = torch.stack([regularizer() for _ in range(30)]).detach()
    assert sign * (values[-1] - values[0]) > 0
    assert all(pole.norm().item() == pytest.approx(1, rel=1e-5) for pole in regularizer.buffers())
    twin = create_regularizer(name, model, output=None, seed=3)
    twin.load_state_dict(regularizer.state_dict())
    assert twin().item() == regularizer().item()


@pytest.mark.parametrize(("name", "function"), [("mhp", mhp), ("mhc", mhc)])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_pole_follows_the_gradient_along_the_sphere(name, function, steps):
    model = nn.Sequential(nn.Linear(6, 5)).double()
    regularizer = create_regularizer(name, model, steps=steps, rate=0.2)
    (layer,) = regularizer.layers
    expected = regularizer.state_of(layer).clone()
    for _ in range(steps):
        leaf = expected.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(model[0].weight.detach(), leaf), leaf)
        expected = expected + (0.2 if name == "mhc" else -0.2) * gradient
        expected = expected / expected.norm()
    assert regularizer().item() == pytest.approx(function(model[0].weight, expected).item(), rel=1e-9)
    torch.testing.assert_close(regularizer.state_of(layer), expected)


@pytest.mark.parametrize("options", [{"steps": 0}, {"rate": 0.0}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        create_regularizer("mhp", nn.Linear(3, 3), **options)
