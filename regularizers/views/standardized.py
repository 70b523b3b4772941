"""Convolutions that standardize their filters in every forward pass, of timm and Transformers (BiT, NFNet)."""

from typing import Any

from torch import Tensor

from comhe.regularizers.neurons import convolution, register_neurons


@register_neurons("timm.*.std_conv.*StdConv2d*")
@register_neurons("transformers.models.*.WeightStandardizedConv2d")
def _standardized(module: Any) -> Tensor:
    w = convolution(module)
    w = w - w.mean(-1, keepdim=True)
    w = w * (w.square().mean(-1, keepdim=True) + module.eps).rsqrt()
    gain = getattr(module, "gain", None)
    return w if gain is None else w * (module.scale * gain).reshape(*w.shape[:-1], 1)
