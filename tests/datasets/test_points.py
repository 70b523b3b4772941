"""Names, the census, and what holds for every set of clouds; the real ModelNet-40 where it is."""

import numpy as np
import pytest
import torch

from comhe.datasets import DataError, data_root
from comhe.datasets.points.clouds import Clouds, as_splits, check_clouds, hold_out, seed_of, unit_sphere
from comhe.datasets.points.h5 import is_h5_layout
from comhe.datasets.points.load import list_points, load_points
from comhe.datasets.points.modelnet import FOLDERS


def check(clouds: Clouds, on_sphere: bool = True):
    """The invariants that `Clouds` promises."""
    for part in (clouds.train, clouds.val, clouds.test):
        assert part.points.dtype == torch.float32
        assert part.labels.dtype == torch.int64
        assert part.points.shape == (len(part), clouds.num_points, clouds.num_channels)
        assert part.labels.shape == (len(part),)
        assert len(part) > 0
        assert torch.isfinite(part.points).all()
        assert 0 <= part.labels.min() <= part.labels.max() < clouds.num_classes
        if on_sphere:
            places = part.points[..., :3]
            assert places.mean(1).abs().max() < 1e-5
            torch.testing.assert_close(places.norm(dim=-1).amax(1), torch.ones(len(part)))
    assert len(clouds.train.labels.unique()) == clouds.num_classes
    assert len(set(clouds.classes)) == clouds.num_classes
    assert clouds.up in (0, 1, 2)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("modelnet4", "nearest: modelnet40"),
        ("modelnet40-normal", "nearest: modelnet40-normals"),
        ("Solids", "nearest: solids"),
        ("folder:", "nearest: folder:PATH"),
        ("../solids", "nearest: solids"),
        ("", "known: modelnet40, .*folder:PATH"),
        ("zzz", "known: modelnet40, .*folder:PATH"),
    ],
)
def test_unknown_name(name, nearest):
    with pytest.raises(ValueError, match=f"^unknown points '{name}'; {nearest}"):
        load_points(name)


def test_listed_names():
    assert list_points() == ["modelnet40", "modelnet40-normals", "solids", "solids-normals", "folder:PATH"]


@pytest.mark.parametrize("name", ["modelnet40", "modelnet40-normals", "folder:no/such/folder"])
def test_missing_data_says_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.setattr("comhe.datasets.points.modelnet.fetch", _offline)
    with pytest.raises(DataError) as caught:
        load_points(name, tmp_path)
    assert isinstance(caught.value, FileNotFoundError)
    assert "\n" not in str(caught.value)
    assert "no such folder" in str(caught.value) or "--data-root or $COMHE_DATA" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def _offline(*args):
    raise DataError("offline")


def test_the_release_without_checksum_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr("comhe.datasets.points.modelnet.fetch", lambda *args: pytest.fail("went online"))
    with pytest.raises(DataError, match=r"no checksum of it is known for certain: unpack https://\S+\.zip there"):
        load_points("modelnet40-normals", tmp_path)


@pytest.mark.parametrize("counts", [[100, 10, 14, 15, 25, 2], [9, 1], [3]])
def test_hold_out_is_a_tenth_of_each_class(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    train, val = hold_out(labels)
    assert sorted([*train, *val]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    wanted = [max(round(n / 10 + 1e-9), 1) if n > 1 else 0 for n in counts]
    assert np.bincount(labels[val], minlength=len(counts)).tolist() == wanted
    again = hold_out(labels.copy())
    assert (again[1] == val).all()


def test_hold_out_does_not_take_the_first():
    _, val = hold_out(np.zeros(1000, dtype=int))
    assert 350 < val.mean() < 650
    assert val.max() > 900


def test_nothing_to_hold_out_is_an_error():
    part = np.zeros((2, 4, 3)), np.array([0, 1])
    with pytest.raises(DataError, match="x: no class has two clouds"):
        as_splits({"train": part, "test": part}, "x")


def test_seeds_are_the_same_everywhere():
    assert seed_of("chair/train/chair_0001.off") == 1951507653
    assert len({seed_of(f"epoch {e} of seed {s}") for e in range(50) for s in range(50)}) == 2500


def test_unit_sphere():
    points = np.random.default_rng(0).normal(3, 7, (50, 6))
    result = unit_sphere(points)
    assert np.abs(result[:, :3].mean(0)).max() < 1e-14
    assert np.linalg.norm(result[:, :3], axis=1).max() == pytest.approx(1)
    assert (result[:, 3:] == points[:, 3:]).all()
    # the same shape: all distances by one factor
    before, after = (np.linalg.norm(p[:, None, :3] - p[None, :, :3], axis=-1) for p in (points, result))
    assert np.allclose(before * after.max(), after * before.max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.__setitem__((1, 2, 0), np.nan), r"file: cloud 1 \(from 0\) has a value that is not finite"),
        (lambda p: p.__setitem__((2, 0, 5), -np.inf), r"file: cloud 2 \(from 0\) has a value that is not finite"),
        (lambda p: p.__setitem__((0, 3, 1), 2e15), r"file: cloud 0 .* beyond 1e\+15"),
        (lambda p: p.__setitem__((2, slice(None), slice(0, 3)), 0.5), r"file: cloud 2 \(from 0\) has only one place"),
    ],
)
def test_bad_clouds_are_named(change, message):
    points = np.random.default_rng(0).normal(size=(3, 5, 6))
    check_clouds(points, "file")
    change(points)
    with pytest.raises(DataError, match=f"^{message}") as caught:
        check_clouds(points, "file")
    assert "\n" not in str(caught.value)


def test_a_cloud_of_one_point_is_refused():
    with pytest.raises(DataError, match=r"^file: a cloud of 1 point; there have to be 2 at least$"):
        check_clouds(np.zeros((3, 1, 3)), "file")


# Models of each class, train and test, in alphabetical order, as the ModelNet project publishes them.
TRAIN = [626, 106, 515, 173, 572, 335, 64, 197, 889, 167, 79, 138, 200, 109, 200, 149, 171, 155, 145, 124]
TRAIN += [149, 284, 465, 200, 88, 231, 240, 104, 115, 128, 680, 124, 90, 392, 163, 344, 267, 475, 87, 103]
TEST = [100, 50, 100, 20, 100, 100, 20, 100, 100, 20, 20, 20, 86, 20, 86, 20, 100, 100, 20, 20]
TEST += [20, 100, 100, 86, 20, 100, 100, 20, 100, 20, 100, 20, 20, 100, 20, 100, 100, 100, 20, 20]


def test_census_of_the_real_modelnet40():
    if not any(is_h5_layout(data_root() / folder) for folder in FOLDERS):
        pytest.skip(f"none of {', '.join(FOLDERS)} in the data root; set $COMHE_DATA to test it")
    clouds = load_points("modelnet40")
    check(clouds, on_sphere=False)
    for part in (clouds.train, clouds.val, clouds.test):
        radii = part.points.norm(dim=-1).amax(1)
        assert (radii - 1).abs().max() < 2e-3  # as published: the sphere's radius to a thousandth
        assert part.points.mean(1).abs().max() < 2e-3
    assert clouds.classes[:3] + clouds.classes[-2:] == ("airplane", "bathtub", "bed", "wardrobe", "xbox")
    assert list(clouds.classes) == sorted(clouds.classes)
    train, val, test = (part.labels.bincount().tolist() for part in (clouds.train, clouds.val, clouds.test))
    both = [a + b for a, b in zip(train, val, strict=True)]
    assert test == TEST
    assert sum(TRAIN) - sum(both) in (0, 3)  # the published HDF5 files lack three
    assert all(0 <= a - b <= 3 for a, b in zip(TRAIN, both, strict=True))
    assert val == [(n + 5) // 10 for n in both]
    assert clouds.num_points in (1024, 2048)
    # y is up: people and bottles are tall, tables are flat
    for name, tall in (("person", True), ("bottle", True), ("table", False)):
        members = clouds.train.points[clouds.train.labels == clouds.classes.index(name)]
        extent = (members.amax(1) - members.amin(1)).mean(0)
        assert (extent.argmax() == clouds.up) == tall
