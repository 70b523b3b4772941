"""torchvision's residual networks for ImageNet, with torchvision's weights by name (``weights="IMAGENET1K_V1"``).

Those named ``_cifar`` are the same networks for 32x32 images: a 3x3 convolution of stride 1 first, and no max-pooling.
"""

from typing import Any, Literal

from torch import nn

from comhe.zoo.registry import register_model


@register_model(domain="images")
def resnet18(num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """Eight basic blocks, 11.7M parameters."""
    return _resnet("basic", [2, 2, 2, 2], num_classes, in_channels, zero_init_residual)


@register_model(domain="images")
def resnet34(num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """Sixteen basic blocks, 21.8M parameters."""
    return _resnet("basic", [3, 4, 6, 3], num_classes, in_channels, zero_init_residual)


@register_model(domain="images")
def resnet50(num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """Sixteen bottlenecks, 25.6M parameters."""
    return _resnet("bottleneck", [3, 4, 6, 3], num_classes, in_channels, zero_init_residual)


@register_model(domain="images")
def resnet18_cifar(num_classes: int = 10, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """ResNet-18 for 32x32 images, 11.2M parameters."""
    return _resnet("basic", [2, 2, 2, 2], num_classes, in_channels, zero_init_residual, True)


@register_model(domain="images")
def resnet34_cifar(num_classes: int = 10, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """ResNet-34 for 32x32 images, 21.3M parameters."""
    return _resnet("basic", [3, 4, 6, 3], num_classes, in_channels, zero_init_residual, True)


@register_model(domain="images")
def resnet50_cifar(num_classes: int = 10, in_channels: int = 3, zero_init_residual: bool = False) -> nn.Module:
    """ResNet-50 for 32x32 images, 23.5M parameters."""
    return _resnet("bottleneck", [3, 4, 6, 3], num_classes, in_channels, zero_init_residual, True)


def _resnet(block: Literal["basic", "bottleneck"], layers: list[int], *options: Any) -> nn.Module:
    from .resnet import ResNet  # here, so that the other networks do without torchvision

    return ResNet(block, layers, *options)
