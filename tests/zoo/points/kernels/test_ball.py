"""Ball query and grouping as a kernel against PyTorch's operation and float64."""

import pytest
import torch

from comhe.zoo.points import group, query_and_group

from .conftest import grid_points, random_points

pytest.importorskip("triton")

from comhe.zoo.points.kernels.ball import points_in_balls
from comhe.zoo.points.kernels.farthest import farthest_points


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("radius", [0.2, 0.25, 0.75, 5.0])  # 0.25 and 0.75 are distances on the grid
@pytest.mark.parametrize(("batch", "size", "number", "count"), [(1, 1, 1, 1), (3, 50, 4, 6), (1, 300, 3, 280)])
def test_balls_are_those_of_the_operation(device, batch, size, number, count, radius, dimension):
    points, centers = grid_points(batch, size, dimension), grid_points(batch, number, dimension, seed=1)
    expected = query_and_group(points, centers, radius, count)
    for ours, theirs in zip(
        points_in_balls(points.to(device), centers.to(device), radius, count), expected, strict=True
    ):
        assert ours.cpu().equal(theirs)


def test_balls_of_random_points_are_those_of_float64(device):
    points, centers, radius = random_points(2, 520, 3), random_points(2, 6, 3, seed=1) * 1.5, 0.6
    exact = torch.cdist(centers.double(), points.double())
    assert ((exact - radius).abs() > 1e-6).all()  # rounding cannot decide
    for count in (3, 600):
        index, offsets = (t.cpu() for t in points_in_balls(points.to(device), centers.to(device), radius, count))
        assert offsets.equal(group(points, index) - centers[:, :, None])
        index = index.tolist()
        for b in range(2):
            for m in range(6):
                inside = (exact[b, m] < radius).nonzero().flatten().tolist()[:count]
                assert index[b][m] == inside + (inside or [0])[:1] * (count - len(inside))
    assert not (exact < radius).any(-1).all()  # some ball is empty


def test_views_are_read_as_what_they_show(device):
    wide = grid_points(2, 20, 6).to(device)
    points, centers = wide[..., :3], wide[:, ::3, 3:]
    start = torch.tensor([[4, 1], [9, 1]], device=device)[:, 0]
    assert farthest_points(points, 6, start).equal(farthest_points(points.contiguous(), 6, start.contiguous()))
    same = points_in_balls(points.contiguous(), centers.contiguous(), 0.6, 4)
    assert all(map(torch.equal, points_in_balls(points, centers, 0.6, 4), same))
