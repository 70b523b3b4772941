"""Minimum hyperspherical energy (MHE)."""

from typing import Any

from comhe.regularizers.registry import register_regularizer

from .energy_penalty import EnergyPenalty


@register_regularizer("mhe")
class MHE(EnergyPenalty):
    r"""The energy of the neurons as they are, hidden layers in the full space.

    .. math:: \mathrm{weight} \sum_{l\ \mathrm{hidden}} E_s(W_l) + \mathrm{output\_weight}\, E_s(W_\mathrm{output})

    Example:
        >>> import torch
        >>> from comhe.regularizers import create_regularizer
        >>> create_regularizer("mhe", torch.nn.Linear(4, 3), weight=0.5)().requires_grad
        True

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """

    def __init__(self, *, half_space: bool = False, **options: Any) -> None:
        super().__init__(half_space=half_space, **options)
