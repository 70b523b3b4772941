import warnings

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from comhe.regularizers.energies import cosines as module
from comhe.regularizers.energies.cosines import cosines, directions, gram, inverse_norms, scale_pairs


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 3, 5)])
def test_values_and_derivatives(normal, shape):
    w = normal(*shape)
    expected = torch.nn.functional.cosine_similarity(w[..., :, None, :], w[..., None, :, :], dim=-1)
    torch.testing.assert_close(cosines(w), expected)
    assert gradcheck(cosines, w.clone().requires_grad_())
    assert gradgradcheck(cosines, w.clone().requires_grad_())


@pytest.mark.parametrize("length", [1e-30, 1.0, 1e30])
def test_directions_of_any_length(normal, length):
    w = normal(3, 5, dtype=torch.float32)
    torch.testing.assert_close(directions(length * w), directions(w))
    assert directions(0 * w).equal(0 * w)
    assert cosines(torch.cat((w, 0 * w)))[3:].count_nonzero() == 0


@pytest.mark.parametrize("length", [0.0, 1e-30, 1e-12, 1e-3, 0.00999, 0.01, 0.0101, 1.0, 1e30])
def test_the_norm_of_a_short_row_counts_as_the_least(normal, length):
    w = torch.nn.functional.normalize(normal(3, 5), dim=-1) * length
    torch.testing.assert_close(directions(w, 0.01), w / max(length, 0.01))
    jacobian = torch.autograd.functional.jacobian(lambda row: directions(row[None], 0.01)[0], w[0])
    if length != 0.01:
        expected = torch.autograd.functional.jacobian(lambda row: row / row.norm().clamp_min(0.01), w[0])
        torch.testing.assert_close(jacobian, expected)
    assert torch.linalg.matrix_norm(jacobian, 2) < 1.001 / max(length, 0.01)
    if length > 0.01:
        assert directions(w, 0.01).equal(directions(w))
    if 1e-10 < length < 0.009:
        assert gradgradcheck(lambda w: cosines(w, 0.01), w.requires_grad_())


def test_a_reflected_gram_matrix_is_the_product(monkeypatch, normal):
    monkeypatch.setattr(module, "BLOCK", 4)
    w = normal(2, 10, 20)
    torch.testing.assert_close(gram(w), w @ w.mT)


def test_scaling_pairs_turns_infinities_of_dead_neurons_into_zeros():
    products = torch.tensor([[torch.inf, 2.0], [2.0, 4.0]])
    factors = scale_pairs(products, torch.tensor([0.0, 0.5]))
    assert products.tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert factors.tolist() == [[0.0, 0.0], [0.0, 0.25]]


def test_a_row_of_zeros_has_a_derivative_in_every_step():
    """Anomaly detection looks at each of them, also where the next one multiplies by zero."""
    squared = torch.tensor([0.0, 1e-40, 4.0], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it is slow
        with torch.autograd.detect_anomaly():
            found = inverse_norms(squared)
            found.sum().backward()
    assert found.tolist() == [0, 0, 0.5]
    assert squared.grad.tolist() == [0, 0, -0.0625]
