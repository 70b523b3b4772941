import itertools
import math

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, mhs


def separation(rows):
    return -min(math.dist(p, q) ** 2 for p, q in itertools.combinations(rows, 2))


def test_formula(check_function, formulas):
    check_function(mhs, lambda rows: separation(formulas.unit(rows)))


def test_half_space_formula(check_function, formulas):
    def formula(rows):
        return separation([u for row in formulas.unit(rows) for u in (row, [-x for x in row])])

    check_function(lambda w: mhs(w, half_space=True), formula)


@pytest.mark.parametrize("half_space", [False, True])
def test_directions(check_directions, half_space):
    check_directions(lambda w: mhs(w, half_space=half_space))


def test_hidden_layers_have_the_half_space_and_output_layers_do_not():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    hidden, output = create_regularizer("mhs", model).report().layers
    assert hidden.penalty == pytest.approx(mhs(model[0].weight, half_space=True).item())
    assert output.penalty == pytest.approx(mhs(model[1].weight).item())
    hidden, _ = create_regularizer("mhs", model, half_space=False).report().layers
    assert hidden.penalty == pytest.approx(mhs(model[0].weight).item())


def test_only_the_nearest_pair_is_pushed_apart(normal):
    w = normal(6, 4).requires_grad_()
    (grad,) = torch.autograd.grad(mhs(w), w)
    assert (grad.norm(dim=-1) > 0).sum() == 2
