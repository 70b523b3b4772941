"""Folders of shapes by class."""

import itertools

import numpy as np
import pytest
import torch

from comhe.datasets import DataError, load_points
from comhe.datasets.points import folder as shape_folders
from comhe.errors import ComheWarning

from ...inputs.test_meshes import VERTICES, off, ply
from ...inputs.test_scans import CLOUDS, npy
from ..conftest import some_clouds
from .test_clouds import check


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture(params=["split first", "class first"])
def folder(request, tmp_path):
    """Squares and needles, 12 to train and 2 to test of each, in files of all kinds."""
    kinds = {"off": off(), "ply": ply("<"), "npy": npy(VERTICES), "xyz": CLOUDS["a.xyz"]}
    for split, count in (("train", 12), ("test", 2)):
        for name, stretch in (("needle", 9), ("square", 1)):
            for i in range(count):
                suffix = list(kinds)[i % 4]
                data = kinds[suffix] if stretch == 1 else off(VERTICES * [1, 1, stretch])
                suffix = suffix if stretch == 1 else "off"
                parts = (split, name) if request.param == "split first" else (name, split)
                put(tmp_path / "shapes" / parts[0] / parts[1] / f"{name}{i:02}.{suffix}", data)
    put(tmp_path / "shapes" / ".hidden", b"")
    put(tmp_path / "shapes" / "README", b"")
    put(tmp_path / "shapes" / "desktop.ini", b"")
    return tmp_path / "shapes"


def put_in(folder, outer):
    """The folder as it is found in another one, without its files."""
    outer.mkdir()
    (outer / folder.name).symlink_to(folder)
    return outer


def load(folder):
    return load_points(f"folder:{folder}", folder.parent)


def test_folder(folder):
    clouds = load(folder)
    check(clouds)
    assert clouds.classes == ("needle", "square")
    assert clouds.num_points == 2048
    assert (len(clouds.train), len(clouds.val), len(clouds.test)) == (22, 2, 4)
    assert clouds.test.labels.tolist() == [0, 0, 1, 1]
    assert clouds.up == 2
    height = (clouds.train.points.amax(1) - clouds.train.points.amin(1))[:, 2]
    assert torch.equal(height > 1.5, clouds.train.labels == 0)


def test_folder_of_its_own_validation(folder):
    for name in ("needle", "square"):
        for parts in (("val", name), (name, "val")):
            if (folder / parts[0]).is_dir() or (folder / "train").is_dir():
                put(folder / parts[0] / parts[1] / "a.off", off())
                break
    clouds = load(folder)
    assert (len(clouds.train), len(clouds.val), len(clouds.test)) == (24, 2, 4)
    assert "its own split" in clouds.source


def test_a_cloud_does_not_depend_on_the_other_files(folder):
    before = load(folder).test
    victim = next(folder.rglob("needle00.off"))
    victim.unlink()
    after = load(folder).test
    kept = [0, 1, 2, 3] if "train" in victim.parts else [1, 2, 3]
    assert torch.equal(after.points, before.points[kept])


def test_two_files_with_one_mesh_are_sampled_apart(folder):
    clouds = load(folder)
    assert not torch.equal(clouds.train.points[0], clouds.train.points[1])


def test_folder_is_read_once(folder, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(shape_folders, "read_cloud", lambda *args: pytest.fail("read again"))
    again = load(folder)
    assert torch.equal(first.train.points, again.train.points)


def test_bad_folders(folder, tmp_path):
    with pytest.raises(DataError, match=r"folder:.*nowhere: no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no train/<class>.*; its data may be folder:.*outer/shapes$"):
        load(put_in(folder, tmp_path / "outer"))
    with pytest.raises(DataError, match="empty: has no train/<class>"):
        load(tmp_path / "empty")
    bad = next(folder.rglob("square01.ply"))
    bad.write_bytes(bad.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"^{bad}: not a PLY file .*early end-of-file"):
        load(folder)
    assert not list(tmp_path.glob("*.safetensors")), "nothing half-loaded is kept"
    bad.with_suffix(".glb").touch()
    with pytest.raises(DataError, match=r"square01\.glb: not one of \.off.*; keep it outside of the classes"):
        load(folder)
    bad.with_suffix(".glb").unlink()
    parts = ("test", "cube") if (folder / "test").is_dir() else ("cube", "test")
    put(folder.joinpath(*parts, "a.off"), off())
    with pytest.raises(DataError, match=r"cube.*a\.off: class 'cube' of test has no shape in train"):
        load(folder)


@pytest.mark.parametrize("name", ["valid", "Validation"])
def test_shapes_to_validate_have_several_names(tmp_path, name):
    for split, count in (("train", 3), (name, 2), ("Test", 1)):
        for kind in "ab":
            for i in range(count):
                put(tmp_path / split / kind / "deeper" / f"{i}.off", off())
                put(tmp_path / split / kind / "Thumbs.db", b"")
    clouds = load(tmp_path)
    assert [len(clouds.get_split(split)) for split in ("train", "val", "test")] == [6, 4, 2]
    put(tmp_path / "holdout" / "a" / "0.off", off())
    with pytest.raises(
        DataError, match="holdout: has classes of train, but is not named as a split; keep it elsewhere"
    ):
        load(tmp_path)


def test_shapes_in_no_class_of_a_split_are_told(tmp_path):
    for split, name in itertools.product(("train", "test"), "ab"):
        for i in range(3):
            put(tmp_path / split / name / f"{i}.off", off())
    for name in ("holdout/0.off", "test-mixed/c/0.ply", "train/0.xyz", "docs/README.md", "train/list.json"):
        put(tmp_path / name, off())
    with pytest.warns(UserWarning, match="not used, in no class of a split: holdout, test-mixed, train/0.xyz; name a"):
        assert load(tmp_path).classes == ("a", "b")


def test_shapes_to_validate_are_tested_where_there_are_no_others(tmp_path):
    for split in ("train", "val"):
        for kind in "ab":
            for i in range(3):
                put(tmp_path / split / kind / f"{i}.off", off())
    clouds = load(tmp_path)
    assert [len(clouds.get_split(split)) for split in ("train", "val", "test")] == [4, 2, 6]


def test_classes_without_splits(tmp_path):
    for kind in "ab":
        for i in range(10):
            put(tmp_path / kind / f"{i}.off", off())
            put(tmp_path / kind / f"{i}.mtl", b"")
    clouds = load(tmp_path)
    assert [len(clouds.get_split(split)) for split in ("train", "val", "test")] == [14, 2, 4]
    assert clouds.source.endswith("20% of each class drawn to test; 10 % of train held out")
    every = torch.cat([clouds.get_split(split).points for split in ("train", "val", "test")])
    assert len(every.flatten(1).unique(dim=0)) == 20
    assert load(tmp_path).test.points.equal(clouds.test.points)
    one, two = (load_points(f"folder-random{seed}:{tmp_path}", tmp_path.parent) for seed in (1, 2))
    assert "seed 1" in one.source
    assert not one.test.points.equal(two.test.points)


@pytest.mark.parametrize("layout", ["{name}", "{split}/{name}", "{name}/{split}"])
def test_folders_without_a_shape_are_told(tmp_path, layout):
    for split, name in itertools.product(("train", "test"), "ab"):
        for i in range(3):
            put(tmp_path / layout.format(split=split, name=name) / f"{i}.off", off())
    for name in ("empty", "skins"):
        empty = layout.format(split="train", name=name)
        (tmp_path / empty).mkdir(parents=True)
    put(tmp_path / empty / "a.jpg", b"")
    put(tmp_path / ".git" / "a.off", b"")
    with pytest.warns(UserWarning, match=rf": not used, without a shape: \S*empty\S*, {empty}$"):
        assert load(tmp_path).classes == ("a", "b")


def test_shapes_next_to_classes_are_told(tmp_path):
    for kind in "ab":
        for i in range(4):
            put(tmp_path / kind / f"{i}.off", off())
    put(tmp_path / "stray.OFF", off())
    put(tmp_path / "classes.txt", b"a\nb\n")
    with pytest.warns(UserWarning, match=r": not used, in no folder of a class: stray\.OFF; move them to \S+/CLASS/$"):
        assert len(load(tmp_path).train) + len(load(tmp_path).val) + len(load(tmp_path).test) == 8


def test_folders_next_to_classes_that_are_none_are_told(tmp_path):
    for kind in "ab":
        for i in range(4):
            put(tmp_path / kind / f"{kind}{i}" / "model.off", off())
            put(tmp_path / kind / f"{kind}{i}" / "model.json", b"{}")
            put(tmp_path / kind / f"{kind}{i}" / "model.solid.binvox", b"#binvox")
    put(tmp_path / "train_test_split" / "list.json", b"[]")
    put(tmp_path / "docs" / "README.md", b"x")
    for _ in range(2):  # the second time there is a cache
        with pytest.warns(UserWarning, match=": not used, without a shape: docs, train_test_split$"):
            assert load_points(f"folder:{tmp_path}", tmp_path / "cache").classes == ("a", "b")
    put(tmp_path / "c" / "0.las", b"LASF")
    with pytest.raises(DataError, match=r"c/0\.las: not one of \.off.*; keep it outside of the classes"):
        load(tmp_path)


def test_a_class_without_splits_next_to_some_that_have_them(tmp_path):
    for split, name in itertools.product(("train", "test"), "ab"):
        for i in range(2):
            put(tmp_path / name / split / f"{i}.off", off())
    put(tmp_path / "readme" / "a.md", b"")
    with pytest.warns(UserWarning, match=": not used, without a shape: readme$"):
        load(tmp_path)
    put(tmp_path / "c" / "0.las", b"LASF")
    with pytest.raises(DataError, match="c: has no train and test in it, as other classes have; keep it elsewhere"):
        load(tmp_path)


def test_lists_of_splits_are_not_passed_over(tmp_path):
    for kind in "ab":
        put(tmp_path / kind / "0.txt", CLOUDS["a.txt"])
    put(tmp_path / "modelnet40_train.txt", b"a_0001")
    with pytest.raises(DataError, match=r"modelnet40_train\.txt: a list of a split.*modelnet40-normals"):
        load(tmp_path)


def test_which_axis_is_up_is_said_and_nothing_is_turned(folder):
    clouds, other = load(folder), load_points(f"folder:{folder}", folder.parent, up="x")
    assert (clouds.up, other.up) == (2, 0)
    assert other.name == f"folder-up-x:{folder}"
    assert other.train.points.equal(clouds.train.points)
    assert load_points(other.name, folder.parent).up == 0
    assert other.describe()["up"] == "x"
    assert other.describe()["front"] == "not stated"
    upright = clouds.turned("y")
    assert upright.up == 1
    height = (upright.train.points.amax(1) - upright.train.points.amin(1))[:, 1]
    assert torch.equal(height > 1.5, clouds.train.labels == 0)
    with pytest.raises(ValueError, match=r"'solids' has its axes, so up='z' cannot be said of it"):
        load_points("solids", up="z")
    with pytest.raises(ValueError, match="up must be 'x' or 'y' or 'z', not 'up'"):
        load_points(f"folder:{folder}", up="up")


def test_a_split_may_be_a_link_to_a_folder_next_to_it(tmp_path):
    for split in ("shapes", "test"):
        for name in "ab":
            for i in range(2):
                put(tmp_path / "set" / split / name / f"{i}.off", off())
    (tmp_path / "set" / "train").symlink_to(tmp_path / "set" / "shapes")
    assert load(tmp_path / "set").num_classes == 2


def test_one_class_and_what_is_no_folder(tmp_path):
    for split in ("train", "test"):
        put(tmp_path / "set" / split / "clouds" / "a.off", off())
    with pytest.raises(DataError, match="has one class only, 'clouds'"):
        load(tmp_path / "set")
    with pytest.raises(DataError, match=r"a\.off: a file; name the folder that has a folder for each .*/set$"):
        load(tmp_path / "set/train/clouds/a.off")
    with pytest.raises(
        DataError, match=r"of two classes; if its shapes are of one class, name .*: folder:.*/set/train$"
    ):
        load(tmp_path / "set/train/clouds")


def test_a_class_that_is_never_tested_is_told(tmp_path):
    for split, classes in (("train", "abc"), ("test", "ab")):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                np.save(tmp_path / split / name / f"{i}.npy", some_clouds(1)[0] + i)
    with pytest.warns(ComheWarning, match="test has no shape of c"):
        assert load_points(f"folder:{tmp_path}", root=tmp_path / "cache").num_classes == 3


def test_a_shape_in_two_formats_does_not_count_twice(tmp_path):
    for name in "ab":
        for i in range(4):
            put(tmp_path / "shapes" / name / f"{i}.off", off())
    assert len(load(tmp_path / "shapes").train) == 4
    twice = tmp_path / "shapes" / "b" / "1.ply"
    put(twice, ply("<"))
    with pytest.raises(DataError, match=f"{twice}: the same shape as 1.off, by its name.* keep one of them, or rename"):
        load(tmp_path / "shapes")


@pytest.mark.parametrize("name", ["train", "test", "val", "dev"])
def test_a_class_may_have_the_name_of_a_split(tmp_path, name):
    for kind in ("airplane", "car", name):
        for i in range(5):
            put(tmp_path / "shapes" / kind / f"{i}.off", off())
    assert load(tmp_path / "shapes").classes == tuple(sorted(("airplane", "car", name)))


def test_shapes_in_splits_without_classes_have_no_labels(tmp_path):
    for split in ("train", "test"):
        put(tmp_path / split / "0.off", off())
    with pytest.raises(DataError, match="test, train are no classes, so what is in them has no labels"):
        load(tmp_path)


def test_a_class_in_other_letters_is_told(tmp_path):
    for path in ("train/Cat", "train/dog", "test/cat", "test/dog"):
        put(tmp_path / path / "0.off", off())
    with pytest.raises(DataError, match="class 'cat' of test has no shape in train; 'Cat' is there, which differs"):
        load(tmp_path)
