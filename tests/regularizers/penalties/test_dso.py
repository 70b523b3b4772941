import pytest
import torch

from comhe.regularizers import dso


def test_formula(check_function, formulas):
    check_function(dso, lambda rows: formulas.frobenius(rows) + formulas.frobenius(formulas.columns(rows)))


def test_least_at_orthonormal_rows(normal):
    rows = torch.linalg.qr(normal(7, 4))[0].mT
    assert dso(rows).item() == pytest.approx(3, abs=1e-12)  # |W^T W - I|^2 of rank 4 in 7 dimensions
    assert dso(5 * rows) > 4
    assert dso(rows + 0.1 * normal(4, 7, seed=1)) > 3 + 1e-3


def test_is_a_sum_not_a_mean(normal):
    w = normal(4, 6)
    assert dso(torch.block_diag(w, w)).item() == pytest.approx(2 * dso(w).item(), rel=1e-12)
