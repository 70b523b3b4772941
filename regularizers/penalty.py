"""Regularizers that are one pure function of each layer's matrix."""

from __future__ import annotations

from torch import Tensor, nn

from .regularizer import Regularizer, Weight
from .selection import Layer


class PenaltyRegularizer(Regularizer):
    """The same penalty for every layer, the output layer included; subclasses define :meth:`function`."""

    def __init__(
        self, model: nn.Module, *, weight: Weight = 1.0, output_weight: Weight | None = None, **options
    ) -> None:
        super().__init__(model, weight=weight, output_weight=output_weight, **options)

    @staticmethod
    def function(w: Tensor) -> Tensor:
        """The penalty of neurons [..., N, d] -> [...]."""
        raise NotImplementedError("a PenaltyRegularizer defines function()")

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        return self.function(w)
