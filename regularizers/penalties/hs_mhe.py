from comhe.regularizers.registry import register_regularizer

from .energy_penalty import EnergyPenalty


@register_regularizer("hs-mhe")
class HalfSpaceMHE(EnergyPenalty):
    """Half-space MHE: hidden layers' neurons count with their negatives, so that lines, not directions, spread out.

    Source: Liu et al., *Learning towards Minimum Hyperspherical Energy*, NeurIPS 2018.
    """
