"""CNN-6, CNN-9 and CNN-15 of the paper."""

import math

from torch import Tensor, nn

from comhe.zoo.adapters.images import sizes_of
from comhe.zoo.registry import register_model
from comhe.zoo.state import State

from .blocks import check_images, plain_stages, plain_widths

WIDTHS = (64, 128, 256)


class CNN(nn.Module):
    """Three blocks of 3x3 convolutions with 64, 128 and 256 filters, then a 4x4 and a 1x1 convolution.

    Each 3x3 convolution is followed by batch norm (eps 1e-3, running averages with decay 0.999) and ReLU, each block by
    2x2 max-pooling. The valid 4x4 convolution to 256 has neither batch norm nor ReLU, as in the released code: trained
    without warm-up at learning rate 0.1 the logits explode at first. No convolution has a bias; all weights start from
    N(0, 2 / fan-in).

    Shape: [B, in_channels, 32, 32] -> [B, num_classes]; on larger images, the mean of the logits at every position.
    Source: github.com/rmlin/CoMHE, Lin et al., CVPR 2020.
    """

    output_layer = "fc2"

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.features = plain_stages(in_channels, [[width] * depth for width in WIDTHS], eps=1e-3, momentum=1e-3)
        self.fc1 = nn.Conv2d(WIDTHS[-1], 256, 4, bias=False)
        self.fc2 = nn.Conv2d(256, num_classes, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.features(check_images(x, self.features[0], 32)))).mean((2, 3))

    @staticmethod
    def options_of(state: State) -> dict[str, object]:
        """Return the options that a network with these tensors is built with; of another kind of network, none."""
        widths = plain_widths(state)
        if len(widths) not in (6, 9, 15) or widths != sorted(WIDTHS * (len(widths) // 3)):
            return {}
        return {**sizes_of(state, "features.0.weight", "fc2.weight"), "model": f"cnn{len(widths)}"}


@register_model(domain="images")
def cnn6(num_classes: int = 100, in_channels: int = 3) -> CNN:
    """CNN-6 of the CoMHE paper: two convolutions in each of three blocks."""
    return CNN(2, num_classes, in_channels)


@register_model(domain="images")
def cnn9(num_classes: int = 100, in_channels: int = 3) -> CNN:
    """CNN-9 of the CoMHE paper: three convolutions in each of three blocks."""
    return CNN(3, num_classes, in_channels)


@register_model(domain="images")
def cnn15(num_classes: int = 100, in_channels: int = 3) -> CNN:
    """Five convolutions a block."""
    return CNN(5, num_classes, in_channels)
