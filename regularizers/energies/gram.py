"""The Gram matrices that penalties of pairs are written in."""

import torch
from torch import Tensor

from .checks import check_neurons, upcast
from .cosines import cosines, scale_pairs, weighted_gram
from .terms import Terms


def excess(w: Tensor) -> Tensor:
    """W W^T - I of neurons [..., N, d] in float32 or float64, or W^T W - I if d < N: the smaller one can vanish."""
    check_neurons(w)
    w = upcast(w)
    if w.shape[-1] < w.shape[-2]:
        w = w.mT
    return w @ w.mT - torch.eye(w.shape[-2], dtype=w.dtype, device=w.device)


def pair_cosines(w: Tensor, diagonal: float | None = None, min_norm: float = 0.0) -> Tensor:
    """Cosines [..., N, N] of neurons [..., N, d], in float32 or float64, with ``diagonal`` on the diagonal.

    Neurons shorter than ``min_norm`` have smaller cosines; see :func:`.cosines.directions`.
    """
    check_neurons(w)
    c = cosines(upcast(w), min_norm)
    if diagonal is None:
        return c
    return c.masked_fill(torch.eye(c.shape[-1], dtype=torch.bool, device=c.device), diagonal)


def normalized(products: Tensor, terms: Terms) -> Tensor:
    """Cosines from a Gram matrix W W^T [..., N, N], with the lengths of ``terms``; differentiable twice.

    The diagonal is 1, for zero and short neurons too.
    """
    return _Normalized.apply(products, terms)


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(products: Tensor, terms: Terms) -> Tensor:
        c = products.clone()
        scale_pairs(c, terms.lengths(products.diagonal(dim1=-2, dim2=-1), branching=False).inverse)
        c.diagonal(dim1=-2, dim2=-1).fill_(1)
        return c

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        products, ctx.terms = inputs
        ctx.save_for_backward(products, output)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        products, c = ctx.saved_tensors
        lengths = ctx.terms.lengths(products.diagonal(dim1=-2, dim2=-1), branching=False)
        return weighted_gram(grad + grad.mT, c, lengths.inverse, lengths.radial) / 2, None
