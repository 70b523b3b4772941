"""Farthest point sampling as a kernel against PyTorch's operation and float64."""

import pytest
import torch

from comhe.zoo.points import farthest_point_sampling

from .conftest import grid_points, random_points

pytest.importorskip("triton")

from comhe.zoo.points.kernels.ball import points_in_balls
from comhe.zoo.points.kernels.farthest import farthest_points


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize(("batch", "size", "count"), [(1, 1, 3), (3, 5, 9), (3, 33, 12), (1, 600, 8), (2, 40, 1)])
def test_farthest_points_are_those_of_the_operation(device, batch, size, count, dimension):
    points = grid_points(batch, size, dimension)
    start = torch.arange(batch) % size
    for first in (None, start, start.flip(0) + size - batch if size >= batch else None):
        expected = farthest_point_sampling(points, count, first)
        got = farthest_points(points.to(device), count, None if first is None else first.to(device))
        assert got.cpu().equal(expected)


def test_every_farthest_point_is_as_far_as_any_in_float64(device):
    points, start = random_points(2, 300, 3) + 10, torch.tensor([299, 7])
    chosen = farthest_points(points.to(device), 40, start.to(device)).cpu()
    assert chosen[:, 0].equal(start)
    distance = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    for cloud, indices in zip(distance, chosen, strict=True):
        assert len(indices.unique()) == 40
        for t in range(1, 40):
            nearest = cloud[:, indices[:t]].amin(1)
            assert nearest[indices[t]] >= nearest.max() * (1 - 1e-6)


def test_a_duplicate_is_at_distance_zero_and_an_exhausted_cloud_gives_point_0(device):
    few = random_points(1, 4, 3)[:, [0, 1, 1, 2, 3, 3, 0]] * 1e3
    chosen = farthest_points(few.to(device), 7, None)[0].tolist()
    assert sorted(chosen[:4]) == [0, 1, 3, 4]
    assert chosen[4:] == [0, 0, 0]
    same = torch.full((2, 9, 3), 0.1, device=device)
    assert farthest_points(same, 4, torch.tensor([5, 8], device=device)).tolist() == [[5, 0, 0, 0], [8, 0, 0, 0]]


@pytest.mark.filterwarnings("ignore:invalid value")  # of NumPy, in the interpreter
def test_bad_numbers_never_lead_outside_the_cloud(device):
    points = random_points(1, 10, 3)
    points[0, 3:5] = torch.nan
    points[0, 7] = torch.inf
    points = points.to(device)
    chosen = farthest_points(points, 10, None)
    assert ((chosen >= 0) & (chosen < 10)).all()
    index, _ = points_in_balls(points, points, 2.0, 12)
    assert ((index >= 0) & (index < 10)).all()
    assert farthest_points(points, 3, torch.tensor([10], device=device))[0, 0] == 10  # for the lookup to refuse
