"""Shapes become clouds of so many points: uniform by area on a mesh, a random subset of a cloud."""

import math

import numpy as np
import pytest
import torch

from comhe.datasets import DataError
from comhe.inputs.shapes import read_cloud, read_shape, sample_surface, turn

from .test_meshes import off
from .test_scans import npy


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


def test_a_mesh_without_area(tmp_path):
    (tmp_path / "a.off").write_bytes(off(polygons=[(0, 1, 1), (2, 2, 2)]))
    with pytest.raises(DataError, match=r"a\.off: a mesh has no area"):
        read_cloud(tmp_path / "a.off", 10, "a.off")


def test_clouds_of_fewer_and_of_more_points(tmp_path):
    points = np.random.default_rng(0).normal(size=(10, 3))
    (tmp_path / "a.npy").write_bytes(npy(points))
    few = read_cloud(tmp_path / "a.npy", 4, "a.npy")
    assert len(np.unique(few, axis=0)) == 4
    many = read_cloud(tmp_path / "a.npy", 35, "a.npy")
    _, counts = np.unique(many, axis=0, return_counts=True)
    assert sorted(counts) == [3] * 5 + [4] * 5, "all, and repeats of some"
    assert (many == read_cloud(tmp_path / "a.npy", 35, "a.npy")).all()
    assert (many != read_cloud(tmp_path / "a.npy", 35, "b.npy")).any(), "the name makes the draws"


@pytest.mark.parametrize(
    ("points", "message"), [(np.ones((1, 3)), "a cloud of 1 point"), (np.ones((9, 3)), "all points at one position")]
)
def test_degenerate_clouds(tmp_path, points, message):
    (tmp_path / "a.npy").write_bytes(npy(points))
    with pytest.raises(DataError, match=rf"a\.npy: .*{message}"):
        read_cloud(tmp_path / "a.npy", 10, "a.npy")


@pytest.mark.parametrize("source", "xyz")
@pytest.mark.parametrize("target", "xyz")
def test_turns_are_rotations_of_one_axis_onto_another(source, target):
    points = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(0))
    turned = turn(points, source, target)
    assert turned[..., "xyz".index(target)].equal(points[..., "xyz".index(source)])
    assert turned[..., 3:].equal(turn(points[..., 3:], source, target)), "normals turn as points do"
    assert torch.linalg.det(turn(torch.eye(3), source, target)) == 1
    assert turn(turned, target, source).equal(points)
    assert turn(torch.tensor([1.0, 2, 3]), "z", "y").tolist() == [1, 3, -2]


@pytest.mark.parametrize("first", [0, 1])
def test_a_first_column_that_numbers_the_points_is_not_their_x(tmp_path, first):
    path = tmp_path / "a.xyz"
    numbered = "".join(f"{i} {x} 0.5 {x * x}\n" for i, x in enumerate((0.5, 1.5, 3.0, 2.0), first))
    path.write_text(numbered)
    with pytest.raises(DataError, match="first column numbers the rows"):
        read_shape(path)
    path.write_text(f"# number x y z\n{numbered}")
    assert read_shape(path)[0][:, 0].tolist() == [0.5, 1.5, 3, 2]
    path.write_text("".join(f"{i} 0.5 {i * i}\n" for i in range(first, 4)))  # three columns are a cloud
    assert read_shape(path)[0][:, 0].tolist() == [*range(first, 4)]
