"""Orthogonal regularization with absolute values."""

from __future__ import annotations

from torch import Tensor

from comhe.regularizers.energies.gram import excess
from comhe.regularizers.registry import register_regularizer

from .penalty import PenaltyRegularizer


def orthogonal(w: Tensor) -> Tensor:
    r"""Absolute deviation of the Gram matrix from the identity.

    .. math:: \sum_{ij} |G - I|_{ij}, \qquad G = W W^\top

    Shapes: ``[..., N, d] -> [...]``. Source: Brock et al., *Neural Photo Editing with Introspective Adversarial
    Networks*, ICLR 2017.
    """
    return excess(w).abs().sum((-2, -1))


@register_regularizer("orthogonal")
class Orthogonal(PenaltyRegularizer):
    """:func:`orthogonal` of every layer. Weight: ours."""

    default_weight = 1e-4
    function = staticmethod(orthogonal)
