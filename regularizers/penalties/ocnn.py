from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.errors import UsageError
from comhe.regularizers.draws import Draws
from comhe.regularizers.energies.checks import upcast
from comhe.regularizers.energies.gram import excess
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .penalty import Penalty

_CONVOLVE = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def ocnn(kernel: Tensor, stride: int | tuple[int, ...] = 1) -> Tensor:
    r"""Orthogonality of the convolution operator (OCNN): its distance from one with orthonormal rows.

    .. math:: \left\| \mathrm{conv}(K, K;\ \mathrm{stride},\ \mathrm{padding}) - I_0 \right\|_F

    where :math:`I_0` is the identity at the center: a filter is orthogonal to the others *and to all shifts*, of itself
    as well, that the stride lets occur. The padding is the largest multiple of the stride at which kernels overlap.

    Shape: ``kernel`` [out, in, *spatial], 1 to 3 spatial dimensions -> scalar.

    Example:
        >>> ocnn(torch.eye(2).view(2, 2, 1, 1), stride=2)
        tensor(1.0842e-19)

    Source: Wang et al., *Orthogonal Convolutional Neural Networks*, CVPR 2020.
    """
    if kernel.dim() not in _CONVOLVE:
        raise UsageError(f"kernel must be [out, in, *spatial] with 1 to 3 spatial dimensions, not {list(kernel.shape)}")
    kernel = upcast(kernel)
    spatial = kernel.shape[2:]
    strides = (stride,) * len(spatial) if isinstance(stride, int) else tuple(stride)
    padding = [(size - 1) // step * step for size, step in zip(spatial, strides, strict=True)]
    overlaps = _CONVOLVE[kernel.dim()](kernel, kernel, stride=strides, padding=padding)
    center: list[Any] = [pad // step for pad, step in zip(padding, strides, strict=True)]
    identity = torch.zeros_like(overlaps)
    identity[:, :, *center] = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    return _norm(overlaps - identity)


def _norm(x: Tensor) -> Tensor:
    return (x.square().sum() + torch.finfo(x.dtype).tiny).sqrt()  # differentiable at 0 too


@register_regularizer("ocnn")
class OrthogonalConvolution(Penalty):
    """:func:`ocnn` of ungrouped convolutions, ``|G - I|_F`` on the smaller Gram matrix of every other layer."""

    default_weight = 0.5  # what the authors' code uses for a ResNet-50 on ImageNet

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        module = layer.module
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1 and max(module.kernel_size) > 1:
            return ocnn(w.unflatten(1, module.weight.shape[1:]), module.stride)
        return _norm(excess(w, smaller=True))
