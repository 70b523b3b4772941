import pytest
import torch

from comhe.regularizers import mc


def test_formula(check_function, formulas):
    check_function(mc, lambda rows: max(abs(x) for x in formulas.excess(rows)))


def test_zero_at_orthonormal_rows(normal):
    rows = torch.linalg.qr(normal(7, 4))[0].mT
    assert mc(rows).item() == pytest.approx(0, abs=1e-12)
    assert mc(5 * rows) > 1
    assert mc(rows + 0.1 * normal(4, 7, seed=1)) > 1e-3


def test_is_a_maximum(normal):
    w = normal(4, 6)
    assert mc(torch.block_diag(w, w)).item() == pytest.approx(mc(w).item(), rel=1e-12)
    assert mc(torch.tensor([[1.0, 0.0], [-0.9, 0.436]])).item() == pytest.approx(0.9, abs=1e-3)
