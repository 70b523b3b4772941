"""Cosines between neurons, for the penalties that are written in them."""

import math

import torch
from torch import Tensor

from comhe.autograd import Operation

BLOCK = 128  # columns of a Gram matrix computed by one product


def cosines(w: Tensor, min_norm: float = 0.0) -> Tensor:
    """Cosines [..., N, N] between the rows of w [..., N, d]; 0 for a row that is zero. Differentiable twice.

    Rows shorter than ``min_norm`` have smaller cosines, with themselves too; see :func:`directions`.

    Example:
        >>> cosines(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
        tensor([[1.0000, 0.6000],
                [0.6000, 1.0000]])
    """
    return _Gram.apply(directions(w, min_norm))


def directions(w: Tensor, min_norm: float = 0.0) -> Tensor:
    r"""The rows of w [..., N, d] at length 1, whatever length they had; one too small for a direction becomes zero.

    .. math:: u_i = w_i / \max(|w_i|, \mathrm{min\_norm})

    So no derivative is larger than 1 / ``min_norm``. Rows that are long enough are the same for any ``min_norm``.
    """
    size = w.detach().abs().amax(-1, keepdim=True)
    if min_norm:
        size = size.clamp_min(min_norm / (2 * math.sqrt(w.shape[-1])))  # a row of length min_norm has a larger entry
    # Neither squares nor their derivatives overflow or underflow then.
    w = w / size.where(size > torch.finfo(w.dtype).tiny, torch.inf)
    squared = (w * w).sum(-1, keepdim=True)
    inverse = inverse_norms(squared)
    if min_norm:
        most = size / min_norm
        inverse = torch.where(squared.sqrt() * most > 1, inverse, most)
    return w * inverse


def gram(w: Tensor) -> Tensor:
    """W W^T [..., N, N] of w [..., N, d]; half of it is reflected where that is faster. No gradient."""
    n, d = w.shape[-2:]
    if not (w.is_cpu and n > BLOCK and d > 4 * BLOCK):
        return w @ w.mT
    g = w.new_empty(*w.shape[:-1], n)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        torch.matmul(w[..., start:, :], w[..., start:stop, :].mT, out=g[..., start:, start:stop])
        g[..., start:stop, stop:] = g[..., stop:, start:stop].mT
    return g


def scale_pairs(products: Tensor, factors: Tensor) -> Tensor:
    """Multiply a Gram matrix [..., N, N] in place by f_i f_j, which it returns; a factor of 0 turns infinities to 0."""
    both = factors[..., :, None] * factors[..., None, :]
    products.mul_(both).masked_fill_(both == 0, 0)
    return both


def inverse_norms(squared: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """1 / |w_i| from squared norms; 0 for a neuron too small to have a direction, or too large for a finite square.

    ``dtype`` is that of the neurons, if they were converted to a wider one since. NaN stays NaN, so that weights that
    are lost do not count as neurons without direction.
    """
    numbers = torch.finfo(dtype or squared.dtype)
    lost = squared <= numbers.tiny
    if dtype not in (None, squared.dtype):
        lost |= squared > numbers.max
    return squared.masked_fill(lost, 1).rsqrt().masked_fill(lost, 0)  # not rsqrt(0), whose derivative is no number


class _Gram(Operation):
    """W is read by two products and nothing else: one forward, one backward."""

    @staticmethod
    def forward(w: Tensor) -> Tensor:
        return gram(w)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return (grad + grad.mT) @ ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx, change: Tensor) -> Tensor:
        half = change @ ctx.saved_tensors[0].mT
        return half + half.mT

    @staticmethod
    def vmap(info, in_dims, w: Tensor) -> tuple[Tensor, int]:
        return _Gram.apply(w.movedim(in_dims[0], 0)), 0
