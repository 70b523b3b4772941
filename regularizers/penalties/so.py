"""Soft orthogonality (SO)."""

from torch import Tensor

from comhe.regularizers.energies.gram import excess
from comhe.regularizers.registry import register_regularizer

from .penalty import Penalty


def so(w: Tensor) -> Tensor:
    r"""Squared deviation of the smaller Gram matrix from the identity.

    .. math:: \|G - I\|_F^2, \qquad G = W W^\top \ (N \le d) \ \text{or} \ W^\top W

    Shape: ``[..., N, d] -> [...]``.

    Example:
        >>> import torch
        >>> so(torch.eye(2, 3))
        tensor(0.)

    Source: Bansal et al., *Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?*, NeurIPS 2018.
    """
    return excess(w, smaller=True).square().sum((-2, -1))


@register_regularizer("so")
class SoftOrthogonality(Penalty):
    """:func:`so` of every layer.

    Weight: where the authors' code starts; it lowers it as training goes on.
    """

    default_weight = 1e-2
    ordered = False
    function = staticmethod(so)
