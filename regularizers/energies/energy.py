"""Hyperspherical energy of a set of neurons, with an analytic gradient that needs no more memory than the neurons."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from comhe.errors import check_at_least, check_choice

from . import kernels
from .checks import PRECISIONS, Precision, as_sets, autocast_disabled, check_neurons, upcast
from .cosines import gram, inverse_norms, scale_pairs, weighted_gram
from .potential import Potential

KEEP = 1024  # the most neurons for which a matrix [N, N] is kept for the backward
BLOCK = 1 << 19  # cosines in memory at a time otherwise: few enough to stay in the cache
SIDE = 128  # the fewest neurons on a side of such a block, unless there are fewer


def hyperspherical_energy(
    w: Tensor,
    s: float = 2,
    half_space: bool = False,
    *,
    geodesic: bool = False,
    reduction: Literal["mean", "sum"] = "mean",
    eps: float = 0.0,
    precision: Precision = "fp32",
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
        w: neurons as rows, N >= 2. Half precision is computed in float32, autocast is off.
        s: power of the inverse distance, any number >= 0.
        half_space: count every neuron's negative as well, so that antiparallel neurons repel like parallel ones.
        geodesic: measure angles instead of chords.
        reduction: ``"mean"`` over the pairs (the released code) or ``"sum"`` over ordered pairs (the papers).
        eps: added to the squared norms; the released code has 1e-4, which shrinks the cosines of dying neurons.
        precision: of products on a GPU, where ``"tf32"`` is up to three times faster and has cosines right to 1e-3.

    Shape: ``[..., N, d] -> [...]``, in float32 or float64. A zero neuron has no direction: it counts as orthogonal to
    all others and gets no gradient. Duplicates have a large finite energy (see :class:`Potential`).

    Example:
        >>> hyperspherical_energy(torch.eye(2), s=2), hyperspherical_energy(torch.eye(2), s=2, half_space=True)
        (tensor(0.5000), tensor(0.4167))

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """
    check_neurons(w)
    check_choice("reduction", reduction, ("mean", "sum"))
    check_at_least("eps", eps, 0)
    check_choice("precision", precision, PRECISIONS)
    potential = Potential(s, geodesic, half_space)
    with autocast_disabled(w):
        w = upcast(w)
        total = _PairSum.apply(w, potential, float(eps), torch.is_grad_enabled() and w.requires_grad, precision)[0]
        if eps and half_space:  # shortened neurons are not quite opposite to their negatives
            squared = (w * w).sum(-1)
            squared = squared.where(squared < torch.inf, 0.0)  # no direction, like a zero neuron
            total = total + potential.point(-squared / (squared + eps)).sum(-1) - w.shape[-2] * potential.antipodal
        return mean_energy(total, w.shape[-2], potential, reduction)


def energy_gradient(
    w: Tensor, s: float = 2, *, geodesic: bool = False, reduction: str = "mean", eps: float = 0.0
) -> Tensor:
    """The gradient of the full-space :func:`hyperspherical_energy` in w, ``[..., N, d]``; differentiable once more."""
    potential = Potential(s, geodesic, False)
    if torch.is_grad_enabled() and w.requires_grad:
        slope = _weights(w, potential, eps) @ w
    else:
        gradient = _PairSum.apply(w, potential, eps, True, "fp32")[1]
        slope = gradient if _keeps_product(w, potential) else gradient @ w
    return slope * (2 if reduction == "sum" else 1 / potential.pairs(w.shape[-2]))


def mean_energy(sums: Tensor, neurons: int, potential: Potential, reduction: str) -> Tensor:
    """The energy, from sums of phi over the pairs i < j; in the half space the N antipodal pairs are added."""
    if potential.half_space:
        sums = sums + neurons * potential.antipodal
    return 2 * sums if reduction == "sum" else sums / potential.pairs(neurons)


def pair_sums(w: Tensor, potential: Potential, eps: float, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Sums of phi over the pairs i < j of neurons [..., N, d], and their gradients [..., N, d]; records no graph."""
    sums, gradient = _sums(w, potential, eps, with_gradient)
    return sums, gradient if gradient is None or _keeps_product(w, potential) else gradient @ w


class _PairSum(torch.autograd.Function):
    """Sum of phi(c_ij) over i < j.

    The energy depends on the neurons through A = W W^T alone. With F_ij = phi'(c_ij), zero on the diagonal,

        dE/dW = M W,   M_ij = F_ij / (n_i n_j),   M_ii = -sum_j F_ij c_ij / n_i^2,

    a weighted Gram product. The forward therefore computes the gradient as well, in the smaller of its two forms (M for
    N <= d, else M W), and the backward has at most one product left to do.
    """

    @staticmethod
    def forward(
        w: Tensor, potential: Potential, eps: float, with_gradient: bool, precision: Precision
    ) -> tuple[Tensor, Tensor | None]:
        return _sums(w, potential, eps, with_gradient, precision)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        w, ctx.potential, ctx.eps, with_gradient, _ = inputs
        if with_gradient:
            ctx.mark_non_differentiable(output[1])
            ctx.save_for_backward(w, output[1])

    @staticmethod
    def backward(ctx, grad_energy: Tensor, _) -> tuple[Tensor, None, None, None, None]:
        w, gradient = ctx.saved_tensors
        with autocast_disabled(w):
            again = torch.is_grad_enabled()  # a second derivative is wanted: M once more, this time on the tape
            if again:
                gradient = _weights(w, ctx.potential, ctx.eps)
            gradient = grad_energy[..., None, None] * gradient
            if again or not _keeps_product(w, ctx.potential):
                gradient = gradient @ w
        return gradient, None, None, None, None


def _sums(
    w: Tensor, potential: Potential, eps: float, with_gradient: bool, precision: Precision = "fp32"
) -> tuple[Tensor, Tensor | None]:
    """Pair sums of [..., N, d], and M or M W; see :class:`_PairSum`."""
    batch = as_sets(w)
    gradient: Tensor | None
    if kernels.usable(w, potential):
        options: dict[str, Any] = {"with_gradient": with_gradient, "precision": precision}
        (energy,), (gradient,) = kernels.energy_sums([batch], potential, eps, **options)
    elif _keeps_product(w, potential):
        size = max(1, _block(w) // min(w.shape[-2], SIDE) ** 2)
        results = [_tall(some, potential, eps, with_gradient) for some in batch.split(size)]
        energies, gradients = zip(*results, strict=True)
        energy, gradient = torch.cat(energies), torch.cat(gradients) if with_gradient else None
    else:
        energy, gradient = _wide(batch, potential, eps, with_gradient)
    shape = w.shape[:-2]
    return energy.view(shape), None if gradient is None else gradient.view(shape + gradient.shape[1:])


def _keeps_product(w: Tensor, potential: Potential) -> bool:
    """Whether the forward keeps M W rather than M."""
    return w.shape[-2] > min(w.shape[-1], KEEP) or kernels.usable(w, potential)


def _block(w: Tensor) -> int:
    return BLOCK if w.is_cpu else BLOCK << 6  # a GPU wants more to do at a time


def _weights(w: Tensor, potential: Potential, eps: float) -> Tensor:
    """The matrix M of the gradient, [..., N, N]; differentiable."""
    products = w @ w.mT
    inverse = inverse_norms(products.diagonal(dim1=-2, dim2=-1) + eps)
    c = products * inverse[..., :, None] * inverse[..., None, :]
    off_diagonal = 1 - torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)
    return weighted_gram(potential.slope(c * off_diagonal), c, inverse)


def _wide(w: Tensor, potential: Potential, eps: float, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Pair sums [B] of [B, N, d] and M, for few neurons, N <= d: all but one product happens on [N, N]."""
    c = gram(w)
    diagonal = c.diagonal(dim1=-2, dim2=-1)
    inverse = inverse_norms(diagonal + eps)
    diagonal.zero_()
    scale = scale_pairs(c, inverse)
    total, slope, factor = potential.sum_and_slope(c, with_gradient=with_gradient)
    energy = _unordered(total, c.shape[-1], potential)
    if slope is None:
        return energy, None
    radial = c.mul_(slope).sum(-1).mul_(inverse).mul_(inverse)
    slope.mul_(scale).diagonal(dim1=-2, dim2=-1).copy_(radial.neg_())
    bound = torch.finfo(w.dtype).max / 4  # duplicates with norms near the smallest number: no infinities to cancel
    return energy, slope.mul_(factor).clamp_(-bound, bound)


def _tall(w: Tensor, potential: Potential, eps: float, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Pair sums [B] of [B, N, d] and M W, for N > d or large N: norms and the sums over rows are computed on [N, d].

    Cosines are computed in square blocks on and above the diagonal, in the same memory: fresh memory costs more.
    """
    batch, n, _ = w.shape
    side = math.ceil(n / max(1, math.ceil(n * math.sqrt(batch / _block(w)))))
    inverse = inverse_norms((w * w).sum(-1) + eps)[..., None, :]
    # Neurons are columns here, in whichever order memory has them.
    units = [block * scale for block, scale in zip(w.mT.split(side, -1), inverse.split(side, -1), strict=True)]
    pushes = [torch.zeros_like(block) for block in units] if with_gradient else []
    energy, factor = w.new_zeros(batch), 1.0
    memory = w.new_empty(2, batch * side * side)
    for i, a in enumerate(units):
        for j, b in enumerate(units[i:], start=i):
            shape = batch, a.shape[-1], b.shape[-1]
            c, spare = memory[:, : math.prod(shape)].view(2, *shape)
            torch.bmm(a.mT, b, out=c)
            if i == j:
                c.diagonal(dim1=-2, dim2=-1).zero_()
            total, slope, factor = potential.sum_and_slope(c, spare, with_gradient)
            energy += total if i != j else _unordered(total, c.shape[-1], potential)
            if slope is not None:
                if i == j:
                    slope.diagonal(dim1=-2, dim2=-1).zero_()
                else:
                    pushes[j].baddbmm_(a, slope)
                pushes[i].baddbmm_(b, slope.mT)
    if not with_gradient:
        return energy, None
    # What pushes along a neuron does not turn it.
    for push, u in zip(pushes, units, strict=True):
        push.addcmul_(u, (push * u).sum(-2, keepdim=True), value=-1)
    return energy, torch.cat(pushes, -1).mul_(inverse * factor).mT


def _unordered(total: Tensor, n: int, potential: Potential) -> Tensor:
    """Sums over i < j, in place, from those over all entries of a matrix with phi(0) on its diagonal."""
    return total.sub_(n * potential.orthogonal).mul_(0.5)
