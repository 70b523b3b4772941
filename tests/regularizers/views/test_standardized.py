"""Convolutions that standardize their filters: the neurons are those that the forward pass uses."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from comhe.regularizers import create_regularizer, hyperspherical_energy, neurons


class StdConv2d(nn.Conv2d):
    """As timm's, which the view knows by its name."""

    __module__ = "timm.layers.std_conv"
    eps = 1e-6

    def used(self):
        gain = None if not hasattr(self, "gain") else (self.gain * self.scale).view(-1)
        w = self.weight.reshape(1, self.out_channels, -1)
        return F.batch_norm(w, None, None, weight=gain, training=True, momentum=0.0, eps=self.eps).view_as(self.weight)


class ScaledStdConv2d(StdConv2d):
    __module__ = "timm.layers.std_conv"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain, self.scale = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5), 0.3


@pytest.mark.parametrize("cls", [StdConv2d, ScaledStdConv2d])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_filters_are_standardized(cls, groups):
    layer = cls(4, 8, 3, groups=groups).double()
    layer.weight.data += 0.5
    plain = nn.Conv2d(4, 8, 3, groups=groups).double()
    plain.weight.data = layer.used().detach()
    torch.testing.assert_close(neurons(layer), neurons(plain))
    if groups == 1:
        expected = hyperspherical_energy(plain.weight.flatten(1), half_space=True)
        torch.testing.assert_close(create_regularizer("hs-mhe", layer, output=None, min_norm=0)(), expected)


def test_timms_own():
    std_conv = pytest.importorskip("timm.layers.std_conv")
    for cls in (std_conv.StdConv2d, std_conv.StdConv2dSame, std_conv.ScaledStdConv2d, std_conv.ScaledStdConv2dSame):
        layer = cls(4, 8, 3).double()
        layer.weight.data += 0.5
        patch = torch.randn(1, 4, 3, 3, dtype=torch.float64)
        layer.padding, layer.same_pad = (0, 0), False
        out = layer(patch).flatten() - (0 if layer.bias is None else layer.bias)
        torch.testing.assert_close(neurons(layer) @ patch.flatten(), out)
