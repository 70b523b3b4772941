from dataclasses import replace
from typing import Any

from torch import Tensor

from comhe.regularizers.energies.energy import energy_gradient
from comhe.regularizers.energies.terms import Terms
from comhe.regularizers.registry import register_regularizer

from .learned_projection import Compare, LearnedProjection


@register_regularizer("adv-comhe")
class AdversarialProjection(LearnedProjection):
    r"""CoMHE with adversarial projections: P looks for the space in which the neurons crowd most.

    .. math:: \min_W \max_P E_s(W P^\top)

    As in the released code P ascends the full-space energy while W descends the half-space one. Options: see
    :class:`LearnedProjection`.

    Source: Lin et al., *Regularizing Neural Networks via Minimizing Hyperspherical Energy*, CVPR 2020.
    """

    def __init__(self, *, steps: int = 10, **options: Any) -> None:
        super().__init__(steps=steps, **options)

    def push(self, v: Tensor, target: Compare | None, terms: Terms) -> Tensor:
        """Gradient of -E(V) in the full space."""
        full = replace(terms, potential=replace(terms.potential, half_space=False))
        return -energy_gradient(v, full, self.reduction)
