from math import gcd, prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.errors import UsageError, check_choice
from comhe.regularizers.draws import Draws
from comhe.regularizers.energies.checks import upcast
from comhe.regularizers.energies.gram import excess
from comhe.regularizers.neurons import unadapted
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .penalty import Penalty

Padding = Literal["authors", "full"]
PADDINGS = ("authors", "full")
_CONVOLVE = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def ocnn(kernel: Tensor, stride: int | tuple[int, ...] = 1, *, padding: Padding = "full") -> Tensor:
    r"""Orthogonality of the convolution operator (OCNN): its distance from one with orthonormal rows.

    .. math:: \left\| \mathrm{conv}(K, K;\ \mathrm{stride},\ \mathrm{padding}) - I_0 \right\|_F

    where :math:`I_0` is the identity at the center: a filter is orthogonal to the others *and to shifts*, of itself as
    well, that the stride lets occur.

    Args:
        stride: of the convolution; of a dilated one, its stride over the common divisor of both.
        padding: ``"full"`` is the paper's, the largest multiple of the stride at which kernels overlap: all shifts
            count. ``"authors"`` is the released code's, 1: for stride 1 shifts of at most one pixel; for stride 2 those
            of one pixel either way and not of zero, with the identity where the shift is +1. Where the stride is at
            least the kernel's size, both have the zero shift alone.

    Shape: ``kernel`` ``[out, in, *spatial]``, 1 to 3 spatial dimensions -> scalar.

    Example:
        >>> ocnn(torch.eye(2).view(2, 2, 1, 1), stride=2)
        tensor(1.0842e-19)

    Source: Wang et al., *Orthogonal Convolutional Neural Networks*, CVPR 2020.
    """
    if kernel.dim() not in _CONVOLVE:
        raise UsageError(f"kernel must be [out, in, *spatial] with 1 to 3 spatial dimensions, not {list(kernel.shape)}")
    check_choice("padding", padding, PADDINGS)
    kernel = upcast(kernel)
    spatial = kernel.shape[2:]
    strides = (stride,) * len(spatial) if isinstance(stride, int) else tuple(stride)
    if padding == "full":
        pads = [(size - 1) // step * step for size, step in zip(spatial, strides, strict=True)]
    else:
        pads = [int(size > step) for size, step in zip(spatial, strides, strict=True)]
    overlaps = _CONVOLVE[kernel.dim()](kernel, kernel, stride=strides, padding=pads)
    center: list[Any] = [size // 2 for size in overlaps.shape[2:]]
    identity = torch.zeros_like(overlaps)
    identity[:, :, *center] = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    return _norm(overlaps - identity)


def _norm(x: Tensor) -> Tensor:
    return (x.square().sum() + torch.finfo(x.dtype).tiny).sqrt()  # differentiable at 0 too


def _is_convolved(w: Tensor, module: nn.Module) -> bool:
    """Whether the rows of a view are all filters of a convolution without groups, and larger than a pixel."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or module.groups > 1 or max(module.kernel_size) == 1:
        return False
    return (w.shape[:-1].numel(), w.shape[-1]) == (module.out_channels, module.in_channels * prod(module.kernel_size))


@register_regularizer("ocnn")
class OrthogonalConvolution(Penalty):
    """:func:`ocnn` of ungrouped convolutions, ``|G - I|_F`` on the smaller Gram matrix of every other layer.

    Default weight: ours, for the full padding. ``padding="authors", weight=0.5`` is what the authors' command for a
    ResNet-50 on ImageNet has; they leave the first convolution out, as ``exclude`` does.

    Args:
        padding: ``"full"`` or ``"authors"``, see :func:`ocnn`. With the latter a convolution of stride 2 learns filters
            that equal their own shifts: alone, from a random start, it raises the energy.
    """

    default_weight = 0.1

    def __init__(self, *, padding: Padding = "full") -> None:
        check_choice("padding", padding, PADDINGS)
        self.padding = padding

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        module: Any = unadapted(layer.module)
        if _is_convolved(w, module):
            stride = tuple(module.stride)
            if self.padding == "full":  # dilated filters overlap at multiples of the dilation alone
                stride = tuple(step // gcd(step, d) for step, d in zip(stride, module.dilation, strict=True))
            kernels = w.unflatten(-1, (module.in_channels, *module.kernel_size))
            if w.dim() == 2:
                return ocnn(kernels, stride, padding=self.padding)
            sets = kernels.flatten(0, w.dim() - 3)  # queries, keys and values
            return torch.stack([ocnn(kernel, stride, padding=self.padding) for kernel in sets]).norm()
        return _norm(excess(w))

    def extra_repr(self) -> str:
        return f"padding={self.padding!r}"
