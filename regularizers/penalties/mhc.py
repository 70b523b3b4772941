import math

from torch import Tensor

from comhe.regularizers.registry import register_regularizer

from .pole import PolePenalty, squared_distances

SHARPNESS = 10.0  # g of the soft minimum


def mhc(w: Tensor, pole: Tensor, *, half_space: bool = False, min_norm: float = 0.0) -> Tensor:
    r"""Hyperspherical covering (MHC): soft minimum of the directions' squared distances from a pole.

    .. math:: -\frac{1}{g} \log \frac{1}{N} \sum_i e^{-g (2 - 2 \langle v, u_i \rangle)}, \qquad g = 10

    The pole seeks where it is largest, the middle of the largest hole, and the neurons lessen it.

    Args:
        half_space: the distances of the neurons and their negatives. With N < d a pole can be orthogonal to all
            neurons, its largest value 2, whatever they do.
        min_norm: the least length that a neuron counts with.

    Shape: ``w`` [..., N, d], ``pole`` v [..., d], any length but zero -> [...].

    Example:
        >>> import torch
        >>> mhc(torch.eye(3)[:2], pole=torch.eye(3)[2])
        tensor(2.)

    Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    squared = squared_distances(w, pole, half_space, min_norm)
    return -((-SHARPNESS * squared).logsumexp(-1) - math.log(squared.shape[-1])) / SHARPNESS


@register_regularizer("mhc")
class Coverage(PolePenalty):
    r""":math:`\min_W \max_v` of :func:`mhc`. Default weights: the authors' code."""

    default_weight, default_output_weight = 0.01, 0.1
    formula = staticmethod(mhc)

    @staticmethod
    def pull(squared: Tensor) -> Tensor:
        return (-SHARPNESS * squared).softmax(-1)
