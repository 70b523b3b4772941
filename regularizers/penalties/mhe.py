"""Minimum hyperspherical energy (MHE)."""

from typing import Any

from comhe.regularizers.registry import register_regularizer

from .energy_penalty import EnergyPenalty


@register_regularizer("mhe")
class MHE(EnergyPenalty):
    """The energy :math:`E_s(W_l)` of each layer's neurons as they are, hidden layers in the full space.

    Example:
        >>> from comhe.regularizers import regularizer_options
        >>> regularizer_options("mhe")["half_space"]
        False

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """

    def __init__(self, *, half_space: bool = False, **options: Any) -> None:
        super().__init__(half_space=half_space, **options)
