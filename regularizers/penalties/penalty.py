"""Regularizers that are one pure function of each layer's matrix."""

from __future__ import annotations

from torch import Tensor, nn

from comhe.regularizers.regularizer import Regularizer, Weight
from comhe.regularizers.selection import Layer


class PenaltyRegularizer(Regularizer):
    """The same penalty for every layer, the output layer included; subclasses define :meth:`function`.

    ``weight`` None means :attr:`default_weight`: the source's where one is known to us, else ours, as the class says.
    """

    default_weight = 1.0
    ordered = False  # functions of the Gram matrix

    def __init__(
        self, model: nn.Module, *, weight: Weight | None = None, output_weight: Weight | None = None, **options
    ) -> None:
        weight = self.default_weight if weight is None else weight
        super().__init__(model, weight=weight, output_weight=output_weight, **options)

    @staticmethod
    def function(w: Tensor) -> Tensor:
        """The penalty of neurons [..., N, d] -> [...]."""
        raise NotImplementedError("a PenaltyRegularizer defines function()")

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        return self.function(w)
