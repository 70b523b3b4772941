"""CoMHE with random projections."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .cosines import inverse_norms
from .draws import DISTRIBUTIONS, Distribution, random_matrix
from .energy import exact, single
from .mhe import EnergyRegularizer
from .registry import register_regularizer
from .selection import Layer


@register_regularizer("rp-comhe")
class RandomProjection(EnergyRegularizer):
    r"""CoMHE with random projections: the energy of the neurons seen in random low-dimensional spaces.

    .. math:: E = \frac{1}{C} \sum_{c=1}^{C} E_s(W P_c^\top), \qquad P_c \in \mathbb{R}^{k \times d}

    with independent entries of variance 1, drawn anew every ``redraw`` steps. A layer with d <= k is not projected,
    nor is the output layer. A Gaussian projection to k dimensions keeps angles: with probability at least
    :math:`(1 - 2 e^{-k\epsilon^2/8})^2`,
    :math:`(\cos t - \epsilon)/(1 + \epsilon) < \cos t_P < (\cos t + \epsilon)/(1 - \epsilon)`.

    Args:
        dim: k, the dimension projected to.
        count: C, how many projections the energy is averaged over.
        redraw: steps between two draws.
        distribution: ``"gaussian"``, or ``"ternary"`` for sparse entries of -1, 0, 1 times the square root of 3.
        shared: layers of equal input width d use the same projections, as in the released code.
        across: ``"mean"`` over the C projections, or ``"max"`` for the worst of them.
        span: draw each P only within the span of the layer's neurons (for N < d). For Gaussian entries the projected
            neurons, so the energies, have exactly the same distribution, from N k numbers instead of d k; the gradient
            is its conditional mean: what an ordinary draw adds to it is noise orthogonal to all neurons of the layer.
            What is shared then are the numbers, by layers with equally many neurons. Excludes ``"ternary"``.

    Source: Lin et al., *Regularizing Neural Networks via Minimizing Hyperspherical Energy*, CVPR 2020.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dim: int = 40,
        count: int = 20,
        redraw: int = 1,
        distribution: Distribution = "gaussian",
        shared: bool = True,
        across: Literal["mean", "max"] = "mean",
        span: bool = False,
        **options,
    ) -> None:
        super().__init__(model, **options)
        if dim < 2:
            raise ValueError(f"dim must be at least 2: a projection to {dim} dimension(s) leaves no angles")
        if count < 1 or redraw < 1:
            raise ValueError(f"count and redraw must be at least 1, not {count} and {redraw}")
        if distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution must be one of {', '.join(DISTRIBUTIONS)}, not {distribution!r}")
        if across not in ("mean", "max"):
            raise ValueError(f"across must be 'mean' or 'max', not {across!r}")
        if span and distribution != "gaussian":
            raise ValueError(f"span=True is exact for 'gaussian' projections only, not for {distribution!r}")
        self.dim, self.count, self.redraw = dim, count, redraw
        self.distribution, self.across, self.span = distribution, across, span
        self.shared = shared
        self.ordered = not span
        self._drawn: tuple[tuple, dict] = ((), {})

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        n, d = w.shape[-2:]
        if d <= self.dim:
            return self.energy(w, self.half_space)
        w = single(w)
        if self.span and n < d:
            w, d = _InSpan.apply(w)[0], n
        projection = self.projections(layer, d, w.device).to(w.dtype)
        projected = projection.flatten(0, 1) @ w.mT  # all C at once, [..., C k, N], in no need of being copied
        energies = self.energy(projected.unflatten(-2, (self.count, self.dim)).mT, self.half_space)
        return energies.mean(-1) if self.across == "mean" else energies.amax(-1)

    def projections(self, layer: Layer, width: int, device: torch.device) -> Tensor:
        """The step's projections ``[count, dim, width]`` for a layer, a function of the seed and the draw's number."""
        draw = (self.seed, self.step // self.redraw)
        if self._drawn[0] != draw:
            self._drawn = (draw, {})
        key = width if self.shared else layer.name
        made = self._drawn[1]
        if key not in made or made[key].device != device:
            made[key] = random_matrix((self.count, self.dim, width), self.distribution, device, *draw, key)
        return made[key]

    def extra_repr(self) -> str:
        return f"dim={self.dim}, count={self.count}, redraw={self.redraw}, span={self.span}, {super().extra_repr()}"


class _InSpan(torch.autograd.Function):
    r"""Coordinates R [..., N, N] of the directions of W's rows in an orthonormal basis Q of their span, Q held fixed.

    With the Cholesky factor :math:`L L^\top = U U^\top` of the cosines, :math:`Q^\top = L^{-1} U` and
    :math:`R = U Q = L`. A Gaussian P acts on U as Z Q^T with Gaussian Z [k, N], since P Q is Gaussian with independent
    entries. The derivative of R = U Q with Q fixed is taken; scale of the rows is dropped first: energies ignore it.
    """

    @staticmethod
    def forward(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cosines = w @ w.mT
        inverse = inverse_norms(cosines.diagonal(dim1=-2, dim2=-1))[..., None]
        scale = inverse * inverse.mT
        cosines.mul_(scale).masked_fill_(scale == 0, 0)
        # Dependent or zero rows have no Cholesky factor. This much more on the diagonal is the rounding of N-term sums;
        # it also is the distance at which exact duplicates are seen.
        cosines.diagonal(dim1=-2, dim2=-1).add_(2 * torch.finfo(w.dtype).eps * w.shape[-2])
        factor = torch.linalg.cholesky_ex(cosines).L
        return factor * (inverse > 0), factor, inverse  # a zero neuron stays zero

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx, grad: Tensor, *_) -> Tensor:
        w, factor, inverse = ctx.saved_tensors
        with exact(w):
            # dW = inverse * grad Q^T = inverse * grad L^-1 U; first the N x N solve, then the only product with W.
            weights = torch.linalg.solve_triangular(factor, grad, upper=False, left=False)
            return (inverse * weights * inverse.mT) @ w
