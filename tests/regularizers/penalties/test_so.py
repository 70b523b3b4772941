import pytest
import torch

from comhe.regularizers import so


def test_formula(check_function, formulas):
    def formula(rows):
        return formulas.frobenius(rows if len(rows) <= len(rows[0]) else formulas.columns(rows))

    check_function(so, formula)


def test_zero_at_orthonormal_rows(normal):
    rows = torch.linalg.qr(normal(7, 4))[0].mT
    assert so(rows).item() == pytest.approx(0, abs=1e-12)
    assert so(5 * rows) > 1
    assert so(rows + 0.1 * normal(4, 7, seed=1)) > 1e-3


def test_zero_can_be_reached_with_more_neurons_than_dimensions(normal):
    """With the larger Gram matrix its minimum would be N - d."""
    assert so(torch.linalg.qr(normal(7, 4))[0]).item() == pytest.approx(0, abs=1e-12)


def test_is_a_sum_not_a_mean(normal):
    w = normal(4, 6)
    assert so(torch.block_diag(w, w)).item() == pytest.approx(2 * so(w).item(), rel=1e-12)
