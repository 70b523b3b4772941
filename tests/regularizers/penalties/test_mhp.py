import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from comhe.regularizers import create_regularizer, mhp


@pytest.mark.parametrize("shape", [(2, 7), (6, 4)])
def test_formula(normal, formulas, shape):
    w, pole = normal(*shape), normal(shape[1], seed=1)
    (v,) = formulas.unit([pole.tolist()])
    squared = [math.dist(v, u) ** 2 for u in formulas.unit(w.tolist())]
    assert mhp(w, 3 * pole).item() == pytest.approx(sum(1 / x for x in squared) / len(squared), rel=1e-12)
    assert gradcheck(mhp, (w.clone().requires_grad_(), pole.clone().requires_grad_()))


@pytest.mark.parametrize("gap", [0.0, 1e-4, 1e-2, 0.3])
def test_near_the_pole_the_derivative_is_bounded_and_falls_to_zero(normal, gap):
    w = normal(4, 8, dtype=torch.float32)
    pole = w[0] + gap * normal(8, seed=1, dtype=torch.float32)
    w.requires_grad_()
    (grad,) = torch.autograd.grad(mhp(w, pole), w)
    with torch.no_grad():
        angle = (w[0] / w[0].norm() - pole / pole.norm()).norm().item()
    expected = 2 * math.sin(angle) / max(angle**2, 0.01) ** 2 / 4 / w[0].norm().item()
    assert grad[0].norm().item() == pytest.approx(expected, rel=0.02, abs=1e-3)


def test_the_regularizer_subtracts_it():
    """Neurons maximize what the pole minimizes: alone, the pole's least value rises."""
    model = nn.Linear(10, 30)
    regularizer = create_regularizer("mhp", model)
    (layer,) = regularizer.layers
    assert regularizer().item() == pytest.approx(-10 * mhp(model.weight, regularizer.state_of(layer)).item())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    values = []
    for _ in range(100):
        optimizer.zero_grad()
        value = regularizer()
        value.backward()
        optimizer.step()
        values.append(value.item() / -10)
    assert sum(values[-10:]) > sum(values[5:15]) + 0.1
