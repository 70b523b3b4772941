import math

import pytest
import torch
from torch.autograd import gradcheck

from comhe.regularizers import mhp


@pytest.mark.parametrize("shape", [(2, 7), (6, 4)])
def test_formula(normal, formulas, shape):
    w, pole = normal(*shape), normal(shape[1], seed=1)
    (v,) = formulas.unit([pole.tolist()])
    squared = [math.dist(v, u) ** 2 for u in formulas.unit(w.tolist())]
    assert mhp(w, 3 * pole).item() == pytest.approx(sum(1 / x for x in squared) / len(squared), rel=1e-12)
    assert gradcheck(mhp, (w.clone().requires_grad_(), pole.clone().requires_grad_()))


def test_neuron_near_the_pole_still_flees(normal):
    w = normal(4, 8, dtype=torch.float32)
    pole = w[0] + 1e-4 * normal(8, seed=1, dtype=torch.float32)
    w.requires_grad_()
    (grad,) = torch.autograd.grad(mhp(w, pole), w)
    assert grad[0].abs().max() > 0
