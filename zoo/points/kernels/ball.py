"""Ball query as one kernel: distances and the choice among them in registers, no matrix of either in memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # points at a time: eight a thread of one warp, so that counting them takes no barrier


def points_in_balls(points: Tensor, centres: Tensor, radius: float, count: int) -> Tensor:
    """:func:`..operations.ball_query` of float32 points in up to three dimensions; one warp to a centre.

    Squared distances are sums of squared differences, within 3e-7 of themselves; a point that lies that close to the
    sphere may fall on either side of it.
    """
    batch, number, dimension = centres.shape
    result = torch.empty(batch, number, count, dtype=torch.int64, device=points.device)
    with torch.cuda.device_of(points):
        _ball[(batch * number,)](
            points.contiguous(),
            centres.contiguous(),
            result,
            points.shape[1],
            number,
            count,
            radius * radius,
            DIMENSION=dimension,
            BLOCK=BLOCK,
            num_warps=1,
        )
    return result


@triton.jit
def _ball(points, centres, result, size, number, count, limit, DIMENSION: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    points += row // number * size * DIMENSION
    centres += row * DIMENSION
    result += row * count
    lane = tl.arange(0, BLOCK)
    # Absent dimensions are zero: they add nothing, not even rounding.
    x = tl.load(centres)
    y = tl.load(centres + 1, mask=DIMENSION > 1, other=0.0)
    z = tl.load(centres + 2, mask=DIMENSION > 2, other=0.0)
    found = tl.full([], 0, tl.int32)  # counted on beyond what is asked for, to the end of the block
    first = tl.full([], 0, tl.int32) + size
    for begin in range(0, size, BLOCK):
        if found < count:
            index = begin + lane
            real = index < size
            dx = tl.load(points + index * DIMENSION, mask=real, other=0.0) - x
            dy = tl.load(points + index * DIMENSION + 1, mask=real & (DIMENSION > 1), other=0.0) - y
            dz = tl.load(points + index * DIMENSION + 2, mask=real & (DIMENSION > 2), other=0.0) - z
            inside = (tl.fma(dz, dz, tl.fma(dy, dy, dx * dx)) < limit) & real
            hit = inside.to(tl.int32)
            place = found + tl.cumsum(hit, axis=0) - 1
            tl.store(result + place, index.to(tl.int64), mask=inside & (place < count))
            found += tl.sum(hit, axis=0)
            first = tl.minimum(first, tl.min(tl.where(inside, index, size), axis=0))
    # The places left, none of which has been written to, repeat the first point found, or point 0.
    again = tl.where(first < size, first, 0).to(tl.int64)
    for begin in range(0, count, BLOCK):
        place = begin + lane
        tl.store(result + place, tl.zeros([BLOCK], tl.int64) + again, mask=(place >= found) & (place < count))
