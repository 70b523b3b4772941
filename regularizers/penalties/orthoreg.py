from torch import Tensor
from torch.nn.functional import softplus

from comhe.regularizers.energies.blocks import pair_sum
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.energies.cosines import directions
from comhe.regularizers.registry import register_regularizer

from .directional import Directional


def orthoreg(w: Tensor, *, min_norm: float = 0.0) -> Tensor:
    r"""Local orthogonality (OrthoReg): a penalty on positive correlations only: neurons that point apart add little.

    .. math:: \sum_{i \ne j} \log(1 + e^{\lambda (c_{ij} - 1)}), \qquad \lambda = 10

    Args:
        min_norm: the least length that a neuron counts with.

    Shape: ``[..., N, d] -> [...]``.

    Example:
        >>> import torch
        >>> orthoreg(torch.eye(2)) < orthoreg(torch.ones(2, 2))
        tensor(True)

    Source: Rodriguez et al., *Regularizing CNNs with Locally Constrained Decorrelations*, ICLR 2017.
    """
    check_neurons(w)
    return 2 * pair_sum(directions(upcast(w), min_norm), lambda c: softplus(10 * (c - 1)))


@register_regularizer("orthoreg")
class LocalOrthogonality(Directional):
    """:func:`orthoreg` of every layer. Default weight: the authors' code."""

    default_weight = 1e-3
    formula = staticmethod(orthoreg)
