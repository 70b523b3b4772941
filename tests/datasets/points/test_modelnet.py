"""ModelNet-40: what is downloaded and unpacked, what is refused, and the census of the real one where it is."""

import hashlib
from dataclasses import replace

import pytest
import torch

from comhe.datasets import DataError, data_root, load_points
from comhe.datasets.io.files import missing
from comhe.datasets.points import modelnet
from comhe.datasets.points.hdf5 import is_h5_folder
from comhe.datasets.points.modelnet import FOLDERS

from ...inputs.test_meshes import off
from .test_clouds import check


def root_of(published):
    root = published.parents[1] / "root"
    root.mkdir()
    return root


def test_download(published):
    root = root_of(published)
    clouds = load_points("modelnet40", root)
    check(clouds, on_sphere=False)
    assert repr(clouds) == "Clouds('modelnet40', points=16, channels=3, classes=2, train=26, val=4, test=6)"
    assert [path.name for path in root.iterdir()] == ["modelnet40_ply_hdf5_2048"]
    assert len(list((root / "modelnet40_ply_hdf5_2048").iterdir())) == 6
    assert "modelnet40_ply_hdf5_2048; official test, 10 % of train held out" in clouds.source
    published.unlink()
    load_points("modelnet40", root)


def test_an_archive_that_lies_in_the_root_is_used_and_kept(published):
    root = root_of(published)
    published.rename(root / published.name)
    load_points("modelnet40", root)
    assert sorted(path.name for path in root.iterdir()) == ["modelnet40_ply_hdf5_2048", published.name]


def test_another_archive_is_refused(published):
    root = root_of(published)
    (root / published.name).write_bytes(published.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"sha256 is \w+\.\.\., not \w+\.\.\.; remove it") as caught:
        load_points("modelnet40", root)
    assert "\n" not in str(caught.value)
    assert [path.name for path in root.iterdir()] == [published.name]


def test_an_incomplete_folder_is_not_overwritten(published):
    root = root_of(published)
    (root / "modelnet40_ply_hdf5_2048").mkdir()
    (root / "modelnet40_ply_hdf5_2048" / "mine").touch()
    with pytest.raises(DataError, match=r"lacks train_files\.txt or shape_names\.txt"):
        load_points("modelnet40", root)
    assert (root / "modelnet40_ply_hdf5_2048" / "mine").exists()


def test_damage_in_an_archive_leaves_nothing(published, monkeypatch):
    root = root_of(published)
    data = bytearray(published.read_bytes())
    data[len(data) // 2] ^= 1
    published.write_bytes(data)
    release = replace(modelnet.HDF5, sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(modelnet, "HDF5", release)
    with pytest.raises(DataError, match="Bad CRC-32"):
        load_points("modelnet40", root)
    assert not any(path.is_dir() for path in root.iterdir())


def test_another_census_is_refused(published, monkeypatch):
    monkeypatch.setattr(modelnet, "CENSUS", ((31, 6),))
    with pytest.raises(DataError, match=r"not ModelNet-40: 30 \+ 6 clouds of 2 classes, not 31 \+ 6 of 2; .* folder:/"):
        load_points("modelnet40", root_of(published))


def test_the_published_sampling_comes_first(published, layout):
    other = layout.parent / "modelnet40_hdf5_1024"
    other.mkdir()
    for file in layout.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert "as modelnet40_ply_hdf5_2048" in load_points("modelnet40", layout.parent).source
    (layout / "train_files.txt").unlink()
    assert "as modelnet40_hdf5_1024" in load_points("modelnet40", layout.parent).source


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
    raise missing("nothing there", "offline")


def test_the_release_without_checksum_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr("comhe.datasets.points.modelnet.fetch", lambda *args: pytest.fail("went online"))
    with pytest.raises(DataError, match=r"no checksum of it is known: unpack https://\S+\.zip there"):
        load_points("modelnet40-normals", tmp_path)


def test_modelnet10(tmp_path, monkeypatch):
    monkeypatch.setattr(modelnet, "CENSUS10", (4, 2, 2))
    with pytest.raises(DataError, match=r"no ModelNet10 in .*: unpack http://\S+\.zip there"):
        load_points("modelnet10", tmp_path)
    for name in ("bed", "sofa"):
        for split, count in (("train", 2), ("test", 1)):
            for i in range(count):
                path = tmp_path / "ModelNet10" / name / split / f"{name}_{i}.off"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(off())
    (tmp_path / "ModelNet10" / "README.txt").write_text("the archive has one")
    (tmp_path / "ModelNet10" / ".DS_Store").write_text("and many of these")
    clouds = load_points("modelnet10", tmp_path)
    assert (clouds.classes, clouds.up, clouds.name) == (("bed", "sofa"), 2, "modelnet10")
    (tmp_path / "ModelNet10" / "bed" / "train" / "bed_9.off").write_bytes(off())
    with pytest.raises(DataError, match=r"not ModelNet-10: 5 \+ 2 shapes of 2 classes, not 3,991 \+ 908 of 10"):
        load_points("modelnet10", tmp_path)


# Models of each class, train and test, in alphabetical order, as the ModelNet project publishes them.
TRAIN = [626, 106, 515, 173, 572, 335, 64, 197, 889, 167, 79, 138, 200, 109, 200, 149, 171, 155, 145, 124]
TRAIN += [149, 284, 465, 200, 88, 231, 240, 104, 115, 128, 680, 124, 90, 392, 163, 344, 267, 475, 87, 103]
TEST = [100, 50, 100, 20, 100, 100, 20, 100, 100, 20, 20, 20, 86, 20, 86, 20, 100, 100, 20, 20]
TEST += [20, 100, 100, 86, 20, 100, 100, 20, 100, 20, 100, 20, 20, 100, 20, 100, 100, 100, 20, 20]


def test_census_of_the_real_modelnet40():
    if not any(is_h5_folder(data_root() / folder) for folder in FOLDERS):
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
    assert clouds.describe()["front"] == "-z"
    chairs = clouds.train.points[clouds.train.labels == clouds.classes.index("chair")]
    backs = torch.stack([chair[chair[:, 1] > chair[:, 1].quantile(0.75), 2].mean() for chair in chairs])
    assert (backs > 0).float().mean() > 0.99
    # y is up: people and bottles are tall, tables are flat
    for name, tall in (("person", True), ("bottle", True), ("table", False)):
        members = clouds.train.points[clouds.train.labels == clouds.classes.index(name)]
        extent = (members.amax(1) - members.amin(1)).mean(0)
        assert (extent.argmax() == clouds.up) == tall
