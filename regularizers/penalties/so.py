"""Soft orthogonality (SO)."""

from __future__ import annotations

from torch import Tensor

from comhe.regularizers.energies.gram import excess
from comhe.regularizers.registry import register_regularizer

from .penalty import PenaltyRegularizer


def soft_orthogonality(w: Tensor) -> Tensor:
    r"""Squared deviation of the smaller Gram matrix from the identity.

    .. math:: \|G - I\|_F^2, \qquad G = W W^\top \ (N \le d) \ \text{or} \ W^\top W

    Shapes: ``[..., N, d] -> [...]``. Source: Bansal et al., *Can We Gain More from Orthogonality Regularizations in
    Training Deep CNNs?*, NeurIPS 2018.
    """
    return excess(w, smaller=True).square().sum((-2, -1))


@register_regularizer("so")
class SoftOrthogonality(PenaltyRegularizer):
    """:func:`soft_orthogonality` of every layer.

    Weight: where the authors' code starts; it lowers it as training goes on.
    """

    default_weight = 1e-2
    function = staticmethod(soft_orthogonality)
