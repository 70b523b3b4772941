import pytest
import torch

from comhe.regularizers import orthogonal


def test_formula(check_function, formulas):
    check_function(orthogonal, lambda rows: sum(abs(x) for x in formulas.excess(rows)))


def test_zero_at_orthonormal_rows(normal):
    rows = torch.linalg.qr(normal(7, 4))[0].mT
    assert orthogonal(rows).item() == pytest.approx(0, abs=1e-12)
    assert orthogonal(5 * rows) > 1
    assert orthogonal(rows + 0.1 * normal(4, 7, seed=1)) > 1e-3


def test_absolute_values_do_not_cancel():
    """Two neurons at 60 degrees and two at 120: a signed sum would be zero."""
    w = torch.tensor([[1, 0], [0.5, 0.75**0.5]], dtype=torch.float64)
    w = torch.block_diag(w, w * torch.tensor([[1.0], [-1.0]]))
    assert orthogonal(w).item() == pytest.approx(2.0)
    assert orthogonal(torch.block_diag(w, w)).item() == pytest.approx(4.0)
