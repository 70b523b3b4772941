"""Operations on points: sampling, neighborhoods, grouping. Batched and deterministic.

Coordinates and features are rows: [B, N, 3] and [B, N, C]. Indices are int64 and count within their cloud. Only
grouping has a gradient. Nothing waits for the device. Sampling and ball queries of float32 CUDA tensors run as the
kernels of :mod:`.kernels` where Triton is installed. Impossible sizes, counts and radii raise a UsageError.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from comhe.autograd import Operation
from comhe.errors import UsageError
from comhe.zoo.eager import eager

from . import kernels


def farthest_point_sampling(points: Tensor, count: int, start: Tensor | None = None) -> Tensor:
    r"""Sample points, each the farthest from those that were chosen before it; O(N count) time, O(N) memory.

    .. math:: i_{t+1} = \arg\max_i \min_{s \le t} |x_i - x_{i_s}|^2

    Ties go to the lowest index; once every distinct point is chosen, index 0 is repeated. The first m of the result are
    the farthest point sample of size m, and a sample of distinct points is its own farthest point sample. A point's
    distance to its duplicate is zero; other distances are rounded, and kinds of device that round differently may
    choose differently between points that are equally far but for rounding.

    Shape: points [B, N, D], start int64 [B] (the first choice, point 0 if None) -> int64 [B, count]

    Example:
        >>> farthest_point_sampling(torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]]), 2)
        tensor([[0, 2]])

    Source: Qi et al., PointNet++, NeurIPS 2017.
    """
    size = _check_points(points).shape[1]
    if count < 1 or size < 1:
        raise UsageError(f"cannot sample {count} of {size} points; both must be at least 1")
    points = points.detach()
    if size <= kernels.LARGEST_SAMPLED and kernels.usable(points) and (start is None or start.device == points.device):
        return kernels.farthest_points(points, count, start)
    sample = _farthest_scanned if torch.compiler.is_exporting() else _farthest_uncompiled
    return sample(points, count, start)


def ball_query(points: Tensor, centers: Tensor, radius: float, count: int) -> Tensor:
    """Find the first ``count`` points in order of index that are closer to a center than ``radius``.

    If there are fewer, the first is repeated; if there is none, point 0 is. Squared distances come from one
    matrix product of coordinates about the middle of the cloud's bounding box: a point whose squared distance is within
    rounding (in float32 a few 1e-7 of the box's squared diagonal) of the radius's may fall on either side. The kernel
    computes them from differences, with that error relative to the distance itself.

    Shape: points [B, N, D], centers [B, M, D] -> int64 [B, M, count]
    Source: Qi et al., PointNet++, NeurIPS 2017 (strictly closer, as in github.com/charlesq34/pointnet2).
    """
    _check_ball(points, radius, count)
    size = points.shape[1]
    points, centers = points.detach(), centers.detach()
    if kernels.usable(points, centers):
        return kernels.points_in_balls(points, centers, float(radius), count)[0]

    def query(points: Tensor, centers: Tensor) -> Tensor:
        inside = squared_distances(centers, points) < radius * radius
        if torch.compiler.is_exporting():  # to ONNX, which has no searchsorted: a sort gives the same
            index = torch.where(inside, torch.arange(size, device=points.device), size)
            index = F.pad(index, (0, max(0, count - size)), value=size).topk(count, largest=False).values
            return torch.where(index == size, index[..., :1] % size, index)
        # The number of points up to each that are inside: the k-th inside is where it reaches k.
        rank = inside.cumsum(-1, dtype=torch.int32)
        wanted = torch.arange(1, count + 1, dtype=torch.int32, device=rank.device).expand(*rank.shape[:-1], count)
        index = torch.searchsorted(rank, wanted.contiguous())  # size where there is no k-th
        first = index[..., :1] % size  # an empty ball's is 0
        return torch.where(index == size, first, index)

    return _in_chunks(query, centers.shape[1] * size, points, centers)


def query_and_group(points: Tensor, centers: Tensor, radius: float, count: int) -> tuple[Tensor, Tensor]:
    """Return :func:`ball_query`, and the points relative to their center: one kernel where no gradient is needed.

    Shape: points [B, N, D], centers [B, M, D] -> int64 [B, M, count], [B, M, count, D]
    """
    differentiable = torch.is_grad_enabled() and (points.requires_grad or centers.requires_grad)
    if kernels.usable(points, centers) and not differentiable:
        _check_ball(points, radius, count)
        return kernels.points_in_balls(points, centers, float(radius), count)
    index = ball_query(points, centers, radius, count)
    return index, group(points, index) - centers[:, :, None]


def nearest_neighbors(points: Tensor, queries: Tensor, count: int) -> Tensor:
    """Find the ``count`` points nearest to each query, nearest first; a query that is a point finds itself.

    Distances as in :func:`ball_query`, compared in float32; ties go to the lowest index.

    Shape: points [B, N, D], queries [B, M, D] -> int64 [B, M, count]
    """
    size = _check_points(points).shape[1]
    if not 1 <= count <= size:
        raise UsageError(f"cannot find {count} nearest of {size} points; ask for 1 to {size}, or give more points")

    def query(points: Tensor, queries: Tensor) -> Tensor:
        distance = squared_distances(queries, points).float().clamp_min_(0)
        if torch.compiler.is_exporting():  # to ONNX, which cannot read floats as integers; its TopK settles ties itself
            return distance.topk(count, largest=False).indices
        # Non-negative floats are ordered as their bits are, and with the index below them no two keys are equal.
        keys = (distance.view(torch.int32).long() << 32) | torch.arange(size, device=points.device)
        return keys.topk(count, largest=False, sorted=True).values & 0xFFFFFFFF

    return _in_chunks(query, queries.shape[1] * size, points.detach(), queries.detach())


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Compute |a_i - b_j|^2 by one matrix product of coordinates about the middle of b's bounding box.

    Shape: a [B, M, D], b [B, N, D] -> [B, M, N]
    """
    low, high = b.aminmax(dim=1, keepdim=True)
    middle = (low + high) / 2
    a, b = a - middle, b - middle
    squared_a, squared_b = a.square().sum(-1), b.square().sum(-1)
    return torch.baddbmm(squared_b[:, None, :], a, b.mT, alpha=-2).add_(squared_a[..., None])


def group(features: Tensor, index: Tensor) -> Tensor:
    """Select rows of each cloud. The gradient is summed in a fixed order on any device.

    Shape: features [B, N, C], index int64 [B, ...] -> [B, ..., C]
    """
    return gather_rows(features.flatten(0, 1), flat_index(index, features.shape[1])).view(
        *index.shape, features.shape[-1]
    )


def flat_index(index: Tensor, size: int) -> Tensor:
    """Turn indices within clouds of ``size`` points, int64 [B, ...], into row numbers over all clouds, [B * ...]."""
    first = torch.arange(index.shape[0], device=index.device) * size
    return (index + first.view(-1, *[1] * (index.dim() - 1))).flatten()


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Compute ``rows[index]`` for [n, C] and int64 [R], with a gradient that is fast and summed in a fixed order."""
    if torch.is_grad_enabled() and rows.requires_grad:
        return _GatherRows.apply(rows, index)
    return rows.index_select(0, index)


def segment_order(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return positions [R] that sort ``index`` [R] stably, and where each value 0..size-1 begins among them [size]."""
    # The CPU sorts by radix, and the faster the shorter the keys.
    order = index.to(torch.int16 if size <= 1 << 15 else torch.int32).argsort(stable=True)
    counts = occurrences(index, size)
    return order, counts.cumsum(0) - counts


def occurrences(index: Tensor, size: int) -> Tensor:
    """Count each of the values 0..size-1 in ``index`` [R]. Sums of ones are the same in any order."""
    # torch.bincount would wait for the device to learn the largest value.
    return index.new_zeros(size).index_add_(0, index, torch.ones_like(index))


def segment_sum(rows: Tensor, index: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum ``weights[p] * rows[index[p]]`` over the segments of p that begin at ``offsets`` [n]: [n, C]."""
    return F.embedding_bag(index, rows, offsets, mode="sum", per_sample_weights=weights)


class _GatherRows(Operation):
    @staticmethod
    def forward(rows: Tensor, index: Tensor) -> Tensor:
        return rows.index_select(0, index)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        rows, index = inputs
        ctx.size = rows.shape[0]
        ctx.save_for_backward(index)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return segment_sum(gradient.contiguous(), *segment_order(index, ctx.size)), None


def _farthest(points: Tensor, count: int, start: Tensor | None) -> Tensor:
    planes, farthest, nearest = _before_sampling(points, start)
    result = [farthest]
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, _distances(planes, farthest), out=nearest)
        farthest = nearest.max(1, keepdim=True).indices
        result.append(farthest)
    return torch.cat(result, 1)


def _farthest_scanned(points: Tensor, count: int, start: Tensor | None) -> Tensor:
    """The same as one loop of an exported program; without, PointNet++ takes ten minutes to become an ONNX file."""
    from torch._higher_order_ops.scan import scan  # torch exports it, and has no public name for it yet

    def step(state: tuple[Tensor, Tensor], _: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        farthest, nearest = state
        nearest = torch.minimum(nearest, _distances(planes, farthest))
        return (nearest.max(1, keepdim=True).indices, nearest), farthest.clone()

    planes, *state = _before_sampling(points, start)
    _, chosen = scan(step, tuple(state), torch.arange(count, device=points.device))
    return chosen.squeeze(2).t()


def _before_sampling(points: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates [D, B, N], so that operations run along N; the first choice [B, 1]; distances to no point [B, N]."""
    batch, size, _ = points.shape
    planes = points.movedim(-1, 0).contiguous()
    first = torch.zeros(batch, 1, dtype=torch.int64, device=points.device) if start is None else start.view(batch, 1)
    return planes, first, planes.new_full((batch, size), torch.inf)


def _distances(planes: Tensor, farthest: Tensor) -> Tensor:
    """Squared distances [B, N] to the point chosen last, from differences, not norms: to a duplicate it has to be 0."""
    first, *others = (plane - plane.gather(1, farthest) for plane in planes.unbind())
    distance = first.square_()
    for difference in others:
        distance.addcmul_(difference, difference)
    return distance


_farthest_uncompiled = eager(_farthest)  # hundreds of iterations, each of which would be compiled


def _in_chunks(function: Callable[..., Tensor], entries: int, *tensors: Tensor) -> Tensor:
    """Call a function of [B, ...] tensors for a few clouds at a time; each cloud needs ``entries`` temporaries."""
    if torch.compiler.is_compiling():
        return function(*tensors)
    size = max(1, (1 << 19 if tensors[0].device.type == "cpu" else 1 << 27) // max(1, entries))
    return torch.cat([function(*chunk) for chunk in zip(*(t.split(size) for t in tensors), strict=True)])


def _check_points(points: Tensor) -> Tensor:
    if points.dim() != 3 or not points.is_floating_point():
        raise UsageError(f"points must be floating-point [B, N, D], one point a row, not {list(points.shape)}")
    return points


def _check_ball(points: Tensor, radius: float, count: int) -> None:
    _check_points(points)
    if not radius > 0 or count < 1:
        raise UsageError(f"a ball needs radius > 0 and count >= 1, not {radius} and {count}")
