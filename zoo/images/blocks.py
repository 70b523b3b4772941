"""What the image networks share: He's initialization, and stages of layers or of blocks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from comhe.errors import UsageError
from comhe.zoo.state import State

Block = Callable[[int, int, int], nn.Module]  # of input channels, output channels and stride


def he_init(model: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan-out) and linear layers as torch does; reset batch norms, zero the biases.

    Source: He et al., Delving Deep into Rectifiers, ICCV 2015, eq. 14; github.com/facebookarchive/fb.resnet.torch.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            module.reset_parameters()
            nn.init.zeros_(module.bias)


def stage(block: Block, blocks: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Chain ``blocks`` blocks, of which the first changes the width and the resolution."""
    others = (block(out_channels, out_channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(block(in_channels, out_channels, stride), *others)


def plain_stages(in_channels: int, stages: Sequence[Sequence[int]], **norm: Any) -> nn.Sequential:
    """Chain 3x3 convolutions of these widths, each with batch norm and ReLU, and a 2x2 max-pooling after each stage."""
    layers: list[nn.Module] = []
    for widths in stages:
        for width in widths:
            layers.append(nn.Conv2d(in_channels, width, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(width, **norm), nn.ReLU(inplace=True)]
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def plain_widths(state: State) -> list[int]:
    """Return the widths of the convolutions that :func:`plain_stages` chains, in a network's ``features``."""
    return sorted(len(t) for name, t in state.items() if name.startswith("features.") and t.dim() == 4)


def check_images(x: Tensor, first: nn.Module, least: int = 1) -> Tensor:
    """Return images [B, C, H, W] that suit the first layer, and of which pooling leaves something."""
    if torch.jit.is_tracing():
        return x
    if not isinstance(x, Tensor):
        raise UsageError(
            f"x must be a tensor, not {type(x).__name__}; torch.from_numpy(x).float() makes one of an array"
        )
    channels = getattr(first, "in_channels", None)
    if x.dim() != 4 or x.shape[2] < least or x.shape[3] < least or channels not in (None, x.shape[1]):
        wanted = f"[B, {channels or 'C'}, H, W] of at least {least} x {least} pixels for this network"
        raise UsageError(f"x must be {wanted}, not {list(x.shape)}")
    if not x.is_floating_point():
        raise UsageError(f"x must be floating-point numbers, normalized as in training, not {x.dtype}")
    if x.dtype == torch.float64 and next(first.parameters(), x).dtype == torch.float32:
        raise UsageError("x has numbers of type torch.float64, the model has torch.float32; convert x with x.float()")
    return x
