import math

import pytest
import torch
from torch.autograd import gradcheck

from comhe.regularizers import mhc


@pytest.mark.parametrize("shape", [(2, 7), (6, 4)])
def test_formula(normal, formulas, shape):
    w, pole = normal(*shape), normal(shape[1], seed=1)
    (v,) = formulas.unit([pole.tolist()])
    squared = [math.dist(v, u) ** 2 for u in formulas.unit(w.tolist())]
    expected = -math.log(sum(math.exp(-10 * x) for x in squared) / len(squared)) / 10
    assert mhc(w, 3 * pole).item() == pytest.approx(expected, rel=1e-6)
    assert gradcheck(mhc, (w.clone().requires_grad_(), pole.clone().requires_grad_()))


def test_float64_is_exact(normal):
    w, pole = normal(3, 4), normal(4, seed=1)
    squared = 2 - 2 * torch.cosine_similarity(w, pole[None])
    assert mhc(w, pole).item() == pytest.approx(-(-10 * squared).exp().mean().log().item() / 10, rel=1e-12)
