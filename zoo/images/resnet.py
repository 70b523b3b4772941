"""torchvision's ResNet with the zoo's interface; no other module imports torchvision at its top."""

import re
from importlib.metadata import version
from typing import Literal

import torch
from torch import Tensor, nn

from comhe.errors import WeightsError, first_line, needs
from comhe.zoo.adapters.images import adapt_resnet, blocks_of, sizes_of
from comhe.zoo.state import State

from .blocks import he_init

try:
    with needs("zoo", __name__):
        import torchvision
except (RuntimeError, AttributeError) as error:  # its operators do not fit this torch
    raise ImportError(
        f"torchvision {version('torchvision')} does not fit torch {torch.__version__} ({error}); reinstall both, "
        "unpinned and from the same index: pip install --upgrade --force-reinstall torch torchvision"
    ) from error

_BLOCKS = {"basic": torchvision.models.resnet.BasicBlock, "bottleneck": torchvision.models.resnet.Bottleneck}
_NAMES = {("basic", "2/2/2/2"): "resnet18", ("basic", "3/4/6/3"): "resnet34", ("bottleneck", "3/4/6/3"): "resnet50"}


class ResNet(torchvision.models.ResNet):
    """torchvision's ResNet for any number of input channels; state dict and forward are unchanged.

    With ``small_images`` it begins with a 3x3 convolution of stride 1 and without max-pooling, as those for CIFAR in
    github.com/kuangliu/pytorch-cifar and github.com/weiaicunzai/pytorch-cifar100.

    Shape: [B, in_channels, H, W] -> [B, num_classes]; 224x224 in the paper, any size works.
    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, table 1; the stride of a bottleneck is
        in its 3x3 convolution.
    """

    output_layer = "fc"

    def __init__(
        self,
        block: Literal["basic", "bottleneck"],
        layers: list[int],
        num_classes: int,
        in_channels: int,
        zero_init_residual: bool,
        small_images: bool = False,
    ) -> None:
        super().__init__(_BLOCKS[block], layers, num_classes, zero_init_residual)
        self.zero_init_residual = zero_init_residual
        self._last_norm = "bn2.weight" if block == "basic" else "bn3.weight"  # of a block
        if small_images:
            self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
            he_init(self.conv1)
        elif in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            he_init(self.conv1)

    adapt = staticmethod(adapt_resnet)

    def options_of(self, state: State) -> dict[str, object]:
        """Return what tells a network with these tensors from others of its kind; of another kind, nothing."""
        shapes = {name: tensor.shape for name, tensor in state.items() if tensor.dim() == 4}
        blocks = "/".join(str(blocks_of(state, f"layer{stage}")) for stage in range(1, 5))
        kind = "bottleneck" if any(name.endswith(".conv3.weight") for name in state) else "basic"
        name, first = _NAMES.get((kind, blocks)), shapes.get("conv1.weight")
        if name is None or first is None or shapes.get("layer1.0.conv1.weight", (0,))[0] != 64:  # or wider blocks
            return {}
        model = name + ("_cifar" if first[-1] == 3 else "")
        return {**sizes_of(state, "conv1.weight", "fc.weight"), "model": model}

    def settle(self, theirs: State, ours: State) -> list[str]:
        """Tell that weights are read without max-pooling, unless their names are of code that has none either.

        huyvnphan/PyTorch_CIFAR10 has the same tensors and a 3x3/2 max-pooling behind its 3x3 convolution.
        """
        pools = isinstance(self.maxpool, nn.MaxPool2d)
        if pools or any(re.search(r"\.shortcut\.\d|\.residual_function\.", name) for name in theirs):
            return []
        return ["read without max-pooling after the first layer, which tensors do not tell"]

    def reset_parameters(self) -> None:
        he_init(self)
        self.fc.reset_parameters()  # torchvision's bias does not start at 0
        if self.zero_init_residual:
            for name, parameter in self.named_parameters():
                if name.endswith(self._last_norm):
                    nn.init.zeros_(parameter)


def published_weights(name: str, weights: str) -> dict[str, Tensor]:
    """Return the state dict that torchvision publishes for the model ``name``, from torch's hub cache."""
    known = torchvision.models.get_model_weights(name)
    names = [entry.name for entry in known]
    if weights not in names:
        raise WeightsError(f"{name} has no weights {weights!r}; torchvision has {', '.join(names)}")
    try:
        return known[weights].get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError) as error:  # RuntimeError: another sha256
        reason = first_line(error)
        raise WeightsError(f"torchvision's {weights} of {name} could not be downloaded ({reason})") from error
