"""Hyperspherical energy of a set of neurons, with an analytic gradient that needs no more memory than the neurons."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from .potential import Potential

TILE = 1024  # neurons on a side of the largest block of cosines that is ever in memory
CHUNK = 1 << 20  # cosines handled at a time when many small matrices come together: they stay in the cache


def hyperspherical_energy(
    w: Tensor,
    s: float = 2,
    half_space: bool = False,
    *,
    geodesic: bool = False,
    reduction: Literal["mean", "sum"] = "mean",
    eps: float = 0.0,
) -> Tensor:
    r"""Hyperspherical energy of N neurons: how far from evenly their directions cover the sphere.

    .. math::
        E = \frac{1}{n(n-1)} \sum_{i \ne j} f(c_{ij}), \qquad
        c_{ij} = \frac{\langle w_i, w_j \rangle}{n_i n_j}, \quad n_i = \sqrt{|w_i|^2 + \mathrm{eps}}

    over the n = N neurons, or in the half space over the n = 2N neurons and their negatives (antipodal pairs
    included). Euclidean :math:`f(c) = (2 - 2c)^{-s/2}`, for s = 0 :math:`-\log(2 - 2c)` as in the released code (the
    *squared* distance: twice the paper's :math:`\log 1/z`); geodesic :math:`f(c) = a^{-s}` or :math:`-\log a` with
    :math:`a = \arccos(c)/\pi + 10^{-4}`.

    Args:
        w: neurons as rows, ``[..., N, d]`` with N >= 2. Half precision is computed in float32, autocast is off.
        s: power of the inverse distance, any number >= 0.
        half_space: count every neuron's negative as well, so that antiparallel neurons repel like parallel ones.
        geodesic: measure angles instead of chords.
        reduction: ``"mean"`` over the pairs (the released code) or ``"sum"`` over ordered pairs (the papers).
        eps: added to the squared norms; the released code has 1e-4, which shrinks the cosines of dying neurons.

    Returns:
        Energies ``[...]``, in float32 or float64. A zero neuron has no direction: it counts as orthogonal to all
        others and gets no gradient. Duplicates have a large finite energy (see :class:`Potential`).

    Raises:
        TypeError: ``w`` is not a floating-point tensor.
        ValueError: fewer than two neurons, no second dimension, or an option out of range.

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """
    check_neurons(w)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', not {reduction!r}")
    if not eps >= 0:
        raise ValueError(f"eps must be >= 0, not {eps!r}")
    potential = _potential(s, geodesic, half_space)
    with torch.autocast(w.device.type, enabled=False):
        w = single(w)
        total = _PairSum.apply(w, potential, float(eps), torch.is_grad_enabled() and w.requires_grad)[0]
        if half_space:
            total = total + _antipodes(w, potential, eps)
        return 2 * total if reduction == "sum" else total / potential.pairs(w.shape[-2])


_potential = lru_cache(Potential)  # keeps the constants that a potential computes once


def check_neurons(w: Tensor) -> None:
    """Raise the error that says what is wrong unless ``w`` is a floating-point ``[..., N >= 2, d]``."""
    if not (isinstance(w, Tensor) and w.is_floating_point()):
        kind = w.dtype if isinstance(w, Tensor) else type(w).__name__
        raise TypeError(f"neurons must be a floating-point tensor [..., N, d], not {kind}")
    if w.dim() < 2 or w.shape[-2] < 2 or w.shape[-1] < 1:
        raise ValueError(f"neurons must be [..., N >= 2, d >= 1], one neuron a row, not {list(w.shape)}")


def single(w: Tensor) -> Tensor:
    """``w`` in the precision that penalties are computed in: float32, or float64 where it is float64 already."""
    return w if w.dtype == torch.float64 else w.float()


def _inverse_norms(squared: Tensor, eps: float) -> Tensor:
    """1 / n from squared norms; 0 for a neuron too small to have a direction (or too large: its square is infinite)."""
    squared = squared + eps if eps else squared
    tiny = torch.finfo(squared.dtype).tiny
    return torch.where(squared > tiny, squared.clamp_min(tiny).rsqrt(), 0.0)


def _antipodes(w: Tensor, potential: Potential, eps: float) -> Tensor | float:
    """Energy of the N pairs of a neuron and its own negative: f(-1) each, a constant, unless eps shortens neurons."""
    if eps == 0:
        return w.shape[-2] * potential.antipodal
    squared = (w * w).sum(-1)
    return potential.point(-squared / (squared + eps)).sum(-1)


class _PairSum(torch.autograd.Function):
    """Sum of phi(c_ij) over i < j.

    The energy depends on the neurons through A = W W^T alone. With F_ij = phi'(c_ij), zero on the diagonal,

        dE/dW = M W,   M_ij = F_ij / (n_i n_j),   M_ii = -sum_j F_ij c_ij / n_i^2,

    a weighted Gram product. The forward therefore makes the gradient as well, in the smaller of its two forms (M when
    N <= d, M W otherwise), and the backward has at most one product left to do.
    """

    @staticmethod
    def forward(w: Tensor, potential: Potential, eps: float, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        batch = w.flatten(0, -3) if w.dim() > 2 else w[None]
        n = batch.shape[-2]
        if n > TILE:
            parts = [_tiled(matrix, potential, eps, with_gradient) for matrix in batch]
            energies, gradients = zip(*parts, strict=True)
            energy, gradient = torch.stack(energies), torch.stack(gradients) if with_gradient else None
        else:
            size = max(1, CHUNK // (n * n))
            if len(batch) <= size:
                energy, gradient = _dense(batch, potential, eps, with_gradient)
            else:
                parts = [_dense(chunk, potential, eps, with_gradient) for chunk in batch.split(size)]
                energies, gradients = zip(*parts, strict=True)
                energy, gradient = torch.cat(energies), torch.cat(gradients) if with_gradient else None
        shape = w.shape[:-2]
        return energy.view(shape), gradient.view(shape + gradient.shape[1:]) if with_gradient else None

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        w, ctx.potential, ctx.eps, with_gradient = inputs
        if with_gradient:
            ctx.mark_non_differentiable(output[1])
            ctx.save_for_backward(w, output[1])

    @staticmethod
    def backward(ctx, grad_energy: Tensor, _) -> tuple[Tensor, None, None, None]:
        w, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: make M once more, this time on the tape
            gradient = _weights(w, ctx.potential, ctx.eps)[1] @ w
        elif not _keeps_product(w):
            gradient = gradient @ w
        return grad_energy[..., None, None] * gradient, None, None, None


def _keeps_product(w: Tensor) -> bool:
    """Whether the forward keeps M W rather than M."""
    return w.shape[-2] > min(w.shape[-1], TILE)


def _weights(w: Tensor, potential: Potential, eps: float) -> tuple[Tensor, Tensor]:
    """Cosines c and the matrix M of the gradient, both [..., N, N]; differentiable."""
    gram = w @ w.mT
    inverse = _inverse_norms(gram.diagonal(dim1=-2, dim2=-1), eps)
    scale = inverse[..., :, None] * inverse[..., None, :]
    c = gram * scale
    off_diagonal = 1 - torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)
    slope = potential.slope(c * off_diagonal) * off_diagonal
    return c, slope * scale - torch.diag_embed((slope * c).sum(-1) * inverse * inverse)


def _dense(w: Tensor, potential: Potential, eps: float, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Pair sum [B] of [B, N, d] and its gradient (M W or M), with all cosines in memory at once."""
    c = w @ w.mT
    diagonal = c.diagonal(dim1=-2, dim2=-1)
    inverse = _inverse_norms(diagonal, eps)
    scale = inverse[..., :, None] * inverse[..., None, :]
    diagonal.zero_()
    c.mul_(scale)
    value, slope = potential.value_and_slope(c) if with_gradient else (potential.value(c), None)
    # The diagonal's cosines are zero; what phi(0) adds there is taken off again.
    energy = value.sum((-2, -1)).sub_(w.shape[-2] * potential.orthogonal).mul_(0.5)
    if not with_gradient:
        return energy, None
    radial = c.mul_(slope).sum(-1).mul_(inverse).mul_(inverse)
    slope.mul_(scale).diagonal(dim1=-2, dim2=-1).copy_(radial.neg_())
    return energy, slope @ w if _keeps_product(w) else slope


def _tiled(w: Tensor, potential: Potential, eps: float, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Pair sum of one [N, d] and its gradient M W, by tiles of the upper triangle: TILE^2 cosines at once."""
    inverse = _inverse_norms((w * w).sum(-1), eps)
    blocks = list(zip(w.split(TILE), inverse.split(TILE), strict=True))
    energy = w.new_zeros(())
    gradient, radial = torch.zeros_like(w), torch.zeros_like(inverse)
    gradients, radials = gradient.split(TILE), radial.split(TILE)
    for i, (wi, ri) in enumerate(blocks):
        for j, (wj, rj) in enumerate(blocks[i:], start=i):
            scale = ri[:, None] * rj
            c = (wi @ wj.mT).mul_(scale)
            if i == j:
                c.fill_diagonal_(0)
            value, slope = potential.value_and_slope(c) if with_gradient else (potential.value(c), None)
            total = value.sum()
            energy += (total - len(ri) * potential.orthogonal) / 2 if i == j else total
            if not with_gradient:
                continue
            if i == j:
                slope.fill_diagonal_(0)
            c.mul_(slope)
            slope.mul_(scale)
            gradients[i].addmm_(slope, wj)
            radials[i].add_(c.sum(1))
            if i != j:  # the mirrored tile
                gradients[j].addmm_(slope.mT, wi)
                radials[j].add_(c.sum(0))
    if not with_gradient:
        return energy, None
    return energy, gradient.sub_(w * (radial * inverse * inverse)[:, None])
