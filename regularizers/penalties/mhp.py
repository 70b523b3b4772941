import torch
from torch import Tensor

from comhe.regularizers.registry import register_regularizer

from .pole import PolePenalty, squared_distances


def mhp(w: Tensor, pole: Tensor) -> Tensor:
    r"""Maximum hyperspherical polarization (MHP): mean inverse squared distance of the neurons' directions from a pole.

    .. math:: \frac{1}{N} \sum_i \frac{1}{2 - 2 \langle v, u_i \rangle}

    Shape: ``w`` [..., N, d], ``pole`` v [..., d], any length but zero -> [...].

    Example:
        >>> mhp(torch.eye(3)[:2], pole=torch.eye(3)[2])
        tensor(0.5000)

    Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    squared = squared_distances(w, pole)
    floor = _floor(squared)
    # Below the floor 1 / x goes on along its tangent, so that a neuron at the pole is still pushed away.
    tangent = (2 - squared / floor) / floor
    return torch.where(squared > floor, squared.clamp_min(floor).reciprocal(), tangent).mean(-1)


@register_regularizer("mhp")
class Polarization(PolePenalty):
    """:func:`mhp` of every layer; the pole seeks the emptiest region, as the neurons flee it. Weight: ours."""

    penalty = staticmethod(mhp)

    @staticmethod
    def pull(squared: Tensor) -> Tensor:
        return -squared.clamp_min(_floor(squared)).square().reciprocal() / squared.shape[-1]


def _floor(squared: Tensor) -> float:
    return 8 * torch.finfo(squared.dtype).eps
