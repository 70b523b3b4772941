"""Spectral restricted isometry property (SRIP) regularization."""

from __future__ import annotations

import torch
from torch import Tensor

from comhe.regularizers.draws import random_matrix
from comhe.regularizers.energies.energy import check_neurons, single
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .penalty import PenaltyRegularizer


def srip(w: Tensor, start: Tensor) -> Tensor:
    r"""Squared spectral norm of the Gram matrix' deviation from the identity, by two power iterations.

    .. math:: \sigma_{\max}(G - I)^2 \approx |M v|^2, \qquad M = G - I,\ v = M v_0 / |M v_0|

    on the smaller Gram matrix, which is applied and never made.

    Shapes: ``w`` [..., N, d], ``start`` [..., min(N, d)] (any nonzero vector) -> [...]. Source: Bansal et al.,
    NeurIPS 2018.
    """
    check_neurons(w)
    w = single(w)
    if w.shape[-1] < w.shape[-2]:
        w = w.mT
    if start.shape[-1] != w.shape[-2]:
        raise ValueError(f"start must have min(N, d) = {w.shape[-2]} entries, not {start.shape[-1]}")
    v = _apply(w, start.to(w.dtype)[..., None])
    norm = torch.linalg.vector_norm(v, dim=-2, keepdim=True)
    v = v / norm.clamp_min(torch.finfo(w.dtype).tiny)  # M v_0 = 0 only at the optimum: the penalty is 0 then
    return _apply(w, v).square().sum((-2, -1))


def _apply(w: Tensor, v: Tensor) -> Tensor:
    """(W W^T - I) v."""
    return w @ (w.mT @ v) - v


@register_regularizer("srip")
class SpectralIsometry(PenaltyRegularizer):
    """:func:`srip` of every layer, from a new random vector in every step. Weight: where the authors' code starts."""

    default_weight = 1e-2
    ordered = True

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        shape = (*w.shape[:-2], min(w.shape[-2:]))
        start = self.random(
            (layer.name,), lambda: random_matrix(shape, "gaussian", w.device, self.seed, self.step, layer.name)
        )
        return srip(w, start)
