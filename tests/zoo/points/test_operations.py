"""Sampling, neighborhoods, grouping and interpolation against loops in Python."""

import pytest
import torch
from torch import nn

from comhe.zoo.points import (
    ball_query,
    farthest_point_sampling,
    group,
    nearest_neighbors,
    query_and_group,
    squared_distances,
)


def random_points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid_points(batch, size, seed=0):
    """Quarters between -1 and 1: products and sums of them are exact, and there are many ties and duplicates."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, (batch, size, 3), generator=g) / 4


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))


def slow_sampling(cloud, count, start=0):
    chosen, nearest = [start], [float("inf")] * len(cloud)
    while len(chosen) < count:
        nearest = [min(old, distance(p, cloud[chosen[-1]])) for old, p in zip(nearest, cloud, strict=True)]
        chosen.append(nearest.index(max(nearest)))  # the first of equals
    return chosen


def slow_ball(cloud, center, radius, count):
    inside = [i for i, p in enumerate(cloud) if distance(p, center) < radius * radius][:count]
    return inside + [inside[0] if inside else 0] * (count - len(inside))


def slow_neighbors(cloud, query, count):
    return sorted(range(len(cloud)), key=lambda i: (distance(cloud[i], query), i))[:count]


@pytest.mark.parametrize("points", [random_points(3, 40, 3), grid_points(3, 40)], ids=["random", "grid"])
@pytest.mark.parametrize("count", [1, 12, 55])
def test_farthest_points(points, count):
    start = torch.tensor([7, 0, 39])
    expected = [slow_sampling(cloud, count, int(first)) for cloud, first in zip(points, start, strict=True)]
    assert farthest_point_sampling(points, count, start).tolist() == expected
    expected = [slow_sampling(cloud, count) for cloud in points]
    assert farthest_point_sampling(points, count).tolist() == expected


def test_sampling_is_one_loop_of_an_exported_program():
    class Sample(torch.nn.Module):
        def forward(self, points, start):
            return farthest_point_sampling(points, 40, start)

    points, start = torch.rand(3, 30, 3), torch.tensor([4, 0, 29])
    with torch.no_grad():
        program = torch.export.export(Sample(), (points, start))
    assert len(program.graph.nodes) < 40, "unrolled, every step has a dozen operations"
    assert program.module()(points, start).equal(farthest_point_sampling(points, 40, start))


def test_farthest_points_are_distinct_while_there_are_distinct_points():
    points = random_points(1, 5, 3)[:, [0, 0, 1, 2, 2, 2, 3, 4]]
    chosen = farthest_point_sampling(points, 8)[0].tolist()
    assert len({tuple(p) for p in points[0, chosen[:5]].tolist()}) == 5
    assert chosen[5:] == [0, 0, 0]


def test_a_farthest_point_sample_is_sampled_by_its_first_points():
    points = random_points(2, 60, 3)
    chosen = farthest_point_sampling(points, 20, torch.tensor([5, 9]))
    assert farthest_point_sampling(group(points, chosen), 8).equal(torch.arange(8).expand(2, 8))


@pytest.mark.parametrize("radius", [0.2, 0.25, 0.75, 5.0])  # 0.25 and 0.75 are distances on the grid
@pytest.mark.parametrize("count", [1, 6, 70])
def test_ball_query(radius, count):
    points, centers = grid_points(2, 50), grid_points(2, 9, seed=1)
    expected = [[slow_ball(cloud, c, radius, count) for c in cs] for cloud, cs in zip(points, centers, strict=True)]
    assert ball_query(points, centers, radius, count).tolist() == expected
    shifted = ball_query(points + 1024, centers + 1024, radius, count)  # far away, still exact in float32
    assert shifted.tolist() == expected


def test_ball_query_of_random_points_is_that_of_float64():
    points, centers = random_points(2, 200, 3), random_points(2, 30, 3, seed=1)
    exact = torch.cdist(centers.double(), points.double())
    radius = 0.6
    assert ((exact - radius).abs() > 1e-5).all()  # rounding cannot decide
    index = ball_query(points, centers, radius, 200)
    for b in range(2):
        for m in range(30):
            inside = (exact[b, m] < radius).nonzero().flatten().tolist() or [0]
            assert index[b, m].tolist() == inside + [inside[0]] * (200 - len(inside))


def test_grouped_points_lie_from_their_center_where_the_query_found_them():
    points, centers = random_points(2, 12, 3).double(), random_points(2, 4, 3, seed=1).double()
    index, offsets = query_and_group(points, centers, 0.9, 5)
    assert index.equal(ball_query(points, centers, 0.9, 5))
    for b in range(2):
        for m in range(4):
            assert offsets[b, m].equal(points[b, index[b, m]] - centers[b, m])
    assert torch.autograd.gradcheck(
        lambda p, c: query_and_group(p, c, 0.9, 5)[1], (points.requires_grad_(), centers.requires_grad_())
    )


def test_an_empty_ball_holds_the_first_point():
    assert ball_query(torch.ones(1, 4, 3), torch.zeros(1, 1, 3), 0.5, 3).tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize("points", [random_points(2, 30, 3), grid_points(2, 30)], ids=["random", "grid"])
@pytest.mark.parametrize("count", [1, 7, 30])
def test_nearest_neighbors(points, count):
    queries = torch.cat((points[:, :5], grid_points(2, 4, seed=1)), 1)
    expected = [[slow_neighbors(cloud, q, count) for q in qs] for cloud, qs in zip(points, queries, strict=True)]
    assert nearest_neighbors(points, queries, count).tolist() == expected
    assert nearest_neighbors(points, queries, count).equal(nearest_neighbors(points.double(), queries, count))


def test_distances_are_one_product(largest):
    points, queries = random_points(2, 50, 3) + 100, random_points(2, 40, 3, seed=1) + 100
    with largest:
        result = squared_distances(queries, points)
        ball_query(points, queries, 0.5, 4)
        nearest_neighbors(points, queries, 4)
    assert largest.numbers == 2 * 40 * 50
    exact = torch.cdist(queries.double(), points.double()) ** 2
    torch.testing.assert_close(result, exact.float(), atol=1e-5, rtol=1e-5)


def test_group_and_its_gradient():
    features = random_points(2, 6, 4).double().requires_grad_()
    index = torch.randint(6, (2, 5, 3), generator=torch.Generator().manual_seed(0))
    expected = torch.stack([features[b][index[b]] for b in range(2)])
    assert group(features, index).equal(expected)
    v = random_points(2, 5, 3, 4, seed=1).double()
    ours, theirs = (torch.autograd.grad(y, features, v)[0] for y in (group(features, index), expected))
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(lambda x: group(x, index), features)


def test_operations_can_be_exported():
    class Everything(nn.Module):
        def forward(self, points):
            centers = group(points, farthest_point_sampling(points, 6))
            index = ball_query(points, centers, 0.9, 4)
            features = group(points, index).flatten(2)
            return features, nearest_neighbors(points, centers, 3)

    points = random_points(2, 20, 3)
    program = torch.export.export(Everything(), (points,)).module()
    other = random_points(2, 20, 3, seed=5)
    for ours, theirs in zip(program(other), Everything()(other), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_errors_name_the_value():
    points = random_points(1, 5, 3)
    with pytest.raises(ValueError, match="cannot sample 0 of 5 points"):
        farthest_point_sampling(points, 0)
    with pytest.raises(ValueError, match=r"points must be floating-point \[B, N, D\].*not \[5, 3\]"):
        farthest_point_sampling(points[0], 2)
    with pytest.raises(ValueError, match="radius > 0 and count >= 1, not -1 and 4"):
        ball_query(points, points, -1, 4)
    with pytest.raises(ValueError, match=r"radius > 0 and count >= 1, not 0\.5 and 0"):
        query_and_group(points, points, 0.5, 0)
    with pytest.raises(ValueError, match="cannot find 6 nearest of 5 points"):
        nearest_neighbors(points, points, 6)
