"""Pre-activation residual networks, thin and deep (ResNet-164, -1001) or wide and shallow (WRN).

Parameters are counted for 10 classes.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from comhe.zoo.adapters.images import adapt_wide_resnet, blocks_of, sizes_of
from comhe.zoo.registry import register_model
from comhe.zoo.state import State

from .blocks import Block, check_images, he_init, stage

# By the convolutions in a block, blocks in a stage and first width.
NAMES = {(3, 18, 64): "resnet164", (3, 111, 64): "resnet1001", (2, 2, 64): "wrn_16_4", (2, 4, 160): "wrn_28_10"}


class PreactBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the first two with a quarter of the channels, the first one strided.

    Each is preceded by batch norm and ReLU. Where the shape changes, the shortcut is a 1x1 convolution (without batch
    norm) of the first activation; elsewhere it is the input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.downsample is None else self.downsample(h)
        h = F.relu(self.bn2(self.conv1(h)), inplace=True)
        h = F.relu(self.bn3(self.conv2(h)), inplace=True)
        h = self.conv3(h)
        h += shortcut
        return h


class PreactBasic(nn.Module):
    """Two 3x3 convolutions, the first one strided, with dropout before the second; otherwise as the bottleneck."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.downsample is None else self.downsample(h)
        h = F.relu(self.bn2(self.conv1(h)), inplace=True)
        h = self.conv2(self.dropout(h))
        h += shortcut
        return h


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class PreactResNet(nn.Module):
    """A 3x3 convolution to 16 channels, three stages of blocks, batch norm, ReLU, average pooling, and a linear layer.

    The second and the third stage halve the resolution and double the ``width``. ``block`` is called with (in_channels,
    out_channels, stride).

    Shape: [B, in_channels, H, W] -> [B, num_classes]; 32x32 in the papers, any size works.
    Source: He et al., Identity Mappings in Deep Residual Networks, ECCV 2016 (github.com/KaimingHe/resnet-1k-layers);
        Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016 (github.com/szagoruyko/wide-residual-networks).
    """

    output_layer = "fc"

    def __init__(self, block: Block, blocks: int, width: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.layer1 = stage(block, blocks, 16, width, 1)
        self.layer2 = stage(block, blocks, width, 2 * width, 2)
        self.layer3 = stage(block, blocks, 2 * width, 4 * width, 2)
        self.bn = nn.BatchNorm2d(4 * width)
        self.fc = nn.Linear(4 * width, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(check_images(x, self.conv1)))))
        return self.fc(F.relu(self.bn(x), inplace=True).mean((2, 3)))

    adapt = staticmethod(adapt_wide_resnet)

    @staticmethod
    def options_of(state: State) -> dict[str, object]:
        """Return the options that a network with these tensors is built with; of another kind of network, none."""
        shapes = {name: tensor.shape for name, tensor in state.items() if tensor.dim() == 4}
        convs = 3 if "layer1.0.conv3.weight" in shapes else 2
        width, *others = [shapes.get(f"layer{stage}.0.conv{convs}.weight", (0,))[0] for stage in range(1, 5)]
        name = NAMES.get((convs, blocks_of(state), width))
        if name is None or others != [2 * width, 4 * width, 0] or "bn.weight" not in state:
            return {}
        return {**sizes_of(state, "conv1.weight", "fc.weight"), "model": name}


@register_model(domain="images")
def resnet164(num_classes: int = 100, in_channels: int = 3) -> PreactResNet:
    """Pre-activation bottlenecks, 18 per stage, 1.7M parameters."""
    return PreactResNet(PreactBottleneck, 18, 64, num_classes, in_channels)


@register_model(domain="images")
def resnet1001(num_classes: int = 100, in_channels: int = 3) -> PreactResNet:
    """Pre-activation bottlenecks, 111 per stage, 10.3M parameters: the 10.2M of the paper, and the batch norms."""
    return PreactResNet(PreactBottleneck, 111, 64, num_classes, in_channels)


@register_model(domain="images")
def wrn_16_4(num_classes: int = 100, in_channels: int = 3, dropout: float = 0.0) -> PreactResNet:
    """Wide residual network of 16 layers, four times as wide, 2.8M parameters."""
    return PreactResNet(partial(PreactBasic, dropout=dropout), 2, 64, num_classes, in_channels)


@register_model(domain="images")
def wrn_28_10(num_classes: int = 100, in_channels: int = 3, dropout: float = 0.0) -> PreactResNet:
    """Wide residual network of 28 layers, ten times as wide, 36.5M parameters; the paper's dropout is 0 or 0.3."""
    return PreactResNet(partial(PreactBasic, dropout=dropout), 4, 160, num_classes, in_channels)
