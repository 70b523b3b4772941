from typing import Any

from comhe.regularizers.registry import register_regularizer

from .energy_penalty import EnergyPenalty


@register_regularizer("mhe")
class MHE(EnergyPenalty):
    """Minimum hyperspherical energy (MHE): the energy of each layer's neurons as they are, in the full space.

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """

    def __init__(self, *, half_space: bool = False, **options: Any) -> None:
        super().__init__(half_space=half_space, **options)
