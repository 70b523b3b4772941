"""Convolutions of torchvision and timm that are not PyTorch's."""

import pytest
import torch
from torch import nn
from torchvision.ops import DeformConv2d

from comhe.regularizers import create_regularizer, neurons
from comhe.regularizers.neurons import kind


class CondConv2d(nn.Module):
    """As timm's, which the view knows by its name: filters of several experts in a row."""

    __module__ = "timm.layers.cond_conv2d"

    def __init__(self, in_channels, out_channels, kernel_size, groups=1, num_experts=4):
        super().__init__()
        self.groups, self.weight_shape = groups, (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.randn(num_experts, torch.Size(self.weight_shape).numel()))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_deformable_convolution_is_one(groups):
    layer, plain = DeformConv2d(4, 8, 3, groups=groups), nn.Conv2d(4, 8, 3, groups=groups)
    plain.weight.data = layer.weight.data
    assert torch.equal(neurons(layer), neurons(plain))
    assert kind(layer) == "conv"


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_experts_are_sets_of_filters(groups):
    layer, plain = CondConv2d(4, 8, 3, groups), nn.Conv2d(4, 8, 3, groups=groups)
    found = []
    for expert in layer.weight.detach():
        plain.weight.data = expert.view(layer.weight_shape)
        w = neurons(plain).detach()
        found += [w] if w.dim() == 2 else [*w]
    assert torch.equal(neurons(layer), torch.stack(found))
    assert kind(layer) == "conv"


@pytest.mark.filterwarnings("error")
def test_they_are_layers_before_the_output():
    for first in (DeformConv2d(4, 8, 3), CondConv2d(4, 8, 3)):
        regularizer = create_regularizer("hs-mhe", nn.Sequential(first, nn.ReLU(), nn.Conv2d(8, 3, 1)))
        assert [(layer.name, layer.role) for layer in regularizer.layers] == [("0", "hidden"), ("2", "output")]


def test_timms_own():
    cond_conv = pytest.importorskip("timm.layers.cond_conv2d")
    layer = cond_conv.CondConv2d(4, 8, 3, num_experts=2)
    x, routing = torch.randn(1, 4, 3, 3), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(layer(x, routing)[0, :, 1, 1], neurons(layer)[1] @ x.flatten())
