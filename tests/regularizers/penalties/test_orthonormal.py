import pytest
import torch

from comhe.regularizers import create_regularizer, orthonormal


def test_formula(check_function, formulas):
    check_function(orthonormal, lambda rows: formulas.frobenius(formulas.unit(rows)))


def test_the_neurons_themselves(check_function, formulas):
    check_function(lambda w: orthonormal(w, normalize=False), formulas.frobenius)


def test_either_is_an_option():
    model = torch.nn.Linear(6, 4)
    for normalize in (True, False):
        (row,) = create_regularizer("orthonormal", model, normalize=normalize).report().layers
        assert row.penalty == pytest.approx(orthonormal(model.weight, normalize=normalize).item())


def test_zero_at_orthogonal_rows_of_any_length(normal):
    rows = torch.linalg.qr(normal(7, 4))[0].mT
    assert orthonormal(rows).item() == pytest.approx(0, abs=1e-12)
    assert orthonormal(5 * rows).item() == pytest.approx(0, abs=1e-12)
    assert orthonormal(rows + 0.1 * normal(4, 7, seed=1)) > 1e-3


def test_is_a_sum_not_a_mean(normal):
    w = normal(4, 6)
    assert orthonormal(torch.block_diag(w, w)).item() == pytest.approx(2 * orthonormal(w).item(), rel=1e-12)
