"""Energies of neurons under Gaussian projections drawn in the span of the neurons themselves."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .checks import as_sets, autocast_disabled
from .cosines import gram, inverse_norms, scale_pairs
from .energy import mean_energy, pair_sums
from .potential import Potential


def span_energies(
    neurons: Sequence[Tensor], draws: Tensor, potential: Potential, reduction: str = "mean"
) -> list[Tensor]:
    r"""Energies of each layer's neurons under Gaussian projections that are known by their action on the span.

    With an orthonormal basis Q [d, N] of the rows' span and :math:`W = R Q^\top`, a Gaussian P [k, d] acts on the
    neurons as :math:`W P^\top = R Z^\top` with :math:`Z = P Q` [k, N], Gaussian with independent entries itself. The
    lower triangular R is the Cholesky factor of the cosines; norms are dropped first, since energies ignore them. The
    gradient is that for fixed Z and Q: an ambient draw of P adds noise to it that is orthogonal to all neurons.

    Shape: layers ``neurons`` [..., N, d] of equal N <= d, ``draws`` Z [C, k, N] -> [..., C] for each layer, in float32
    or float64; differentiable once.
    """
    with_gradient = torch.is_grad_enabled() and any(w.requires_grad for w in neurons)
    sums = _SpanPairs.apply(draws, potential, with_gradient, *neurons)[0]
    energies = mean_energy(sums, draws.shape[-1], potential, reduction)
    shapes = [(*w.shape[:-2], len(draws)) for w in neurons]
    split = energies.split([math.prod(shape[:-1]) for shape in shapes])
    return [one.view(shape) for one, shape in zip(split, shapes, strict=True)]


class _SpanPairs(torch.autograd.Function):
    """Sums [sets of all layers, C] of the potential over pairs; the forward computes their gradients in W P^T too."""

    @staticmethod
    def forward(draws: Tensor, potential: Potential, with_gradient: bool, *neurons: Tensor) -> tuple[Any, ...]:
        cosines = torch.cat([gram(as_sets(w)) for w in neurons])
        inverse = inverse_norms(cosines.diagonal(dim1=-2, dim2=-1))[..., None]
        scale_pairs(cosines, inverse.squeeze(-1))
        # Dependent or zero rows have no Cholesky factor. This much more on the diagonal is the rounding of N-term sums;
        # it also is the distance that exact duplicates have.
        cosines.diagonal(dim1=-2, dim2=-1).add_(2 * torch.finfo(cosines.dtype).eps * draws.shape[-1])
        factor = torch.linalg.cholesky_ex(cosines).L
        coordinates = factor * (inverse > 0)  # a zero neuron stays zero
        # All C projections are one product, [sets, C k, N].
        projected = (draws.flatten(0, 1) @ coordinates.mT).unflatten(-2, draws.shape[:2]).mT
        sums, gradients = pair_sums(projected, potential, 0.0, with_gradient)
        return sums, gradients, factor, inverse

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        draws, _, with_gradient, *neurons = inputs
        if with_gradient:
            ctx.mark_non_differentiable(*output[1:])
            ctx.save_for_backward(draws, *output[1:], *neurons)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, *_) -> tuple[Tensor | None, ...]:
        draws, gradients, factor, inverse, *neurons = ctx.saved_tensors
        with autocast_disabled(draws):
            pushed = (grad[..., None, None] * gradients).mT.flatten(1, 2)  # [sets, C k, N]
            weights = pushed.mT @ draws.flatten(0, 1)
            # dW = dR Q^T / n and Q^T = R^-1 U: first the N x N solve, then the only product with W.
            weights = torch.linalg.solve_triangular(factor, weights, upper=False, left=False)
            weights = (inverse * weights * inverse.mT).split([len(as_sets(w)) for w in neurons])
            grads = [(weight @ as_sets(w)).view_as(w) for weight, w in zip(weights, neurons, strict=True)]
        return None, None, None, *grads
