"""Factors, solves and determinants by the library; the GPU's own are compared with these beside the kernels."""

import torch
from torch.autograd import gradcheck, gradgradcheck

from comhe.regularizers.energies.cholesky import cholesky, log_determinant, solve_triangular


def positive(normal, *sets, n=5):
    w = normal(*sets, n, n + 3)
    return w @ w.mT


def test_a_factor_is_lower_triangular_and_makes_up_the_matrix(normal):
    a = positive(normal, 2, 3)
    factor = cholesky(a)
    assert factor.triu(1).count_nonzero() == 0
    torch.testing.assert_close(factor @ factor.mT, a)
    b = normal(2, 3, 4, 5, seed=1)
    torch.testing.assert_close(solve_triangular(factor, b) @ factor, b)


def test_a_determinant_is_the_product_of_the_eigenvalues(normal):
    a = positive(normal, 3)
    torch.testing.assert_close(log_determinant(a), torch.linalg.eigvalsh(a).log().sum(-1))
    assert log_determinant(-a).isnan().all()
    assert log_determinant(a[0].fill_(torch.nan)).isnan()


def test_its_derivatives(normal):
    w = normal(4, 6).requires_grad_()
    assert gradcheck(lambda w: log_determinant(w @ w.mT), w)
    assert gradgradcheck(lambda w: log_determinant(w @ w.mT), w)
