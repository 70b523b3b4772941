"""torchvision's residual networks for ImageNet, with torchvision's weights on request.

>>> create_model("resnet18", weights="IMAGENET1K_V1")
>>> create_model("resnet50", weights="IMAGENET1K_V2", num_classes=100, swap_head=True)

``weights`` is a name of torchvision's. Weights for another number of classes are an error unless ``swap_head`` says
that the last layer is to keep its fresh initialisation.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from ..registry import register_model
from ..weights import load_weights


@register_model
def resnet18(
    num_classes: int = 1000,
    in_channels: int = 3,
    weights: str | None = None,
    swap_head: bool = False,
    zero_init_residual: bool = False,
) -> nn.Module:
    """Eight basic blocks, 11.7M parameters."""
    return _resnet("resnet18", "basic", [2, 2, 2, 2], num_classes, in_channels, weights, swap_head, zero_init_residual)


@register_model
def resnet34(
    num_classes: int = 1000,
    in_channels: int = 3,
    weights: str | None = None,
    swap_head: bool = False,
    zero_init_residual: bool = False,
) -> nn.Module:
    """Sixteen basic blocks, 21.8M parameters."""
    return _resnet("resnet34", "basic", [3, 4, 6, 3], num_classes, in_channels, weights, swap_head, zero_init_residual)


@register_model
def resnet50(
    num_classes: int = 1000,
    in_channels: int = 3,
    weights: str | None = None,
    swap_head: bool = False,
    zero_init_residual: bool = False,
) -> nn.Module:
    """Sixteen bottlenecks, 25.6M parameters."""
    return _resnet(
        "resnet50", "bottleneck", [3, 4, 6, 3], num_classes, in_channels, weights, swap_head, zero_init_residual
    )


def _resnet(
    name: str,
    block: Literal["basic", "bottleneck"],
    layers: list[int],
    num_classes: int,
    in_channels: int,
    weights: str | None,
    swap_head: bool,
    zero_init_residual: bool,
) -> nn.Module:
    from .resnet import ResNet, published_weights  # here, so that the other networks do without torchvision

    model = ResNet(block, layers, num_classes, in_channels, zero_init_residual)
    if weights is not None:
        load_weights(model, published_weights(name, weights), swap_head)
    return model
