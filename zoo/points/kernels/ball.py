"""Ball query and grouping as one kernel: distances and the selection among them stay in registers."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # points at a time: eight per thread of one warp, so that counting them needs no barrier


def points_in_balls(points: Tensor, centers: Tensor, radius: float, count: int) -> tuple[Tensor, Tensor]:
    """Compute :func:`..operations.query_and_group` of float32 points in up to three dimensions, a warp per center.

    Squared distances are sums of squared differences, with a relative error of 3e-7; a point that is that close to the
    sphere may fall on either side of it.
    """
    batch, number, dimension = centers.shape
    chosen = torch.empty(batch, number, count, dtype=torch.int64, device=points.device)
    offsets = torch.empty(batch, number, count, dimension, device=points.device)
    tensors, sizes = (points.contiguous(), centers.contiguous(), chosen, offsets), (points.shape[1], number, count)
    with torch.cuda.device_of(points):
        _ball[(batch * number,)](*tensors, *sizes, radius * radius, DIMENSION=dimension, BLOCK=BLOCK, num_warps=1)
    return chosen, offsets


@triton.jit
def _ball(points, centers, chosen, offsets, size, number, count, limit, DIMENSION: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    points += row // number * size * DIMENSION
    centers += row * DIMENSION
    chosen += row * count
    offsets += row * count * DIMENSION
    lane = tl.arange(0, BLOCK)
    # Absent dimensions are zero: they add nothing, not even rounding.
    x = tl.load(centers)
    y = tl.load(centers + 1, mask=DIMENSION > 1, other=0.0)
    z = tl.load(centers + 2, mask=DIMENSION > 2, other=0.0)
    found = tl.full([], 0, tl.int32)  # counted to the end of the block, also beyond ``count``
    first = tl.full([], 0, tl.int32) + size
    for begin in range(0, size, BLOCK):
        if found < count:
            index = begin + lane
            real = index < size
            dx, dy, dz = _differences(points, index, real, x, y, z, DIMENSION)
            inside = (tl.fma(dz, dz, tl.fma(dy, dy, dx * dx)) < limit) & real
            hit = inside.to(tl.int32)
            slot = found + tl.cumsum(hit, axis=0) - 1
            _store(chosen, offsets, slot, inside & (slot < count), index, dx, dy, dz, DIMENSION)
            found += tl.sum(hit, axis=0)
            first = tl.minimum(first, tl.min(tl.where(inside, index, size), axis=0))
    # The remaining slots, which are not written yet, repeat the first point found, or point 0.
    again = tl.zeros([BLOCK], tl.int32) + tl.where(first < size, first, 0)
    for begin in range(0, count, BLOCK):
        slot = begin + lane
        left = (slot >= found) & (slot < count)
        dx, dy, dz = _differences(points, again, left, x, y, z, DIMENSION)
        _store(chosen, offsets, slot, left, again, dx, dy, dz, DIMENSION)


@triton.jit
def _differences(points, index, real, x, y, z, DIMENSION: tl.constexpr):
    points += index * DIMENSION
    dx = tl.load(points, mask=real, other=0.0) - x
    dy = tl.load(points + 1, mask=real & (DIMENSION > 1), other=0.0) - y
    dz = tl.load(points + 2, mask=real & (DIMENSION > 2), other=0.0) - z
    return dx, dy, dz


@triton.jit
def _store(chosen, offsets, slot, mask, index, dx, dy, dz, DIMENSION: tl.constexpr):
    tl.store(chosen + slot, index.to(tl.int64), mask=mask)
    offsets += slot * DIMENSION
    tl.store(offsets, dx, mask=mask)
    tl.store(offsets + 1, dy, mask=mask & (DIMENSION > 1))
    tl.store(offsets + 2, dz, mask=mask & (DIMENSION > 2))
