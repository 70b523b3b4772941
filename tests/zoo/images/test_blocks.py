"""He's initialization."""

import math

import pytest
import torch
from torch import nn

from comhe.zoo import create_model


@pytest.mark.parametrize("name", ["resnet20", "resnet164", "wrn_16_4", "vgg16_bn"])
def test_he_initialization(name):
    torch.manual_seed(0)
    model = create_model(name)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
    head = model.get_submodule(model.output_layer)
    assert not head.bias.any()
    assert head.weight.abs().max() <= 1 / math.sqrt(head.in_features)
