"""Hyperspherical energy of a set of neurons, with an analytic gradient that needs no more memory than the neurons."""

from typing import Literal

import torch
from torch import Tensor

from comhe.autograd import Operation
from comhe.errors import UsageError, check_at_least, check_choice

from . import kernels
from .checks import PRECISIONS, Precision, as_sets, autocast_disabled, check_neurons, upcast
from .curvature import curvature
from .potential import Potential
from .sums import SIDE, Sums, block_size, joined, pair_sums
from .terms import Terms

THIRD = (
    "the hyperspherical energy has no third derivatives; it can be differentiated twice, and once where a projection "
    "steps along its gradient (adv-comhe), unless mode='alternating'"
)
KEEP = 1024  # the most neurons for which a matrix [N, N] is kept for the backward


def hyperspherical_energy(
    w: Tensor,
    s: float = 2,
    half_space: bool = False,
    *,
    geodesic: bool = False,
    reduction: Literal["mean", "sum"] = "mean",
    eps: float = 0.0,
    min_norm: float = 0.0,
    precision: Precision = "fp32",
) -> Tensor:
    r"""Hyperspherical energy of N neurons: how far from evenly their directions cover the sphere.

    .. math::
        E = \frac{1}{n(n-1)} \sum_{i \ne j} f(c_{ij}), \qquad
        c_{ij} = \frac{\langle w_i, w_j \rangle}{n_i n_j}, \quad
        n_i = \max(\sqrt{|w_i|^2 + \mathrm{eps}}, \mathrm{min\_norm})

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
        min_norm: the least length that a neuron counts with, as in :func:`torch.nn.functional.normalize`: then no
            neuron's gradient is larger than the sum of its pairs' slopes over ``min_norm``, and those of neurons of
            nearly no length vanish. The regularizers have 0.01, the root of the released ``eps``.
        precision: of products on a GPU, where ``"tf32"`` is up to three times faster and has cosines right to 1e-3.

    Shape: ``[..., N, d] -> [...]``, in float32 or float64, differentiable twice, also by :mod:`torch.func`. A zero
    neuron has no direction: it counts as orthogonal to all others and, with ``min_norm=0``, gets no gradient. So does
    a neuron whose squared norm is not a normal number, of a norm below 1e-19 or above 1e19 in float32 (1e-154, 1e154 in
    float64). NaN or infinity in any neuron makes the energy of its set NaN.

    The gradient of a pair at angle t is right to 1e-4, and for t > 0.15 to 1e-5, relative to its own size, as long as
    t > 1e-3 in float32 and t > 1e-9 in float64. Below, it falls to zero in proportion to t, since the energy goes on
    along its tangent there: a pair never pushes harder than :math:`s\,t^{-(s+1)}` at that angle, for s = 2 in float32
    2e9. Rows that are parallel up to the rounding of their numbers (4 eps in float32) do not push each other.

    Example:
        >>> hyperspherical_energy(torch.eye(2), s=2), hyperspherical_energy(torch.eye(2), s=2, half_space=True)
        (tensor(0.5000), tensor(0.4167))

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """
    check_choice("reduction", reduction, ("mean", "sum"))
    check_at_least("eps", eps, 0)
    check_at_least("min_norm", min_norm, 0)
    check_choice("precision", precision, PRECISIONS)
    potential = Potential(s, geodesic, half_space)
    return energies(w, Terms(potential, float(eps), float(min_norm), precision=precision), reduction)[0]


def energies(w: Tensor, terms: Terms, reduction: str) -> tuple[Tensor, bool]:
    """The energies of sets of neurons, and whether any two neurons of a set are known to be near each other."""
    check_neurons(w)
    with autocast_disabled(w):
        w = upcast(w)
        pair_sum = _PairSum if torch.compiler.is_compiling() else _TransformedPairSum
        sums, _, _, near = pair_sum.apply(w, terms, torch.is_grad_enabled() and w.requires_grad)
        if not kernels.usable(w, terms.potential):  # they do so themselves
            sums = sums + (w.detach() * 0).sum((-2, -1))  # NaN where a neuron is not finite
        return mean_energy(sums, w.shape[-2], terms.potential, reduction), near


def energy_gradient(w: Tensor, terms: Terms, reduction: str = "mean") -> Tensor:
    """The gradient of the energy in neurons w, ``[..., N, d]``; differentiable once more."""
    scale = 2 if reduction == "sum" else 1 / terms.potential.pairs(w.shape[-2])
    return _PairGradient.apply(w, terms) * scale


def mean_energy(sums: Tensor, neurons: int, potential: Potential, reduction: str) -> Tensor:
    """The energy, from sums of phi over the pairs i < j; in the half space the N antipodal pairs are added."""
    if potential.half_space:
        sums = sums + neurons * potential.antipodal
    return 2 * sums if reduction == "sum" else sums / potential.pairs(neurons)


class _PairSum(Operation):
    """Sum of phi(c_ij) over i < j.

    The energy depends on the neurons through A = W W^T alone. With F_ij = phi'(c_ij), zero on the diagonal,

        dE/dW = M W,   M_ij = F_ij / (n_i n_j),   M_ii = -sum_j F_ij c_ij / n_i^2,

    a weighted Gram product. The forward therefore computes the gradient as well, in the smaller of its two forms (M for
    N <= d, else M W), and the backward has at most one product left to do.
    """

    @staticmethod
    def forward(w: Tensor, terms: Terms, with_gradient: bool) -> tuple[Tensor, Tensor | None, bool, bool]:
        energy, gradient, is_product, near = neuron_sums(w, terms, with_gradient)
        return energy, gradient, is_product, near

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        w, ctx.terms, with_gradient = inputs
        _, gradient, ctx.is_product, _ = output
        if with_gradient:
            ctx.mark_non_differentiable(gradient)
            ctx.save_for_backward(w, gradient)
        else:
            ctx.save_for_backward(w)

    @staticmethod
    def backward(ctx, grad_energy: Tensor, *_) -> tuple[Tensor, None, None]:
        w, *kept = ctx.saved_tensors
        with autocast_disabled(w):
            if torch.is_grad_enabled() or not kept:  # a second derivative is wanted
                return grad_energy[..., None, None] * _PairGradient.apply(w, ctx.terms), None, None
            gradient = grad_energy[..., None, None] * kept[0]
            return gradient if ctx.is_product else gradient @ w, None, None


class _TransformedPairSum(_PairSum):
    """The same for forward-mode derivatives and the transforms of torch.func, which torch.compile cannot trace."""

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _PairSum.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def jvp(ctx, change: Tensor, *_) -> tuple[Tensor, None, None, None]:
        (w,) = ctx.saved_tensors
        return (_PairGradient.apply(w, ctx.terms) * change).sum((-2, -1)), None, None, None

    @staticmethod
    def vmap(info, in_dims, w: Tensor, terms: Terms, with_gradient: bool):
        found = _TransformedPairSum.apply(w.movedim(in_dims[0], 0), terms, with_gradient)
        return found, (0, 0 if with_gradient else None, None, None)


class _PairGradient(Operation):
    """The gradient of :class:`_PairSum`, [..., N, d]. Its derivative is a symmetric matrix."""

    @staticmethod
    def forward(w: Tensor, terms: Terms) -> Tensor:
        gradient = neuron_sums(w, terms, True).product(w)
        assert gradient is not None
        return gradient

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        w, ctx.terms = inputs
        ctx.save_for_backward(w)
        ctx.save_for_forward(w)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return _Curvature.apply(*ctx.saved_tensors, grad, ctx.terms), None

    @staticmethod
    def jvp(ctx, change: Tensor, *_) -> Tensor:
        return _Curvature.apply(*ctx.saved_tensors, change, ctx.terms)

    @staticmethod
    def vmap(info, in_dims, w: Tensor, terms: Terms):
        return _PairGradient.apply(w.movedim(in_dims[0], 0), terms), 0


class _Curvature(Operation):
    """The derivative of :class:`_PairGradient` along v, [..., N, d]. There are no third derivatives."""

    @staticmethod
    def forward(w: Tensor, v: Tensor, terms: Terms) -> Tensor:
        with autocast_disabled(w):
            return curvature(as_sets(w), as_sets(v), terms).view(w.shape)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None: ...

    @staticmethod
    def backward(ctx, grad: Tensor):
        raise UsageError(THIRD)

    @staticmethod
    def jvp(ctx, *_):
        raise UsageError(THIRD)

    @staticmethod
    def vmap(info, in_dims, w: Tensor, v: Tensor, terms: Terms):
        sets = [
            x.movedim(dim, 0) if dim is not None else x.expand(info.batch_size, *x.shape)
            for x, dim in zip((w, v), in_dims, strict=False)
        ]
        return _Curvature.apply(*sets, terms), 0


def neuron_sums(w: Tensor, terms: Terms, with_gradient: bool) -> Sums:
    """Pair sums of [..., N, d], and M or M W; records no graph."""
    batch, tall = as_sets(w), w.shape[-2] > min(w.shape[-1], KEEP)
    if kernels.usable(w, terms.potential):
        (energy,), (gradient,) = kernels.energy_sums([batch], terms, with_gradient=with_gradient)
        found = Sums(energy, gradient)
    else:
        size = max(1, block_size(w) // min(w.shape[-2], SIDE) ** 2) if tall else max(1, len(batch))
        found = joined([pair_sums(some, terms, with_gradient, tall) for some in batch.split(size)])
    shape, kept = w.shape[:-2], found.gradient
    kept = None if kept is None else kept.view(shape + kept.shape[1:])
    return Sums(found.energy.view(shape), kept, found.is_product, found.near)
