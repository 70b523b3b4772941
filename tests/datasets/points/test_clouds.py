"""Names, the census, and what holds for every set of clouds; the real ModelNet-40 where it is."""

import numpy as np
import pytest
import torch

from comhe.datasets import DataError, list_data, load_points
from comhe.datasets.points.clouds import HOLD_OUT_SEED, Clouds
from comhe.datasets.sampling import hold_out
from comhe.errors import ComheWarning
from comhe.inputs.files import text_seed
from comhe.inputs.shapes import check_clouds, unit_sphere

from ..conftest import some_clouds


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
        ("modelnet4", "did you mean modelnet40"),
        ("modelnet40-normal", "did you mean modelnet40-normals"),
        ("Solids", "did you mean solids"),
        ("folder:", "did you mean folder:PATH"),
        ("../solids", "did you mean solids"),
        ("", "there are folder-random0:PATH, folder:PATH, .*modelnet40"),
        ("zzz", "there are folder-random0:PATH, folder:PATH, .*modelnet40"),
    ],
)
def test_unknown_name(name, nearest):
    with pytest.raises(ValueError, match=f"^unknown data set '{name}' for points; {nearest}"):
        load_points(name)


def test_listed_names():
    files = ["folder-random0:PATH", "folder:PATH", "modelnet10", "modelnet40", "modelnet40-normals"]
    scans = ["scanobjectnn", "scanobjectnn-hardest", "scanobjectnn-objects"]
    assert list_data("points") == [*files, *scans, "solids", "solids-normals"]


@pytest.mark.parametrize("counts", [[100, 10, 14, 15, 25, 2], [9, 1], [3]])
def test_hold_out_is_a_tenth_of_each_class(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    train, val = hold_out(labels, 0.1, HOLD_OUT_SEED)
    assert sorted([*train, *val]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all()
    wanted = [max(round(n / 10 + 1e-9), 1) if n > 1 else 0 for n in counts]
    assert np.bincount(labels[val], minlength=len(counts)).tolist() == wanted
    again = hold_out(labels.copy(), 0.1, HOLD_OUT_SEED)
    assert (again[1] == val).all()


def test_hold_out_does_not_take_the_first():
    _, val = hold_out(np.zeros(1000, dtype=int), 0.1, HOLD_OUT_SEED)
    assert 350 < val.mean() < 650
    assert val.max() > 900


def test_nothing_to_hold_out_is_an_error():
    part = np.zeros((2, 4, 3)), np.array([0, 1])
    with pytest.raises(DataError, match="x: no class has two training samples"):
        Clouds.from_arrays("x", part, part)


def test_seeds_are_the_same_everywhere():
    assert text_seed("chair/train/chair_0001.off") == 1951507653
    assert len({text_seed(f"epoch {e} of seed {s}") for e in range(50) for s in range(50)}) == 2500


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
        (
            lambda p: p.__setitem__((2, slice(None), slice(0, 3)), 0.5),
            r"file: cloud 2 \(from 0\) has all points at one position",
        ),
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
    with pytest.raises(DataError, match=r"^file: a cloud of 1 point; at least 2 are needed$"):
        check_clouds(np.zeros((3, 1, 3)), "file")


def test_arrays_that_networks_cannot_use_are_told():
    clouds, labels = some_clouds(8), np.arange(8) % 2
    with pytest.raises(DataError, match="q: points of test are not finite"):
        Clouds.from_arrays("q", (clouds, labels), (clouds * np.nan, labels))
    with pytest.warns(ComheWarning, match="q: a point of train is .* from the origin; networks expect clouds that are"):
        Clouds.from_arrays("q", (clouds + 5e3, labels), (clouds, labels))
    for bad in (clouds * 1j, clouds > 0, clouds.astype(str), clouds.swapaxes(1, 2), clouds[:, :, 0]):
        with pytest.raises(DataError, match=r"^q: points are \S+ \[.*\], not numbers \[n, P, 3\] or \[n, P, 6\]$"):
            Clouds.from_arrays("q", (bad, labels), (bad, labels))
