"""Energies of neurons under Gaussian projections drawn in the span of the neurons themselves."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from comhe.autograd import Operation

from . import kernels
from .checks import as_sets, autocast_disabled
from .cholesky import cholesky, solve_triangular
from .cosines import gram, scale_pairs
from .energy import mean_energy, neuron_sums
from .near import near_pairs
from .sums import can_branch
from .terms import Terms, projection_error
from .transforms import last_derivative

INSTEAD = "take rp-comhe with span=False for second derivatives"
LONG = 16.0  # in units of min_norm, the most that a neuron's length counts with: no projection makes it a short one


def span_energies(neurons: Sequence[Tensor], draws: Tensor, terms: Terms, reduction: str = "mean") -> Tensor:
    r"""Energies of each layer's neurons under Gaussian projections that are known by their action on the span.

    With an orthonormal basis Q [d, N] of the rows' span and :math:`W = R Q^\top`, a Gaussian P [k, d] acts on the
    neurons as :math:`W P^\top = R Z^\top` with :math:`Z = P Q` [k, N], Gaussian with independent entries itself. The
    lower triangular R is the Cholesky factor of the cosines; of the norms nothing is kept but which are short, since
    energies ignore them otherwise. The gradient is that for fixed Z and Q: an ambient draw of P adds noise to it that
    is orthogonal to all neurons.

    A layer with rows that are nearly parallel is computed in float64, and on a GPU everything is that is N x N. R
    exists in spite of parallel rows because the cosines' diagonal is raised by their rounding; rows as near each other
    as this makes them count as parallel: at angles below 1.2e-7 times the root of N, or 5e-7 in float32 if that is more
    (4e-6 on a GPU).

    Shape: layers ``neurons`` [..., N, d] of equal N <= d, ``draws`` Z [C, k, N] -> [sets of all layers, C], in float32
    or float64; differentiable once.
    """
    return mean_energy(span_sums(neurons, draws, terms), draws.shape[-1], terms.potential, reduction)


def span_sums(neurons: Sequence[Tensor], draws: Tensor, terms: Terms) -> Tensor:
    """The sums over pairs that :func:`span_energies` is the mean of, for layers of different N as well.

    One with fewer neurons than ``draws`` has columns takes the first. What is N x N has zeros added for it.
    """
    with_gradient = torch.is_grad_enabled() and any(w.requires_grad for w in neurons)
    return _SpanPairs.apply(draws, terms, with_gradient, *neurons)[0]


class _SpanPairs(Operation):
    """Sums [sets of all layers, C] of the potential over pairs; the forward computes their gradients in W P^T too."""

    @staticmethod
    def forward(draws: Tensor, terms: Terms, with_gradient: bool, *neurons: Tensor) -> tuple[Any, ...]:
        found = _projected(draws, terms, with_gradient, neurons) if can_branch(draws) else None
        if found is None:
            exact = replace(terms, rows=terms.dtype(draws))
            wide = draws.double() if can_branch(draws) else draws
            found = _projected(wide, exact, with_gradient, [w.double() for w in neurons])
        assert found is not None
        return found[0].to(draws.dtype), *found[1:]

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        draws, ctx.terms, with_gradient, *neurons = inputs
        ctx.save_for_forward(draws, *neurons)
        ctx.mark_non_differentiable(*(x for x in output[1:] if x is not None))
        if with_gradient:
            ctx.save_for_backward(draws, *output[1:], *neurons)

    @staticmethod
    def backward(ctx, grad: Tensor, *_) -> tuple[Tensor | None, ...]:
        draws, gradients, factor, inverse, lengths, *neurons = ctx.saved_tensors
        dtype = factor.dtype
        with torch.no_grad(), autocast_disabled(draws):
            pushed = (grad[..., None, None] * gradients).mT.flatten(1, 2)  # [sets, C k, N]
            weights = (pushed.mT @ draws.to(pushed.dtype).flatten(0, 1)).to(dtype)
            # dW = dR Q^T l / n and Q^T = R^-1 U: first the N x N solve, then the only product with W.
            weights = solve_triangular(factor, weights)
            weights = (lengths * weights * inverse.mT).split([len(as_sets(w)) for w in neurons])
            grads = []
            for weight, w in zip(weights, neurons, strict=True):
                n = w.shape[-2]
                grads.append((weight[:, :n, :n] @ as_sets(w).to(dtype)).to(w.dtype).view_as(w))
        if torch.is_grad_enabled():
            grads = [last_derivative(one, grad, *neurons, instead=INSTEAD) for one in grads]
        return None, None, None, *grads

    @staticmethod
    def jvp(ctx, _draws, _terms, _with_gradient, *changes: Tensor | None) -> tuple[Tensor | None, ...]:
        draws, *neurons = ctx.saved_tensors
        _, gradients, factor, inverse, lengths = _SpanPairs.apply(draws, ctx.terms, True, *neurons)
        with torch.no_grad(), autocast_disabled(draws):
            # What the backward does, in the other direction: dR = dW Q l, and Q = W^T R^-T / n.
            pairs = [
                as_sets(torch.zeros_like(w) if change is None else change).to(factor) @ as_sets(w).to(factor).mT
                for w, change in zip(neurons, changes, strict=True)
            ]
            turned = lengths * torch.cat([_padded(x, *factor.shape[1:]) for x in pairs]) * inverse.mT
            turned = torch.linalg.solve_triangular(factor.mT, turned, upper=True, left=False).to(gradients.dtype)
            moved = (draws.to(turned.dtype).flatten(0, 1) @ turned.mT).unflatten(-2, draws.shape[:2]).mT
            change = (gradients * moved).sum((-2, -1)).to(draws.dtype)
        return last_derivative(change, *neurons, instead=INSTEAD), None, None, None, None

    @staticmethod
    def vmap(info, in_dims, draws: Tensor, terms: Terms, with_gradient: bool, *neurons: Tensor):
        """A batch of a layer's neurons is more sets of them."""
        size = info.batch_size
        moved = [
            w.expand(size, *w.shape) if dim is None else w.movedim(dim, 0)
            for w, dim in zip(neurons, in_dims[3:], strict=True)
        ]
        counts = [len(as_sets(w)) for w in moved]
        found = _SpanPairs.apply(draws, terms, with_gradient, *moved)
        outs = [x if x is None else torch.cat([y.unflatten(0, (size, -1)) for y in x.split(counts)], 1) for x in found]
        return tuple(outs), tuple(None if x is None else 0 for x in outs)


def _projected(
    draws: Tensor, terms: Terms, with_gradient: bool, neurons: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor] | None:
    """Pair sums, their gradients in W P^T, R, 1 / n and l / n with the lengths l in units of min_norm.

    None if two rows are so near that float64 is needed.
    """
    count, k, n = draws.shape
    cosines = torch.cat([_padded(gram(as_sets(w)), n, n) for w in neurons])
    inverse = replace(terms, min_norm=0.0).lengths(cosines.diagonal(dim1=-2, dim2=-1)).inverse[..., None]
    scale_pairs(cosines, inverse.squeeze(-1))
    diagonal = cosines.diagonal(dim1=-2, dim2=-1)
    if cosines.dtype != torch.float64:
        ones = diagonal.clone()
        diagonal.zero_()
        if near_pairs(cosines, terms.potential) is not None:
            return None
        diagonal.copy_(ones)
    # Dependent or zero rows have no Cholesky factor. This much more on the diagonal is the rounding of N-term sums; it
    # also is half the squared distance that exact duplicates have.
    jitter = 2 * torch.finfo(cosines.dtype).eps * n
    diagonal.add_(jitter)
    factor = cholesky(cosines)
    lengths = inverse
    if terms.min_norm:
        lengths = torch.where(inverse > 0, inverse * LONG, torch.inf).clamp_max(1 / terms.min_norm)
        terms = replace(terms, min_norm=math.sqrt(k))
    coordinates = factor * torch.where(inverse > 0, lengths / inverse, 0.0)  # a zero neuron stays zero
    # All C projections are one product, [sets, C k, N].
    projected = (draws.flatten(0, 1) @ coordinates.to(draws.dtype).mT).unflatten(-2, (count, k)).mT
    terms = replace(
        terms, parallel=max(32 * jitter if cosines.dtype == torch.float64 else 0.0, projection_error(draws))
    )
    sums, gradients = _pair_sums(neurons, projected, terms, with_gradient)
    return sums, gradients, factor, inverse, lengths


def _pair_sums(
    neurons: Sequence[Tensor], projected: Tensor, terms: Terms, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Sums [sets, C] of the neurons' own pairs and their gradient [sets, C, N, k], zero where zeros were added."""
    n, k = projected.shape[-2:]
    if all(w.shape[-2] == n for w in neurons):
        found = neuron_sums(projected, terms, with_gradient)
        return found.energy, found.product(projected)
    parts = projected.split([len(as_sets(w)) for w in neurons])
    gradients: list[Any]
    parts = [part[..., : w.shape[-2], :] for part, w in zip(parts, neurons, strict=True)]
    if all(kernels.usable(part, terms.potential) for part in parts):
        sums, gradients = kernels.energy_sums([as_sets(part) for part in parts], terms, with_gradient=with_gradient)
    else:
        each = [neuron_sums(part, terms, with_gradient) for part in parts]
        sums, gradients = [one.energy for one in each], [one.product(x) for one, x in zip(each, parts, strict=True)]
    together = torch.cat([x.view(part.shape[:2]) for x, part in zip(sums, parts, strict=True)])
    if not with_gradient:
        return together, None
    return together, torch.cat([_padded(x.view(part.shape), n, k) for x, part in zip(gradients, parts, strict=True)])


def _padded(x: Tensor, rows: int, columns: int) -> Tensor:
    """Matrices with zeros added to their ends."""
    down, right = rows - x.shape[-2], columns - x.shape[-1]
    return nn.functional.pad(x, (0, right, 0, down)) if down or right else x
