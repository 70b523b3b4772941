"""The Gram matrices that penalties of pairs are written in."""

import torch
from torch import Tensor

from .checks import check_neurons, upcast
from .cosines import cosines
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
    inverse = terms.lengths(products.diagonal(dim1=-2, dim2=-1), branching=False).inverse
    both = inverse[..., :, None] * inverse[..., None, :]
    c = (products * both).masked_fill(both == 0, 0)
    return c.diagonal_scatter(torch.ones_like(c[..., 0]), dim1=-2, dim2=-1)
