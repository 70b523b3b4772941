from collections.abc import Sequence

import torch
from torch import Tensor

from comhe.errors import UsageError
from comhe.regularizers.draws import Draws
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .penalty import Penalty


def srip(w: Tensor, start: Tensor) -> Tensor:
    r"""Spectral restricted isometry property (SRIP): squared spectral norm of G - I, by two power iterations.

    .. math:: \sigma_{\max}(G - I)^2 \approx |M v|^2, \qquad M = G - I,\ v = M v_0 / |M v_0|

    on the smaller Gram matrix, which is applied and never formed.

    Shape: ``w`` [..., N, d], ``start`` :math:`v_0` [..., min(N, d)], any nonzero vector -> [...].

    Example:
        >>> srip(2 * torch.eye(2, 3), start=torch.ones(2))
        tensor(9.0000)

    Source: Bansal et al., *Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?*, NeurIPS 2018.
    """
    check_neurons(w)
    w = upcast(w)
    if w.shape[-1] < w.shape[-2]:
        w = w.mT
    if start.shape[-1] != w.shape[-2]:
        raise UsageError(f"start must have min(N, d) = {w.shape[-2]} entries, not {start.shape[-1]}")
    v = _apply(w, start.to(w.dtype)[..., None])
    norm = torch.linalg.vector_norm(v, dim=-2, keepdim=True)
    v = v / norm.clamp_min(torch.finfo(w.dtype).tiny)  # M v_0 = 0 only at the optimum: the penalty is 0 then
    return _apply(w, v).square().sum((-2, -1))


def _apply(w: Tensor, v: Tensor) -> Tensor:
    """(W W^T - I) v."""
    return w @ (w.mT @ v) - v


@register_regularizer("srip")
class SpectralIsometry(Penalty):
    """:func:`srip` of every layer, from a new random vector in every step.

    The vector is Gaussian: a direction like any other. That of the authors' code has positive entries only. Default
    weight: where that code starts; it lowers it in steps and ends at zero, as a schedule can do here.
    """

    default_weight = 1e-2

    def draw(self, layers: Sequence[Layer], draws: Draws) -> None:
        for layer in layers:
            draws.normal(layer.name, (*layer.shape[:-2], min(layer.shape[-2:])))

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        return srip(w, draws[layer.name].to(w.device))
