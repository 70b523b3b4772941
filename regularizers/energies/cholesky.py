"""Cholesky factors for penalties, by the library or, on a GPU, in a form that a CUDA graph can record."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .checks import as_sets
from .kernels import runs_on


def cholesky(a: Tensor) -> Tensor:
    """The lower triangular L with L L^T = A, for positive definite A [..., N, N]. It never waits for the device.

    Example:
        >>> cholesky(torch.tensor([[4.0, 2.0], [2.0, 2.0]])).round(decimals=4)
        tensor([[2., 0.],
                [1., 1.]])
    """
    if _by_library(a):
        return torch.linalg.cholesky_ex(a).L
    return _in_sets(_kernels().cholesky, a)


def solve_triangular(factor: Tensor, b: Tensor) -> Tensor:
    """The X with X L = B, for a lower triangular L [..., N, N] and B [..., M, N]. No gradient on a GPU.

    Example:
        >>> solve_triangular(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[4.0, 2.0]]))
        tensor([[1., 2.]])
    """
    if _by_library(factor):
        return torch.linalg.solve_triangular(factor, b, upper=False, left=False)
    return _in_sets(_kernels().solve, factor, b)


def log_determinant(a: Tensor) -> Tensor:
    """The logarithm of the determinant of positive definite A [..., N, N] -> [...]; NaN for other matrices.

    Differentiable, on a GPU once.

    Example:
        >>> log_determinant(2 * torch.eye(2)).exp().round()
        tensor(4.)
    """
    if not _by_library(a):
        return _LogDeterminant.apply(a)
    factor, info = torch.linalg.cholesky_ex(a)
    return _twice_the_logarithms(factor).where(info == 0, torch.nan)


class _LogDeterminant(torch.autograd.Function):
    r""":math:`d \log\det A = \mathrm{tr}(A^{-1} dA)`."""

    @staticmethod
    def forward(ctx, a: Tensor) -> Tensor:
        factor = cholesky(a)
        ctx.save_for_backward(factor)
        return _twice_the_logarithms(factor)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        (factor,) = ctx.saved_tensors
        one = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        inverse = solve_triangular(factor, one.expand_as(factor))
        return grad[..., None, None] * (inverse.mT @ inverse)


def _twice_the_logarithms(factor: Tensor) -> Tensor:
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _by_library(a: Tensor) -> bool:
    is_traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return is_traced or not runs_on(a.device)


def _kernels():
    from .kernels import cholesky  # imports triton

    return cholesky


def _in_sets(function: Callable[..., Tensor], *matrices: Tensor) -> Tensor:
    return function(*map(as_sets, matrices)).view(matrices[-1].shape)
