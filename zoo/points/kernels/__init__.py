"""Triton kernels for CUDA tensors, as custom operators that ``torch.compile`` and CUDA graphs support.

Triton is imported at the first call. That call compiles, and must precede the capture of a CUDA graph. The kernels do
not wait for the device, and what they allocate does not depend on the data.

Nearest neighbors use PyTorch: in the space of features they are a matrix product and a selection.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

TRITON = find_spec("triton") is not None
# Largest cloud that :mod:`.farthest` keeps in registers: 16 points per thread, with their distances, fill 64 of its 128
# registers; more would spill. PyTorch samples larger clouds, by launches that can be captured as well.
LARGEST_SAMPLED = 8192


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels support these tensors [B, N, D]; PyTorch's operations compute the others."""
    return (
        TRITON
        and not torch.compiler.is_exporting()  # an exported program has PyTorch's operations only
        and all(t.is_cuda and t.dtype == torch.float32 and t.shape[-1] <= 3 and t.numel() > 0 for t in tensors)
        and all(t.device == tensors[0].device for t in tensors)
    )


@torch.library.custom_op(
    "comhe::farthest_points", mutates_args=(), schema="(Tensor points, int count, Tensor? start) -> Tensor"
)
def farthest_points(points, count, start):
    from .farthest import farthest_points

    return farthest_points(points, count, start)


@farthest_points.register_fake
def _(points, count, start):
    return points.new_empty(points.shape[0], count, dtype=torch.int64)


@torch.library.custom_op(
    "comhe::points_in_balls",
    mutates_args=(),
    schema="(Tensor points, Tensor centers, float radius, int count) -> (Tensor, Tensor)",
)
def points_in_balls(points, centers, radius, count):
    from .ball import points_in_balls

    return points_in_balls(points, centers, radius, count)


@points_in_balls.register_fake
def _(points, centers, radius, count):
    shape = *centers.shape[:2], count
    return points.new_empty(shape, dtype=torch.int64), points.new_empty(*shape, centers.shape[2])
