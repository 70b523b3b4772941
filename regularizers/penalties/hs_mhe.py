"""Half-space minimum hyperspherical energy."""

from comhe.regularizers.registry import register_regularizer

from .energy_penalty import EnergyPenalty


@register_regularizer("hs-mhe")
class HalfSpaceMHE(EnergyPenalty):
    """The energy of the hidden layers' neurons and their negatives, so that lines rather than directions spread out.

    Example:
        >>> import torch
        >>> from comhe.regularizers import create_regularizer
        >>> create_regularizer("hs-mhe", torch.nn.Linear(4, 3))
        hs-mhe(s=2, half_space=True, weight=1.0, output_weight=10.0, 0 hidden and 1 output layers)

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """
