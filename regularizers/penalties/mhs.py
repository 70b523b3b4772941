from torch import Tensor

from comhe.regularizers.energies.blocks import nearest, products_with
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.energies.cosines import directions
from comhe.regularizers.registry import register_regularizer

from .directional import HalfSpaceDirectional


def mhs(w: Tensor, *, half_space: bool = False, min_norm: float = 0.0) -> Tensor:
    r"""Maximum hyperspherical separation (MHS): minus the smallest squared distance between two neurons' directions.

    .. math:: -\min_{i < j} (2 - 2 c_{ij}), \qquad \text{in the half space} \quad -\min_{i < j} (2 - 2 |c_{ij}|)

    Args:
        half_space: count every neuron's negative as well.
        min_norm: the least length that a neuron counts with.

    Shape: ``[..., N, d] -> [...]``.

    Example:
        >>> import torch
        >>> mhs(torch.eye(2))
        tensor(-2.)

    Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    check_neurons(w)
    u = directions(upcast(w), min_norm)
    c = products_with(u, nearest(u.detach(), absolute=half_space))
    return 2 * (c.abs() if half_space else c).amax(-1) - 2


@register_regularizer("mhs")
class Separation(HalfSpaceDirectional):
    """:func:`mhs` of every layer.

    Default weights: the authors' 1 for the output layer, and twice their 0.1 for hidden ones, since their code adds up
    the nearest pairs and finds each twice among the neurons and their negatives.
    """

    default_weight, default_output_weight = 0.2, 1.0
    formula = staticmethod(mhs)
