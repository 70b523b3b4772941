"""The rivals that spread directions, and orthogonality of the convolution operator, against slow float64 loops."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from comhe.regularizers import create_regularizer, mhc, mhp
from comhe.regularizers.penalties import mgd, mhs, mma, ocnn, orthoreg, uniformity


def unit(rows):
    return [[x / math.hypot(*row) for x in row] for row in rows]


def dot(p, q):
    return sum(a * b for a, b in zip(p, q, strict=True))


def off_diagonal(rows):
    """cosines[i] = those with all others."""
    u = unit(rows)
    return [[dot(p, q) for j, q in enumerate(u) if j != i] for i, p in enumerate(u)]


def slow_uniformity(rows):
    pairs = [math.exp(-2 * math.dist(p, q) ** 2) for p, q in itertools.combinations(unit(rows), 2)]
    return math.log(sum(pairs) / len(pairs))


def slow_mgd(rows):
    u = unit(rows)
    kernel = [[math.exp(-(math.dist(p, q) ** 2)) + 1e-6 * (p is q) for q in u] for p in u]
    determinant = 1.0  # Gauss without pivots: the kernel is positive definite
    for k in range(len(kernel)):
        determinant *= kernel[k][k]
        for i in range(k + 1, len(kernel)):
            factor = kernel[i][k] / kernel[k][k]
            kernel[i] = [a - factor * b for a, b in zip(kernel[i], kernel[k], strict=True)]
    return -math.log(determinant)


ORACLES = {
    orthoreg: lambda rows: sum(math.log1p(math.exp(10 * (c - 1))) for row in off_diagonal(rows) for c in row),
    mma: lambda rows: -sum(min(math.acos(c) for c in row) for row in off_diagonal(rows)) / len(rows),
    mhs: lambda rows: -min(math.dist(p, q) ** 2 for p, q in itertools.combinations(unit(rows), 2)),
    mgd: slow_mgd,
    uniformity: slow_uniformity,
}
FUNCTIONS = pytest.mark.parametrize("function", ORACLES, ids=lambda function: function.__name__)
SHAPES = pytest.mark.parametrize("shape", [(2, 7), (4, 6), (6, 4)])


@FUNCTIONS
@SHAPES
def test_equals_the_formula(normal, function, shape):
    w = normal(*shape)
    expected = pytest.approx(ORACLES[function](w.tolist()), rel=1e-9)
    assert function(w).item() == expected
    assert function(w * torch.arange(1, shape[0] + 1)[:, None]).item() == expected  # directions alone
    batch = function(torch.stack([w.flip(0), w]))
    assert batch.shape == (2,)
    assert batch[1].item() == expected


@FUNCTIONS
@SHAPES
def test_gradient(normal, function, shape):
    assert gradcheck(function, normal(*shape).requires_grad_())


@FUNCTIONS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicates_antipodes_and_zeros_are_finite(normal, function, dtype):
    w = normal(6, 9, dtype=dtype)
    w[1], w[2], w[3] = w[0], -w[0], 0
    w.requires_grad_()
    value = function(w)
    (grad,) = torch.autograd.grad(value, w)
    assert value.isfinite()
    assert grad.isfinite().all()


@FUNCTIONS
@pytest.mark.parametrize("gap", [1e-2, 1e-3, 1e-4])
def test_near_duplicates_repel(normal, function, gap):
    w = normal(2, 8)
    w[1] = w[0] + gap * normal(8, seed=1)
    w = w.float().requires_grad_()
    (grad,) = torch.autograd.grad(function(w), w)
    u, v = torch.nn.functional.normalize(w.detach().double(), dim=-1)
    apart = (u - v) / (u - v).norm()
    assert (grad[1] - grad[0]).double() @ apart > 0  # descending moves the two apart


@pytest.mark.parametrize("shape", [(2, 7), (6, 4)])
def test_poles(normal, shape):
    w, pole = normal(*shape), normal(shape[1], seed=1)
    (v,) = unit([pole.tolist()])
    squared = [math.dist(v, u) ** 2 for u in unit(w.tolist())]
    polarization = sum(1 / x for x in squared) / len(squared)
    coverage = -math.log(sum(math.exp(-10 * x) for x in squared) / len(squared)) / 10
    assert mhp(w, pole).item() == pytest.approx(polarization, rel=1e-12)
    assert mhc(w, 3 * pole).item() == pytest.approx(coverage, rel=1e-6)
    for function in (mhp, mhc):
        assert gradcheck(function, (w.clone().requires_grad_(), pole.clone().requires_grad_()))
        both = function(torch.stack([w, w]), torch.stack([normal(shape[1], seed=2), pole]))
        assert both.shape == (2,)
        torch.testing.assert_close(both[1], function(w, pole))
        with pytest.raises(ValueError, match="pole must have"):
            function(w, pole[1:])


def test_coverage_is_exact_in_float64(normal):
    w, pole = normal(3, 4), normal(4, seed=1)
    squared = 2 - 2 * torch.cosine_similarity(w, pole[None])
    assert mhc(w, pole).item() == pytest.approx(-(-10 * squared).exp().mean().log().item() / 10, rel=1e-12)


def test_neuron_near_the_pole_still_flees(normal):
    w = normal(4, 8, dtype=torch.float32)
    pole = w[0] + 1e-4 * normal(8, seed=1, dtype=torch.float32)
    w.requires_grad_()
    (grad,) = torch.autograd.grad(mhp(w, pole), w)
    assert grad[0].abs().max() > 0


@pytest.mark.parametrize(("name", "sign"), [("mhp", -1), ("mhc", 1)])
def test_poles_seek_and_are_restored(name, sign):
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    regularizer = create_regularizer(name, model, output=None)
    values = torch.stack([regularizer() for _ in range(30)]).detach()
    assert sign * (values[-1] - values[0]) > 0
    assert all(pole.norm().item() == pytest.approx(1, rel=1e-5) for pole in regularizer.buffers())
    twin = create_regularizer(name, model, output=None, seed=3)
    twin.load_state_dict(regularizer.state_dict())
    assert twin().item() == regularizer().item()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 2, 3), (2, 3, 4)])
def test_ocnn_is_the_operator_on_a_line(normal, shape, stride):
    """Rows of the Toeplitz matrix: filter o at position t, against those of all filters at position 0."""
    kernel = normal(*shape)
    size = shape[2]
    total = 0.0
    for a, b in itertools.product(range(shape[0]), repeat=2):
        for shift in range(-(size - 1) // stride * stride - stride, size + stride):
            if shift % stride or abs(shift) >= size:
                continue
            overlap = sum(
                kernel[a, i, x].item() * kernel[b, i, x + shift].item()
                for i in range(shape[1])
                for x in range(size)
                if 0 <= x + shift < size
            )
            total += (overlap - (a == b and shift == 0)) ** 2
    assert ocnn(kernel, stride).item() == pytest.approx(math.sqrt(total), rel=1e-12)
    assert gradcheck(lambda kernel: ocnn(kernel, stride), kernel.requires_grad_())


def test_ocnn_of_one_by_one_kernels_is_the_gram_matrix(normal):
    kernel = normal(3, 5, 1, 1)
    flat = kernel.flatten(1)
    assert ocnn(kernel).item() == pytest.approx((flat @ flat.mT - torch.eye(3)).norm().item(), rel=1e-12)
