import math

import pytest
import torch
from torch.autograd import gradcheck

from comhe.regularizers import mma


@pytest.mark.parametrize("shape", [(2, 7), (4, 6), (6, 4)])
def test_formula(normal, formulas, shape):
    w = normal(*shape)
    others = formulas.cosines_of_others(w.tolist())
    expected = -sum(min(math.acos(c) for c in row) for row in others) / len(others)
    assert mma(w).item() == pytest.approx(expected, rel=1e-9)
    assert mma(torch.stack([w.flip(0), w]))[1].item() == pytest.approx(expected, rel=1e-9)
    assert gradcheck(mma, w.requires_grad_())


def test_directions(check_directions):
    check_directions(mma)
