"""What all point networks share."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class PointModel(nn.Module):
    """A classifier of point clouds: ``logits = model(x)``, and in training a loss of its own, ``auxiliary_loss()``.

    x is [B, N, in_channels] with points as rows: three coordinates, then whatever else is known of a point (in_channels
    6: with normals). Logits are [B, num_classes].

    >>> loss = F.cross_entropy(model(x), y) + model.auxiliary_loss()
    """

    output_layer = "head.output"

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        if in_channels < 3:
            raise ValueError(f"in_channels must be at least 3, the coordinates, not {in_channels}")
        self.in_channels, self.num_classes = in_channels, num_classes

    def reset_parameters(self) -> None:
        """Xavier uniform weights and zero biases, as in the released TensorFlow code of all three papers."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm1d):
                module.reset_parameters()

    def auxiliary_loss(self) -> Tensor:
        """What the model adds to the loss of its last forward in training; zero for most models."""
        return next(self.parameters()).new_zeros(())

    def translate(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state dict of a public port by this zoo's names (see :func:`.ports.load_port`); any other as it is."""
        from .ports import LAYOUTS, convert  # which imports the networks that derive from this class

        return convert(state)[1] if any(mark in state for mark in LAYOUTS) else state

    def check(self, x: Tensor) -> Tensor:
        if x.dim() != 3 or x.shape[-1] != self.in_channels:
            hint = "; transpose it" if x.dim() == 3 and x.shape[1] == self.in_channels else ""
            raise ValueError(f"x must be [B, N, {self.in_channels}], points as rows, not {list(x.shape)}{hint}")
        return x

    def extra_repr(self) -> str:
        return f"in_channels={self.in_channels}, num_classes={self.num_classes}"
