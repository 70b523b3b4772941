from torch import Tensor

from comhe.regularizers.energies.blocks import nearest, products_with
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.energies.cosines import directions
from comhe.regularizers.registry import register_regularizer

from .directional import Directional

EDGE = 0.99999


def mma(w: Tensor, *, min_norm: float = 0.0) -> Tensor:
    r"""Maximizing the minimal angle (MMA): minus the mean angle, in radians, of a neuron to the nearest other one.

    .. math:: -\frac{1}{N} \sum_i \min_{j \ne i} \arccos c_{ij}

    Cosines are clamped to 1 - 1e-5 as in the source, whose clamp stops the gradient of exactly the nearest pairs; here
    the function continues along its tangent, so that the gradient of a pair falls to zero linearly with its angle.

    Args:
        min_norm: the least length that a neuron counts with.

    Shape: ``[..., N, d] -> [...]``.

    Example:
        >>> import torch
        >>> mma(torch.eye(2))
        tensor(-1.5708)

    Source: Wang et al., *MMA Regularization: Decorrelating Weights of Neural Networks by Maximizing the Minimal
    Angles*, NeurIPS 2020.
    """
    check_neurons(w)
    u = directions(upcast(w), min_norm)
    c = products_with(u, nearest(u.detach()))
    inside = c.clamp(-EDGE, EDGE)
    # Beyond the clamp arccos goes on along its tangent; within it the second term is zero.
    angle = inside.acos() - (c - inside) / (1 - inside**2).sqrt()
    return -angle.mean(-1)


@register_regularizer("mma")
class MinimalAngle(Directional):
    """:func:`mma` of every layer.

    Default weight: the authors' for networks without skip connections; for those with them they take 0.03.
    """

    default_weight = 0.07
    formula = staticmethod(mma)
