"""What all point networks share."""

import torch
from torch import Tensor, nn

from comhe.errors import UsageError
from comhe.zoo.adapters.points import adapt_points, options_of


class PointModel(nn.Module):
    """A classifier of point clouds: ``logits = model(x)``, and in training an additional loss, ``auxiliary_loss()``.

    Shape: x [B, N, in_channels], points as rows: three coordinates, then other features of the point, such as normals
        -> [B, num_classes]
    """

    output_layer = "head.output"

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        if in_channels < 3:
            raise UsageError(f"in_channels must be at least 3, the coordinates, not {in_channels}")
        self.in_channels, self.num_classes = in_channels, num_classes

    def reset_parameters(self) -> None:
        """Draw Xavier uniform weights and set biases to zero, as the released TensorFlow code of the papers does."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm1d):
                module.reset_parameters()

    def auxiliary_loss(self) -> Tensor:
        """Return what the model adds to the loss of its last forward pass in training; zero for most models."""
        return next(self.parameters()).new_zeros(())

    adapt, options_of = staticmethod(adapt_points), staticmethod(options_of)

    def check_input(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            hint = "torch.from_numpy(x).float() makes one of an array"
            raise UsageError(f"x must be a tensor, not {type(x).__name__}; {hint}")
        if x.dim() != 3 or x.shape[-1] != self.in_channels:
            hint = "; transpose it" if x.dim() == 3 and x.shape[1] == self.in_channels else ""
            raise UsageError(f"x must be [B, N, {self.in_channels}], points as rows, not {list(x.shape)}{hint}")
        if not x.is_floating_point():
            raise UsageError(f"x must be floating-point numbers, not {x.dtype}")
        if x.dtype == torch.float64 and next(self.parameters(), x).dtype == torch.float32:
            raise UsageError(
                "x has numbers of type torch.float64, the model has torch.float32; convert x with x.float()"
            )
        return x

    def extra_repr(self) -> str:
        return f"in_channels={self.in_channels}, num_classes={self.num_classes}"


def auxiliary_loss(model: nn.Module) -> Tensor | float:
    """Return ``model.auxiliary_loss()``, or 0.0 for a module that has no such method."""
    return model.auxiliary_loss() if hasattr(model, "auxiliary_loss") else 0.0  # type: ignore[operator]
