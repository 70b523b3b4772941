"""He's initialization, and the smallest images."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from comhe.errors import UsageError
from comhe.zoo import create_model
from comhe.zoo.images.blocks import check_images


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


def test_images_that_pooling_would_leave_nothing_of_are_refused():
    x, first = torch.zeros(1, 3, 32, 40), nn.Conv2d(3, 4, 3)
    assert check_images(x, first, 32) is x
    for small in (x[..., :31], x[:, :, :31], x[0]):
        with pytest.raises(UsageError, match=r"x must be \[B, 3, H, W\] of at least 32 x 32 pixels"):
            check_images(small, first, 32)


@pytest.mark.parametrize("name", ["cnn6", "vgg16_bn", "resnet8", "wrn_16_4"])
def test_images_of_other_channels_and_bytes_are_refused(name):
    model = create_model(name, num_classes=2)
    for shape in ((1, 1, 32, 32), (1, 4, 32, 32), (1, 32, 32, 3), (3, 32, 32)):
        with pytest.raises(UsageError, match=r"x must be \[B, 3, H, W\] .* not \["):
            model(torch.zeros(shape))
    with pytest.raises(UsageError, match=r"floating-point numbers, normalized as in training, not torch\.uint8"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_arrays_and_double_precision_are_told():
    first = nn.Conv2d(3, 4, 3)
    with pytest.raises(UsageError, match=r"a tensor, not ndarray; torch\.from_numpy\(x\)\.float\(\) makes one"):
        check_images(np.zeros((1, 3, 8, 8)), first)
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(UsageError, match=r"torch\.float64, the model has torch\.float32; convert x"):
        check_images(x, first)
    assert check_images(x, first.double()) is x
