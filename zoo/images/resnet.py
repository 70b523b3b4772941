"""torchvision's ResNet with what the zoo asks of a model; the only place of the zoo that imports torchvision."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

import torch
from torch import Tensor, nn

from .he import he_init

try:
    import torchvision
except (RuntimeError, AttributeError) as error:  # operators that this torch cannot hold
    raise ImportError(
        f"torchvision {version('torchvision')} does not fit torch {torch.__version__} ({error}); reinstall both, "
        "unpinned and from the same index: pip install --upgrade --force-reinstall torch torchvision"
    ) from error

_BLOCKS = {"basic": torchvision.models.resnet.BasicBlock, "bottleneck": torchvision.models.resnet.Bottleneck}


class ResNet(torchvision.models.ResNet):
    """torchvision's ResNet, state dict and forward unchanged, for any number of input channels.

    Shapes:
        [B, in_channels, H, W] -> [B, num_classes]; 224x224 in the paper, any size works.
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
    ) -> None:
        super().__init__(_BLOCKS[block], layers, num_classes, zero_init_residual)
        self.zero_init_residual = zero_init_residual
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            he_init(self.conv1)

    def reset_parameters(self) -> None:
        he_init(self)
        self.fc.reset_parameters()  # torchvision's bias does not start at 0
        if self.zero_init_residual:
            for module in self.modules():
                if isinstance(module, tuple(_BLOCKS.values())):
                    last = module.bn2 if isinstance(module, _BLOCKS["basic"]) else module.bn3
                    nn.init.zeros_(last.weight)


def published_weights(name: str, weights: str) -> dict[str, Tensor]:
    """The state dict that torchvision publishes for the model ``name`` as ``weights``, from torch's hub cache.

    Errors: ValueError for weights that torchvision does not have.
    """
    known = torchvision.models.get_model_weights(name)
    names = [entry.name for entry in known]
    if weights not in names:
        raise ValueError(f"{name} has no weights {weights!r}; torchvision has {', '.join(names)}")
    return known[weights].get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
