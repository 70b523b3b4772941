import torch
from torch import Tensor

from comhe.regularizers.draws import Draws
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .pole import PolePenalty, squared_distances

FLOOR = 0.01  # squared distance, an angle of 0.1


def mhp(w: Tensor, pole: Tensor, *, half_space: bool = False, min_norm: float = 0.0) -> Tensor:
    r"""Hyperspherical polarization (MHP): mean inverse squared distance of the neurons' directions from a pole.

    .. math:: \frac{1}{N} \sum_i \frac{1}{2 - 2 \langle v, u_i \rangle}

    The pole seeks where it is least, the emptiest region, and the neurons *maximize* that least value. So this is what
    a regularizer subtracts. For squared distances x < 0.01, where a pole has yet to leave a neuron, 1 / x goes on along
    its tangent: no neuron has a gradient of more than 2000 / N per length, and one at the pole has none.

    Args:
        half_space: the mean over the neurons and their negatives. With N < d a pole can be orthogonal to all neurons,
            its least value 1/2, whatever they do.
        min_norm: the least length that a neuron counts with.

    Shape: ``w`` [..., N, d], ``pole`` v [..., d], any length but zero -> [...].

    Example:
        >>> mhp(torch.eye(3)[:2], pole=torch.eye(3)[2])
        tensor(0.5000)

    Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    squared = squared_distances(w, pole, half_space, min_norm)
    tangent = (2 - squared / FLOOR) / FLOOR
    return torch.where(squared > FLOOR, squared.clamp_min(FLOOR).reciprocal(), tangent).mean(-1)


@register_regularizer("mhp")
class Polarization(PolePenalty):
    r""":math:`\min_W \max_v` of minus :func:`mhp`. Default weights: the authors' code."""

    default_weight, default_output_weight = 1.0, 10.0
    formula = staticmethod(mhp)

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        return -super().value(w, layer, state, draws)

    @staticmethod
    def pull(squared: Tensor) -> Tensor:
        return squared.clamp_min(FLOOR).square().reciprocal() / squared.shape[-1]
