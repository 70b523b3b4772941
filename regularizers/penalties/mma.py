import torch
from torch import Tensor

from comhe.regularizers.energies.gram import pair_cosines
from comhe.regularizers.registry import register_regularizer

EDGE = 0.99999


@register_regularizer("mma", default_weight=0.07, ordered=False)
def mma(w: Tensor) -> Tensor:
    r"""Maximizing the minimal angle (MMA): minus the mean angle, in radians, of a neuron to the nearest other one.

    .. math:: -\frac{1}{N} \sum_i \min_{j \ne i} \arccos c_{ij}

    Cosines are clamped to 1 - 1e-5 as in the source, whose clamp stops the gradient of exactly the nearest pairs; here
    the function continues along its tangent.

    Example:
        >>> mma(torch.eye(2))
        tensor(-1.5708)

    Shape: ``[..., N, d] -> [...]``. Default weight: the source's for CIFAR.
    Source: Wang et al., *MMA Regularization: Decorrelating Weights of Neural Networks by Maximizing the Minimal
    Angles*, NeurIPS 2020.
    """
    nearest = pair_cosines(w, diagonal=-torch.inf).amax(-1)
    inside = nearest.clamp(-EDGE, EDGE)
    # Beyond the clamp arccos goes on along its tangent; within it the second term is zero.
    angle = inside.acos() - (nearest - inside) / (1 - inside**2).sqrt()
    return -angle.mean(-1)
