"""What every penalty that is a pure function of the neurons has to satisfy, against a slow formula in Python floats."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import gradcheck


def dot(p, q):
    return sum(a * b for a, b in zip(p, q, strict=True))


def unit(rows):
    return [[x / math.hypot(*row) for x in row] for row in rows]


def excess(rows):
    """<r_i, r_j> - (i == j) for all i, j, flat."""
    n = len(rows)
    return [dot(rows[i], rows[j]) - (i == j) for i in range(n) for j in range(n)]


def cosines_of_others(rows):
    """For each neuron its cosines with all others."""
    u = unit(rows)
    return [[dot(p, q) for j, q in enumerate(u) if j != i] for i, p in enumerate(u)]


@pytest.fixture
def formulas():
    """Pieces of slow formulas on rows of floats."""
    return SimpleNamespace(
        dot=dot,
        unit=unit,
        excess=excess,
        cosines_of_others=cosines_of_others,
        columns=lambda rows: [list(column) for column in zip(*rows, strict=True)],
        frobenius=lambda rows: sum(x * x for x in excess(rows)),
    )


@pytest.fixture
def check_function(normal):
    """``check(function, formula)``: values, gradients, sets, precision, and errors of a pure function."""

    def check(function, formula, rel=1e-12):
        for shape in [(2, 1), (2, 7), (4, 6), (5, 5), (6, 4), (9, 2)]:
            w = normal(*shape)
            assert function(w).item() == pytest.approx(formula(w.tolist()), rel=rel, abs=1e-12), shape
        for shape in [(2, 3, 4, 6), (2, 3, 6, 4)]:  # leading dimensions are independent
            w = normal(*shape)
            values = function(w)
            assert values.shape == shape[:2]
            for i, j in itertools.product(range(2), range(3)):
                assert values[i, j].item() == pytest.approx(formula(w[i, j].tolist()), rel=rel)
        for shape in [(3, 5), (5, 3), (2, 3, 4)]:
            assert gradcheck(function, normal(*shape).requires_grad_())
        w = normal(12, 20, dtype=torch.bfloat16)  # half precision is computed in float32
        assert function(w).dtype == torch.float32
        assert function(w).equal(function(w.float()))
        single = function(normal(12, 20, dtype=torch.float32)).double()
        torch.testing.assert_close(single, function(normal(12, 20)), rtol=1e-4, atol=0)
        with pytest.raises(ValueError, match="N >= 2"):
            function(torch.ones(1, 3))
        with pytest.raises(TypeError, match="int64"):
            function(torch.ones(3, 3, dtype=torch.long))

    return check


@pytest.fixture
def check_directions(normal):
    """``check(function)``: a function of directions alone, finite at defects, that pushes near duplicates apart."""

    def check(function):
        w = normal(4, 6)
        assert function(w * torch.arange(1, 5)[:, None]).item() == pytest.approx(function(w).item(), rel=1e-9)
        for dtype in (torch.float32, torch.float64):
            w = normal(6, 9, dtype=dtype)
            w[1], w[2], w[3] = w[0], -w[0], 0
            value = function(w.requires_grad_())
            (grad,) = torch.autograd.grad(value, w)
            assert value.isfinite()
            assert grad.isfinite().all()
        for gap in (1e-2, 1e-3, 1e-4):
            w = normal(2, 8)
            w[1] = w[0] + gap * normal(8, seed=1)
            w = w.float().requires_grad_()
            (grad,) = torch.autograd.grad(function(w), w)
            u, v = torch.nn.functional.normalize(w.detach().double(), dim=-1)
            assert (grad[1] - grad[0]).double() @ ((u - v) / (u - v).norm()) > 0  # descending moves the two apart

    return check
