import math

import pytest
import torch
from torch.autograd import gradcheck

from comhe.regularizers import mgd


def determinant(matrix):
    """Gaussian elimination without pivots: the kernel is positive definite."""
    matrix, product = [list(row) for row in matrix], 1.0
    for k in range(len(matrix)):
        product *= matrix[k][k]
        for i in range(k + 1, len(matrix)):
            factor = matrix[i][k] / matrix[k][k]
            matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[k], strict=True)]
    return product


@pytest.mark.parametrize("shape", [(2, 7), (4, 6), (6, 4)])
def test_formula(normal, formulas, shape):
    w = normal(*shape)
    u = formulas.unit(w.tolist())
    kernel = [[math.exp(-(math.dist(p, q) ** 2)) + 1e-6 * (p is q) for q in u] for p in u]
    expected = -math.log(determinant(kernel))
    assert mgd(w).item() == pytest.approx(expected, rel=1e-9)
    assert mgd(torch.stack([w.flip(0), w]))[1].item() == pytest.approx(expected, rel=1e-9)
    assert gradcheck(mgd, w.requires_grad_())


def test_directions(check_directions):
    check_directions(mgd)
