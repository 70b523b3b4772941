import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from comhe.regularizers import create_regularizer, mgd


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


@pytest.mark.parametrize("half_space", [False, True])
def test_directions(check_directions, half_space):
    check_directions(lambda w: mgd(w, half_space=half_space))


@pytest.mark.parametrize("shape", [(2, 7), (4, 6), (6, 4)])
def test_the_half_space_counts_the_negatives(normal, shape):
    w = normal(*shape)
    both = torch.cat((w, -w))
    torch.testing.assert_close(mgd(w, half_space=True), mgd(both), rtol=1e-9, atol=0)
    assert gradcheck(lambda w: mgd(w, half_space=True), w.requires_grad_())


def test_duplicates_have_the_ridge_and_no_gradient():
    """In float32 the eigenvalues would drown in rounding."""
    w = torch.tensor([[0.3, 0.4, 0.1], [0.3, 0.4, 0.1], [0.6, 0.8, 0.2]], requires_grad=True)
    value = mgd(w)
    assert value.item() == pytest.approx(-math.log((3 + 1e-6) * 1e-12), rel=1e-6)
    (grad,) = torch.autograd.grad(value, w)
    assert grad.abs().max() < 1e-6


def test_many_neurons_are_sampled_and_refused_by_the_function():
    with pytest.raises(ValueError, match=r"at most 8192 neurons, not 9000.*sample"):
        mgd(torch.ones(9000, 1))
    model = nn.Sequential(nn.Linear(4, 40), nn.Linear(40, 3))
    regularizer = create_regularizer("mgd", model, sample=10, output_weight=0.0)
    values = [regularizer().item() for _ in range(3)]
    assert len(set(values)) == 3  # another sample in every step
    with pytest.raises(ValueError, match="sample must be"):
        create_regularizer("mgd", model, sample=1)
