"""What the penalties share that are functions of the neurons' directions."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from comhe.errors import check_at_least
from comhe.regularizers.draws import Draws
from comhe.regularizers.selection import Layer

from .penalty import MIN_NORM, Penalty


class Directional(Penalty):
    """A penalty that does not change with the neurons' lengths, unless they are short.

    Args:
        min_norm: a neuron shorter than this counts with this length, longer ones as they would with 0. It also bounds
            what a step does to a set with neurons of nearly no length; see :mod:`comhe.regularizers.bound`.
    """

    ordered = False
    formula: Callable[..., Tensor]  # (neurons [..., N, d], *, min_norm) -> [...]

    def __init__(self, *, min_norm: float = MIN_NORM) -> None:
        check_at_least("min_norm", min_norm, 0)
        self.min_norm = min_norm

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        return self.formula(w, min_norm=self.min_norm)


class HalfSpaceDirectional(Directional):
    """Such a penalty that may count every neuron's negative as well.

    Args:
        half_space: whether the *hidden* layers count every neuron's negative, as in the authors' code. The output layer
            never does.
        options: see :class:`Directional`.
    """

    formula: Callable[..., Tensor]  # (neurons [..., N, d], *, half_space, min_norm) -> [...]

    def __init__(self, *, half_space: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.half_space = half_space

    def in_half_space(self, layer: Layer) -> bool:
        """Whether the layer counts the negatives."""
        return self.half_space and layer.role == "hidden"

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        return self.formula(w, half_space=self.in_half_space(layer), min_norm=self.min_norm)

    def extra_repr(self) -> str:
        return f"half_space={self.half_space}"
