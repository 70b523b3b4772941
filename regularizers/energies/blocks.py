"""Sums and extremes over all pairs of rows, by blocks of X X^T: no N x N matrix is ever whole where N is large."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from comhe.autograd import Operation

from .checks import as_sets
from .transforms import is_transformed

BLOCK = 1 << 21  # products in memory at a time

Term = Callable[[Tensor], Tensor]  # an elementwise function


def pair_sum(x: Tensor, term: Term) -> Tensor:
    r"""Sum of a function of the products of the pairs of rows, :math:`\sum_{i < j} f(\langle x_i, x_j \rangle)`.

    If all products fit into one block, this is a plain composition. Otherwise the gradient is computed with the value,
    block by block, and no more than the rows' size is kept; a *second* derivative takes the whole matrix.

    Shape: ``x`` [..., N, d] in float32 or float64 -> [...].

    Example:
        >>> pair_sum(torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), torch.square)
        tensor(49.)
    """
    if _rows(x) >= x.shape[-2]:
        return _whole(x, term)
    return _PairSum.apply(x, term, torch.is_grad_enabled() and x.requires_grad)[0]


@torch.no_grad()
def nearest(x: Tensor, absolute: bool = False) -> Tensor:
    """For each row the number of the other row with the largest product with it, or the largest absolute one.

    Shape: ``x`` [..., N, d] -> integers [..., N].

    Example:
        >>> nearest(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
        tensor([2, 2, 1])
    """
    found = []
    for start, products in _blocks(as_sets(x), triangle=False):
        if absolute:
            products.abs_()
        products.diagonal(start, -2, -1).fill_(-torch.inf)
        found.append(products.argmax(-1))
    return torch.cat(found, -1).view(x.shape[:-1])


def products_with(x: Tensor, partner: Tensor) -> Tensor:
    """Products [..., N] of rows [..., N, d] with those whose numbers are ``partner`` [..., N]."""
    return (x * x.gather(-2, partner[..., None].expand_as(x))).sum(-1)


def upper_blocks(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Row after row of blocks of X X^T of [B, N, d], each with the number of its first row and of its first column.

    Above the block's diagonal are products of pairs i < j, and each pair occurs once. A block lasts until the next.
    """
    return _blocks(x, triangle=True)


def _blocks(x: Tensor, triangle: bool) -> Iterator[tuple[int, Tensor]]:
    sets, n, _ = x.shape
    rows = _rows(x)
    if rows >= n:
        yield 0, x @ x.mT
        return
    memory = x.new_empty(sets * rows * n)  # fresh memory for each block costs time and leaves holes
    for start in range(0, n, rows):
        some, others = x[:, start : start + rows], x[:, start if triangle else 0 :]
        shape = sets, some.shape[1], others.shape[1]
        yield start, torch.bmm(some, others.mT, out=memory[: math.prod(shape)].view(shape))


def _rows(x: Tensor) -> int:
    """Rows of a block; a GPU wants more to do at a time."""
    return max(1, (BLOCK if x.is_cpu else BLOCK << 4) * x.shape[-1] // max(1, x.numel()))


def _above(products: Tensor, term: Term) -> Tensor:
    return term(products).triu(1).sum((-2, -1))


def _whole(x: Tensor, term: Term) -> Tensor:
    return _above(x @ x.mT, term)


class _PairSum(Operation):
    @staticmethod
    def forward(x: Tensor, term: Term, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        sets = as_sets(x)
        total = x.new_zeros(len(sets))
        gradient = torch.zeros_like(sets) if with_gradient else None
        for start, products in upper_blocks(sets):
            if gradient is None:
                total += _above(products, term)
                continue
            slope, sums = _slope_and_sums(products, term)
            total += sums
            stop = start + products.shape[-2]
            gradient[:, start:stop].baddbmm_(slope, sets[:, start:])
            gradient[:, start:].baddbmm_(slope.mT, sets[:, start:stop])
        return total.view(x.shape[:-2]), None if gradient is None else gradient.view(x.shape)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, ctx.term, with_gradient = inputs
        ctx.save_for_forward(x)
        if with_gradient:
            ctx.mark_non_differentiable(output[1])
            ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx, grad: Tensor, _) -> tuple[Tensor, None, None]:
        x, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative may be wanted
            gradient = _PairGradient.apply(x, ctx.term, gradient)
        return grad[..., None, None] * gradient, None, None

    @staticmethod
    def jvp(ctx, change: Tensor, *_) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        gradient = _PairSum.apply(x, ctx.term, True)[1]
        return (_PairGradient.apply(x, ctx.term, gradient) * change).sum((-2, -1)), None

    @staticmethod
    def vmap(info, in_dims, x: Tensor, term: Term, with_gradient: bool):
        return _PairSum.apply(x.movedim(in_dims[0], 0), term, with_gradient), (0, 0 if with_gradient else None)


class _PairGradient(Operation):
    """The gradient of :class:`_PairSum`, which is known already; its derivative takes the whole matrix."""

    @staticmethod
    def forward(x: Tensor, term: Term, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, ctx.term, _ = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return _whole_change(x, grad, ctx.term), None, None

    @staticmethod
    def jvp(ctx, change: Tensor, *_) -> Tensor:
        (x,) = ctx.saved_tensors
        return _whole_change(x, change, ctx.term)

    @staticmethod
    def vmap(info, in_dims, x: Tensor, term: Term, gradient: Tensor):
        return _PairGradient.apply(x.movedim(in_dims[0], 0), term, gradient.movedim(in_dims[2], 0)), 0


def _whole_change(x: Tensor, change: Tensor, term: Term) -> Tensor:
    """The derivative of the gradient along ``change``: a symmetric matrix."""

    def total(x: Tensor) -> Tensor:
        return _whole(x, term).sum()

    return torch.func.jvp(torch.func.grad(total), (x,), (change,))[1]


def _slope_and_sums(products: Tensor, term: Term) -> tuple[Tensor, Tensor]:
    """The derivative of the sums in the products, and the sums."""

    def summed(products: Tensor) -> tuple[Tensor, Tensor]:
        sums = _above(products, term)
        return sums.sum(), sums

    if is_transformed(products):
        return torch.func.grad(summed, has_aux=True)(products)
    with torch.enable_grad():  # no closure keeps the block until it is collected
        leaf = products.detach().requires_grad_()
        total, sums = summed(leaf)
        (slope,) = torch.autograd.grad(total, leaf)
    return slope, sums.detach()
