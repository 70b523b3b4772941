"""The rivals against their formulas in slow float64 loops."""

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck

from comhe.regularizers.penalties import (
    dso as double_soft_orthogonality,
)
from comhe.regularizers.penalties import (
    mc as mutual_coherence,
)
from comhe.regularizers.penalties import (
    orthogonal,
    orthonormal,
    srip,
)
from comhe.regularizers.penalties import (
    so as soft_orthogonality,
)


def dot(p, q):
    return sum(a * b for a, b in zip(p, q, strict=True))


def excess(rows):
    """<r_i, r_j> - (i == j) for all i, j, flat."""
    n = len(rows)
    return [dot(rows[i], rows[j]) - (i == j) for i in range(n) for j in range(n)]


def columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def frobenius(rows):
    return sum(x * x for x in excess(rows))


def unit(rows):
    return [[x / math.hypot(*row) for x in row] for row in rows]


ORACLES = {
    orthogonal: lambda rows: sum(abs(x) for x in excess(rows)),
    soft_orthogonality: lambda rows: frobenius(rows if len(rows) <= len(rows[0]) else columns(rows)),
    double_soft_orthogonality: lambda rows: frobenius(rows) + frobenius(columns(rows)),
    mutual_coherence: lambda rows: max(abs(x) for x in excess(rows)),
    orthonormal: lambda rows: frobenius(unit(rows)),
}
FUNCTIONS = pytest.mark.parametrize("function", ORACLES, ids=lambda function: function.__name__)
SHAPES = pytest.mark.parametrize("shape", [(2, 1), (2, 7), (4, 6), (5, 5), (6, 4), (9, 2)])


@FUNCTIONS
@SHAPES
def test_equals_the_formula(normal, function, shape):
    w = normal(*shape)
    assert function(w).item() == pytest.approx(ORACLES[function](w.tolist()), rel=1e-12)


@FUNCTIONS
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 3, 6, 4)])
def test_leading_dimensions_are_independent(normal, function, shape):
    w = normal(*shape)
    values = function(w)
    assert values.shape == shape[:2]
    for i, j in itertools.product(range(2), range(3)):
        assert values[i, j].item() == pytest.approx(ORACLES[function](w[i, j].tolist()), rel=1e-12)


@FUNCTIONS
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (2, 3, 4)])
def test_gradient(normal, function, shape):
    assert gradcheck(function, normal(*shape).requires_grad_())


@FUNCTIONS
def test_half_precision_is_computed_in_float32_also_under_autocast(normal, function):
    w = normal(12, 20, dtype=torch.bfloat16)
    assert function(w).dtype == torch.float32
    assert function(w).equal(function(w.float()))
    single = function(normal(12, 20, dtype=torch.float32)).double()
    torch.testing.assert_close(single, function(normal(12, 20)), rtol=1e-5, atol=0)


@FUNCTIONS
def test_zero_at_orthonormal_rows(normal, function):
    rows = torch.linalg.qr(normal(7, 4))[0].mT
    least = 3 if function is double_soft_orthogonality else 0  # |W^T W - I|^2 of rank 4 in 7 dimensions
    assert function(rows).item() == pytest.approx(least, abs=1e-12)
    scaled = function(5 * rows).item()
    assert scaled == pytest.approx(0, abs=1e-12) if function is orthonormal else scaled > 1
    assert function(rows + 0.1 * normal(4, 7, seed=1)) > least + 1e-3


def test_soft_orthogonality_can_reach_zero_with_more_neurons_than_dimensions(normal):
    """With the larger Gram matrix its minimum would be N - d."""
    tall = torch.linalg.qr(normal(7, 4))[0]
    assert soft_orthogonality(tall).item() == pytest.approx(0, abs=1e-12)


def test_penalties_are_sums_not_means(normal):
    """Doubling the set, in dimensions of its own, doubles what is summed and leaves what is a maximum."""
    w = normal(4, 6)
    twice = torch.block_diag(w, w)
    for function in ORACLES:
        factor = 1 if function is mutual_coherence else 2
        assert function(twice).item() == pytest.approx(factor * function(w).item(), rel=1e-12)


def test_absolute_values_do_not_cancel():
    """Two neurons at 60 degrees and two at 120: a signed sum would be zero."""
    w = torch.tensor([[1, 0], [0.5, 0.75**0.5]], dtype=torch.float64)
    w = torch.block_diag(w, w * torch.tensor([[1.0], [-1.0]]))
    assert orthogonal(w).item() == pytest.approx(2.0)
    assert mutual_coherence(w).item() == pytest.approx(0.5)
    assert mutual_coherence(torch.tensor([[1.0, 0.0], [-0.9, 0.436]])).item() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
def test_srip_is_two_power_iterations(normal, shape):
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
def test_srip_gradient_and_leading_dimensions(normal, shape):
    start = normal(*shape[:-2], min(shape[-2:]), seed=1)
    w = normal(*shape)
    assert gradcheck(lambda w: srip(w, start), w.clone().requires_grad_())
    if len(shape) == 3:
        torch.testing.assert_close(srip(w, start), torch.stack([srip(w[0], start[0]), srip(w[1], start[1])]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_srip_at_its_optimum_is_zero_and_finite(dtype):
    w = torch.eye(4, 6, dtype=dtype).requires_grad_()
    value = srip(w, torch.ones(4))
    value.backward()
    assert value == 0
    assert w.grad.isfinite().all()


def test_srip_refuses_a_start_of_the_wrong_length():
    with pytest.raises(ValueError, match="4 entries, not 6"):
        srip(torch.ones(4, 6), torch.ones(6))


@FUNCTIONS
def test_wrong_neurons_are_refused(function):
    with pytest.raises(ValueError, match="N >= 2"):
        function(torch.ones(1, 3))
    with pytest.raises(TypeError, match="int64"):
        function(torch.ones(3, 3, dtype=torch.long))
