import itertools

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from comhe.regularizers import create_regularizer, srip


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
def test_two_power_iterations(normal, shape):
    w, start = normal(*shape), normal(min(shape), seed=1)
    small = w if shape[0] <= shape[1] else w.mT
    m = small @ small.mT - torch.eye(min(shape), dtype=w.dtype)
    first = m @ start
    second = m @ (first / first.norm())
    assert srip(w, start).item() == pytest.approx((second @ second).item(), rel=1e-12)
    assert srip(w, 1e3 * start).item() == pytest.approx(srip(w, start).item(), rel=1e-12)

    eigenvalues, vectors = torch.linalg.eigh(m)
    largest = eigenvalues.abs().argmax()
    spectral = eigenvalues[largest].item() ** 2
    assert srip(w, vectors[:, largest]).item() == pytest.approx(spectral, rel=1e-12)
    for seed in range(5):
        assert srip(w, normal(min(shape), seed=seed)) <= spectral * (1 + 1e-12)
    for _ in range(1000):
        start = torch.nn.functional.normalize(m @ start, dim=0)
    assert srip(w, start).item() == pytest.approx(spectral, rel=1e-9)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 3, 5)])
def test_gradient_and_leading_dimensions(normal, shape):
    start = normal(*shape[:-2], min(shape[-2:]), seed=1)
    w = normal(*shape)
    assert gradcheck(lambda w: srip(w, start), w.clone().requires_grad_())
    if len(shape) == 3:
        torch.testing.assert_close(srip(w, start), torch.stack([srip(w[0], start[0]), srip(w[1], start[1])]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_at_the_optimum_is_zero_and_finite(dtype):
    w = torch.eye(4, 6, dtype=dtype).requires_grad_()
    value = srip(w, torch.ones(4))
    value.backward()
    assert value == 0
    assert w.grad.isfinite().all()


def test_a_start__of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="4 entries, not 6"):
        srip(torch.ones(4, 6), torch.ones(6))


def test_every_step_starts_from_another_vector():
    regularizer = create_regularizer("srip", nn.Linear(12, 6), output=None)
    values = [regularizer().item() for _ in range(4)]
    assert all(first != second for first, second in itertools.pairwise(values))
