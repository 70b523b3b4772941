"""Sums and extremes over pairs: the same by blocks of any size as from the whole matrix, with its derivatives."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacrev, jvp, vmap
from torch.nn.functional import softplus

from comhe.regularizers.energies import blocks
from comhe.regularizers.energies.blocks import nearest, pair_sum, products_with, upper_blocks

SHAPES = [(9, 4), (9, 1), (2, 3), (3, 7, 2), (2, 2, 5, 3)]


@pytest.fixture(params=[1, 3, 20, 1000])
def _small(request, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", request.param)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("shape", SHAPES)
def test_pair_sum(normal, shape):
    x = normal(*shape).requires_grad_()
    i, j = torch.triu_indices(shape[-2], shape[-2], offset=1)
    expected = softplus((x @ x.mT)[..., i, j]).sum(-1)
    value = pair_sum(x, softplus)
    torch.testing.assert_close(value, expected)
    weights = normal(*shape[:-2], seed=1)
    found, wanted = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (value, expected))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(pair_sum(x.detach(), softplus), expected.detach())


@pytest.mark.usefixtures("_small")
def test_pair_sum_is_differentiable_twice(normal):
    x = normal(5, 3).requires_grad_()
    assert gradcheck(lambda x: pair_sum(x, softplus), x)
    assert gradgradcheck(lambda x: pair_sum(x, softplus), x)


@pytest.mark.usefixtures("_small")
def test_pair_sum_under_transforms(normal):
    x = normal(2, 5, 3)

    def function(x):
        return pair_sum(x, softplus)

    i, j = torch.triu_indices(5, 5, offset=1)
    leaf = x.clone().requires_grad_()
    expected = softplus((leaf @ leaf.mT)[..., i, j]).sum(-1)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(vmap(function)(x), expected.detach())
    torch.testing.assert_close(vmap(grad(function), in_dims=1, out_dims=1)(x.movedim(0, 1)), gradient.movedim(0, 1))
    torch.testing.assert_close(jacrev(function)(x[0]), gradient[0])
    torch.testing.assert_close(jvp(function, (x,), (x + 1,))[1], (gradient * (x + 1)).sum((-2, -1)))
    second = torch.autograd.functional.hessian(function, x[0])
    torch.testing.assert_close(hessian(function)(x[0]), second)
    torch.testing.assert_close(vmap(hessian(function))(x)[0], second)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("absolute", [False, True])
def test_nearest(normal, shape, absolute):
    x = normal(*shape)
    products = x @ x.mT if not absolute else (x @ x.mT).abs()
    products.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    best = nearest(x, absolute)
    assert best.equal(products.argmax(-1))
    largest = products_with(x, best)
    torch.testing.assert_close(largest if not absolute else largest.abs(), products.amax(-1))


@pytest.mark.usefixtures("_small")
def test_upper_blocks_hold_each_pair_once(normal):
    x = normal(2, 7, 3)
    seen = torch.zeros(2, 7, 7, dtype=x.dtype)
    for start, products in upper_blocks(x):
        rows, columns = products.shape[-2:]
        seen[:, start : start + rows, start : start + columns] += products.triu(1)
    torch.testing.assert_close(seen, (x @ x.mT).triu(1))
