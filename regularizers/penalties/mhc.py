import math

from torch import Tensor

from comhe.regularizers.registry import register_regularizer

from .pole import PolePenalty, squared_distances

SHARPNESS = 10.0  # g of the soft minimum


def mhc(w: Tensor, pole: Tensor) -> Tensor:
    r"""Maximum hyperspherical coverage (MHC): soft minimum of the directions' squared distances from a pole.

    .. math:: -\frac{1}{g} \log \frac{1}{N} \sum_i e^{-g (2 - 2 \langle v, u_i \rangle)}, \qquad g = 10

    Shape: ``w`` [..., N, d], ``pole`` v [..., d], any length but zero -> [...].

    Example:
        >>> import torch
        >>> mhc(torch.eye(3)[:2], pole=torch.eye(3)[2])
        tensor(2.)

    Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    squared = squared_distances(w, pole)
    return -((-SHARPNESS * squared).logsumexp(-1) - math.log(squared.shape[-1])) / SHARPNESS


@register_regularizer("mhc")
class Coverage(PolePenalty):
    r"""The largest hole between the neurons: :math:`\max_v` :func:`mhc`, which the neurons lessen. Weight: ours."""

    ascends = True
    penalty = staticmethod(mhc)

    @staticmethod
    def pull(squared: Tensor) -> Tensor:
        return (-SHARPNESS * squared).softmax(-1)
