"""Half-space minimum hyperspherical energy."""

from comhe.regularizers.registry import register_regularizer

from .energy_penalty import EnergyPenalty


@register_regularizer("hs-mhe")
class HalfSpaceMHE(EnergyPenalty):
    """The energy of the hidden layers' neurons and their negatives, so that lines rather than directions spread out.

    Example:
        >>> from comhe.regularizers import regularizer_options
        >>> regularizer_options("hs-mhe")["half_space"]
        True

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """
