"""Points on meshes are uniform by area."""

import math

import torch

from comhe.datasets.points.shapes import sample_surface


def test_sampling_is_uniform_by_area():
    vertices = torch.tensor([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 5], [1, 0, 5], [0, 1, 5]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [4, 4, 5], [3, 4, 5]])  # areas 3, 0 and 1/2
    n = 40000
    points, normals = sample_surface(vertices[None], faces, n, torch.Generator().manual_seed(0))
    points = points[0]
    upper = points[:, 2] == 5
    assert abs(upper.double().mean() - 1 / 7) < 5 * math.sqrt(6 / 49 / n)
    assert torch.equal(normals, torch.tensor([0.0, 0, 1], dtype=torch.float64).expand(1, n, 3))
    lower = points[~upper]
    # In the triangle x / 3 + y / 2 <= 1: its centroid, and shares of equal parts of it.
    assert (lower.mean(0) - torch.tensor([1, 2 / 3, 0])).abs().max() < 0.03
    x, y = lower[:, 0] / 3, lower[:, 1] / 2
    assert min(x.min(), y.min()) >= 0
    assert (x + y).max() <= 1 + 1e-12
    for part in ((x < 0.5) & (y < 0.5) & (x + y < 0.5), x >= 0.5, y >= 0.5):
        assert abs(part.double().mean() - 0.25) < 5 * math.sqrt(3 / 16 / len(lower))


def test_sampling_many_meshes_at_once():
    vertices = torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(0))
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [0, 2, 4]])
    points, normals = sample_surface(vertices, faces, 500, torch.Generator().manual_seed(1))
    assert points.shape == normals.shape == (3, 500, 3)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(3, 500))
    # every point lies in the plane of a face whose normal it has
    for mesh in range(3):
        corner = vertices[mesh, faces[:, 0]]
        a, b, c = vertices[mesh][faces].unbind(1)
        plane = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        off_plane = ((points[mesh][:, None] - corner) * plane).sum(-1).abs()
        same = (normals[mesh][:, None] - plane).abs().sum(-1) < 1e-5
        assert (off_plane[same] < 1e-5).all()
        assert same.any(1).all()
