"""He's residual networks for 32x32 images; parameter counts are for 10 classes."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from comhe.errors import WeightsError, check_choice
from comhe.zoo.adapters.images import adapt_resnet, blocks_of, padding_of, sizes_of
from comhe.zoo.registry import register_model
from comhe.zoo.state import State

from .blocks import check_images, he_init, stage

SHORTCUTS = ("auto", "pad", "pad-both", "projection")
NAMES = {(1, 16): "resnet8", (3, 16): "resnet20", (5, 16): "resnet32", (7, 16): "resnet44", (9, 16): "resnet56"}
NAMES |= {(18, 16): "resnet110", (5, 64): "resnet32_wide"}  # by blocks in a stage and first width


class PadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and zeros in the new channels. It has no parameters.

    New channels come last, or with ``both`` a half of them first, as in akamaster/pytorch_resnet_cifar10.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, both: bool = False) -> None:
        super().__init__()
        self.stride, self.new_channels, self.both = stride, out_channels - in_channels, both

    def forward(self, x: Tensor) -> Tensor:
        first = self.new_channels // 2 if self.both else 0
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, first, self.new_channels - first))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, new_channels={self.new_channels}, both={self.both}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: ``relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))``."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module
        if stride == 1 and in_channels == out_channels:
            self.downsample = nn.Identity()
        elif shortcut != "projection":
            self.downsample = PadShortcut(in_channels, out_channels, stride, shortcut == "pad-both")
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return F.relu(out, inplace=True)


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of basic blocks, global average pooling, and one linear layer.

    The second and the third stage halve the resolution and widen the channels. There the shortcut is

    - ``"pad"``: option A, subsampling and zero channels, which the paper trains on CIFAR ("identity shortcuts in all
      cases") and which gives its parameter counts; the zeros come last, as in the authors' code;
    - ``"pad-both"``: the same with zeros on both sides, as in akamaster/pytorch_resnet_cifar10;
    - ``"projection"``: option B, a 1x1 convolution with batch norm;
    - ``"auto"``: ``"pad"``, until weights are loaded that were trained with ``"pad-both"``. Both have the same tensors:
      the running means of trained weights tell which it was, else the head's name does (``linear`` is akamaster's),
      else a note says that ``"pad"`` was taken.

    With ``zero_init_residual``, blocks start as their shortcuts (Goyal et al. 2017; not in the paper). The state dict
    has torchvision's names (``layer2.0.downsample.0.weight`` exists for projections only).

    Shape: [B, in_channels, H, W] -> [B, num_classes]; 32x32 in the paper, any size works.
    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2.
    """

    output_layer = "fc"

    def __init__(
        self, blocks: int, width: int, num_classes: int, in_channels: int, shortcut: str, zero_init_residual: bool
    ) -> None:
        super().__init__()
        check_choice("shortcut", shortcut, SHORTCUTS)
        self.shortcut, self.zero_init_residual = shortcut, zero_init_residual
        block = partial(BasicBlock, shortcut=shortcut)
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(block, blocks, width, width, 1)
        self.layer2 = stage(block, blocks, width, 2 * width, 2)
        self.layer3 = stage(block, blocks, 2 * width, 4 * width, 2)
        self.fc = nn.Linear(4 * width, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        he_init(self)
        if self.zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock):
                    nn.init.zeros_(module.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(check_images(x, self.conv1))), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))

    adapt = staticmethod(adapt_resnet)

    @staticmethod
    def options_of(state: State) -> dict[str, object]:
        """Return the options that a network with these tensors is built with; of another kind of network, none."""
        shapes = {name: tensor.shape for name, tensor in state.items() if tensor.dim() == 4}
        width = shapes.get("conv1.weight", (0,))[0]
        widths = [shapes.get(f"layer{stage}.0.conv1.weight", (0,))[0] for stage in range(1, 5)]
        name = NAMES.get((blocks_of(state), width))
        if name is None or widths != [width, 2 * width, 4 * width, 0] or "layer1.0.conv3.weight" in state:
            return {}
        projects = any(".downsample.0." in name for name in state)
        sizes = sizes_of(state, "conv1.weight", "fc.weight")
        return {**sizes, "model": name, "shortcut": "projection" if projects else "pad"}

    def settle(self, theirs: State, ours: State) -> list[str]:
        """Pad as the network did that these weights are of, if that can be known, and say so if it is not at the end.

        Raises:
            WeightsError: They were trained with another padding than asked for, or it cannot be known.
        """
        pads = [module for module in self.modules() if isinstance(module, PadShortcut)]
        if not pads:
            return []
        padding, ratio = padding_of(ours)
        how = f"their running means fit it {ratio:.0f} times better"
        if self.shortcut != "auto":
            if padding not in (None, self.shortcut):
                raise WeightsError(
                    f"the weights were trained with shortcut={padding!r} ({how}), this {type(self).__name__} was built "
                    f"with shortcut={self.shortcut!r}; build it with shortcut={padding!r} or 'auto'"
                )
            return []
        if padding is None and "linear.weight" in theirs:
            padding, how = "pad-both", "their last layer is called linear, as akamaster's"
        counted = any(name.endswith("num_batches_tracked") for name in theirs)
        means = ours["bn1.running_mean"]
        is_trained = not means.is_meta and bool(means.any())
        if padding is None and not counted and is_trained:
            raise WeightsError(
                "the weights do not tell on which side option A's shortcuts pad; build the model with shortcut='pad' "
                "(zeros last) or shortcut='pad-both' (as akamaster/pytorch_resnet_cifar10)"
            )
        for module in pads:
            module.both = padding == "pad-both"
        if padding is None and is_trained:
            return [
                "shortcut='pad' (zeros last) was taken, though the weights do not tell; build the model with "
                "shortcut='pad-both' for weights of akamaster/pytorch_resnet_cifar10 and the like"
            ]
        return [f"shortcut='pad-both': {how}"] if padding == "pad-both" else []


def _register(name: str, blocks: int, width: int, description: str) -> None:
    def build(
        num_classes: int = 100, in_channels: int = 3, shortcut: str = "auto", zero_init_residual: bool = False
    ) -> CifarResNet:
        return CifarResNet(blocks, width, num_classes, in_channels, shortcut, zero_init_residual)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = description
    register_model(domain="images")(build)


_register("resnet8", 1, 16, "0.08M parameters: the smallest of the family, not in the paper; it learns in a minute.")
_register("resnet20", 3, 16, "Three blocks per stage, 0.27M parameters.")
_register("resnet32", 5, 16, "Five blocks per stage, 0.46M parameters.")
_register("resnet44", 7, 16, "Seven blocks per stage, 0.66M parameters.")
_register("resnet56", 9, 16, "Nine blocks per stage, 0.85M parameters.")
_register("resnet110", 18, 16, "Eighteen blocks per stage, 1.7M parameters.")
_register("resnet32_wide", 5, 64, "Five blocks per stage, four times as wide, 7.4M parameters.")
