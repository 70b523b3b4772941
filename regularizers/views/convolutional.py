"""Convolutions of torchvision and timm that are not PyTorch's."""

from typing import Any

from torch import Tensor

from comhe.regularizers.neurons import convolution, register_neurons


@register_neurons("torchvision.ops.deform_conv.DeformConv2d")
def _deformable(module: Any) -> Tensor:
    return convolution(module)


@register_neurons("timm.*.cond_conv2d.CondConv2d")
def _conditional(module: Any) -> Tensor:
    """Experts, which an input mixes: ``[experts, out, in * height * width]``, or a set for each of their groups."""
    w = module.weight.unflatten(1, (module.weight_shape[0], -1))
    return w if module.groups == 1 or module.weight_shape[1] == 1 else w.unflatten(1, (module.groups, -1)).flatten(0, 1)
