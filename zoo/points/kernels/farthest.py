"""Farthest point sampling as one kernel: a program per cloud, its points and distances in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def farthest_points(points: Tensor, count: int, start: Tensor | None) -> Tensor:
    """Compute :func:`..operations.farthest_point_sampling` of at most 8192 float32 points in up to three dimensions.

    The distance is fma(dz, dz, fma(dy, dy, dx * dx)), whatever the compiler would do: the sum that PyTorch's addcmul
    computes on processors with fused multiply-add. Where it rounds the products instead, two points whose distances
    are equal but for rounding may be exchanged. A start out of range is returned unchanged, so that the lookup of its
    point fails.
    """
    batch, size, dimension = points.shape
    start = torch.zeros(batch, dtype=torch.int64, device=points.device) if start is None else start.view(batch)
    result = torch.empty(batch, count, dtype=torch.int64, device=points.device)
    block = max(32, triton.next_power_of_2(size))
    warps = min(16, max(1, block // 256))  # eight points per thread, and 16 in the largest clouds
    tensors = points.contiguous(), start.contiguous(), result
    with torch.cuda.device_of(points):
        _farthest[(batch,)](*tensors, size, count, DIMENSION=dimension, BLOCK=block, num_warps=warps)
    return result


@triton.jit
def _farthest(points, start, result, size, count, DIMENSION: tl.constexpr, BLOCK: tl.constexpr):
    cloud = tl.program_id(0).to(tl.int64)
    points += cloud * size * DIMENSION
    result += cloud * count
    index = tl.arange(0, BLOCK)
    real = index < size
    # Absent dimensions are zero: they add nothing, not even rounding.
    x = tl.load(points + index * DIMENSION, mask=real, other=0.0)
    y = tl.load(points + index * DIMENSION + 1, mask=real & (DIMENSION > 1), other=0.0)
    z = tl.load(points + index * DIMENSION + 2, mask=real & (DIMENSION > 2), other=0.0)
    nearest = tl.where(real, float("inf"), -1.0)  # padding stays below every point
    chosen = tl.load(start + cloud).to(tl.int64)
    tl.store(result, chosen)
    for slot in range(1, count):
        known = (chosen >= 0) & (chosen < size)
        # From the cache: a reduction that finds them in the registers would cost more.
        dx = x - tl.load(points + chosen * DIMENSION, mask=known, other=0.0)
        dy = y - tl.load(points + chosen * DIMENSION + 1, mask=known & (DIMENSION > 1), other=0.0)
        dz = z - tl.load(points + chosen * DIMENSION + 2, mask=known & (DIMENSION > 2), other=0.0)
        distance = tl.fma(dz, dz, tl.fma(dy, dy, dx * dx))
        nearest = tl.minimum(nearest, distance)
        # Non-negative floats are ordered as their bits are; below them the index, counted down: no two keys are equal.
        key = (nearest.to(tl.int32, bitcast=True).to(tl.int64) << 32) | (BLOCK - 1 - index).to(tl.int64)
        chosen = BLOCK - 1 - (tl.max(key, axis=0) & (BLOCK - 1))
        tl.store(result + slot, chosen)
