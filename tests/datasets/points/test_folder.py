"""Folders of shapes by class."""

import pytest
import torch

from comhe.datasets import DataError, load_points
from comhe.datasets.points import folder as shape_folders

from .test_clouds import check
from .test_shapes import CLOUDS, npy
from .test_shapes_meshes import VERTICES, off, ply


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
    return tmp_path / "shapes"


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
    with pytest.raises(DataError, match="empty: has no train/<class>"):
        load(tmp_path / "empty")
    bad = next(folder.rglob("square01.ply"))
    bad.write_bytes(bad.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"^{bad}: not a PLY file .*early end-of-file"):
        load(folder)
    assert not list(tmp_path.glob("*.safetensors")), "nothing half-loaded is kept"
    bad.with_suffix(".obj").touch()
    with pytest.raises(DataError, match=r"square01\.obj: not one of \.off"):
        load(folder)
    bad.with_suffix(".obj").unlink()
    parts = ("test", "cube") if (folder / "test").is_dir() else ("cube", "test")
    put(folder.joinpath(*parts, "a.off"), off())
    with pytest.raises(DataError, match=r"cube.*a\.off: class 'cube' of test has no shape in train"):
        load(folder)
