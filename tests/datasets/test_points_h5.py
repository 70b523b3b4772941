"""PointNet's layout: read as it is, or one clear line; on tiny files written here."""

import hashlib
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from comhe.datasets import DataError, MissingDataError
from comhe.datasets.points import modelnet
from comhe.datasets.points.h5 import load_h5_layout, read_h5, read_lines
from comhe.datasets.points.load import load_points

from .test_points import check

POINTS = 16


def some_clouds(count, points=POINTS, seed=0):
    return np.random.default_rng(seed).normal(size=(count, points, 3)).astype(np.float32)


def write(path, data, label, **more):
    with h5py.File(path, "w") as file:
        for key, value in {"data": data, "label": label, **more}.items():
            file.create_dataset(key, data=value, compression="gzip" if key == "label" else None)


@pytest.fixture
def layout(tmp_path):
    """Two classes; 20 + 10 clouds to train in two files, 6 to test; listed as the published files are."""
    folder = tmp_path / "modelnet40_ply_hdf5_2048"
    folder.mkdir()
    for name, count in (("train0", 20), ("train1", 10), ("test0", 6)):
        labels = (np.arange(count) % 2).astype(np.uint8)[:, None]
        write(folder / f"ply_data_{name}.h5", some_clouds(count, seed=count), labels, normal=some_clouds(count))
    names = "data/modelnet40_ply_hdf5_2048/ply_data_train0.h5\ndata/modelnet40_ply_hdf5_2048/ply_data_train1.h5\n"
    (folder / "train_files.txt").write_text(names)
    (folder / "test_files.txt").write_text("ply_data_test0.h5")
    (folder / "shape_names.txt").write_text("airplane\r\nxbox\r\n")
    return folder


def test_layout(layout):
    parts, classes = load_h5_layout(layout)
    assert classes == ("airplane", "xbox")
    points, labels = parts["train"]
    assert (points == np.concatenate([some_clouds(20, seed=20), some_clouds(10, seed=10)])).all()
    assert points.dtype == np.float32
    assert labels.tolist() == [0, 1] * 15
    assert labels.dtype == np.int64
    assert (parts["test"][0] == some_clouds(6, seed=6)).all()


def test_as_a_folder_of_ones_own(layout):
    clouds = load_points(f"folder:{layout}", root="no/such/folder")
    check(clouds, on_sphere=False)
    assert (len(clouds.train), len(clouds.val), len(clouds.test)) == (26, 4, 6)
    assert clouds.val.labels.bincount().tolist() == [2, 2]
    both = torch.cat([clouds.train.points, clouds.val.points])
    stored = torch.as_tensor(load_h5_layout(layout)[0]["train"][0])
    assert sorted(both.flatten(1).tolist()) == sorted(stored.flatten(1).tolist())
    assert clouds.up == 1


@pytest.mark.parametrize("kind", [np.float64, np.float16, ">f4"])
@pytest.mark.parametrize("label", [np.int64([1, 0]), np.int32([[1], [0]]), np.uint8([[1], [0]])])
def test_types(tmp_path, kind, label):
    write(tmp_path / "a.h5", some_clouds(2).astype(kind), label)
    points, labels = read_h5(tmp_path / "a.h5", 2)
    assert points.dtype == np.float32
    assert (points == some_clouds(2).astype(kind).astype(np.float32)).all()
    assert labels.tolist() == [1, 0]


def nan_at(cloud):
    clouds = some_clouds(3)
    clouds[cloud, 7, 1] = np.nan
    return clouds


BAD = {
    "nan": (nan_at(2), [0, 1, 0], r"cloud 2 \(from 0\) has a value that is not finite"),
    "infinite": (nan_at(0) * np.inf, [0, 1, 0], r"cloud 0 .* not finite"),
    "one point": (some_clouds(3)[:, :1], [0, 1, 0], "a cloud of 1 point"),
    "one place": (np.ones((3, 5, 3), np.float32), [0, 1, 0], r"cloud 0 \(from 0\) has only one place"),
    "label too large": (some_clouds(3), [0, 1, 2], r"label 2 of cloud 2 \(from 0\) is outside 0..1"),
    "label negative": (some_clouds(3), [0, -1, 1], r"label -1 of cloud 1 \(from 0\) is outside 0..1"),
    "labels too few": (some_clouds(3), [0, 1], r"label is int64 \[2\], not int \[3, 1\]"),
    "labels wide": (some_clouds(3), [[0, 1]] * 3, r"label is int64 \[3, 2\]"),
    "labels of floats": (some_clouds(3), [0.0, 1.0, 0.0], r"label is float64"),
    "data flat": (some_clouds(3)[0], [0] * POINTS, r"data is float32 \[16, 3\], not float \[n, P, 3\]"),
    "data of four columns": (np.ones((3, 5, 4)), [0, 1, 0], r"data is float64 \[3, 5, 4\]"),
    "data of integers": (np.ones((3, 5, 3), int), [0, 1, 0], r"data is int64"),
    "data of strings": (np.full((3, 5, 3), b"ab"), [0, 1, 0], r"data is \|S2"),
    "no clouds": (some_clouds(3)[:0], np.zeros(0, int), r"data is float32 \[0, 16, 3\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_contents(tmp_path, case):
    data, label, message = BAD[case]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"], file["label"] = data, label
    with pytest.raises(DataError, match=rf"^{tmp_path}/a\.h5: {message}") as caught:
        read_h5(tmp_path / "a.h5", 2)
    assert "\n" not in str(caught.value)


def test_other_contents(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["points"] = some_clouds(2)
    with pytest.raises(DataError, match=r"a\.h5: holds no 'data', but 'points'"):
        read_h5(path, 2)
    with h5py.File(path, "w") as file:
        file.create_group("data")
    with pytest.raises(DataError, match=r"a\.h5: 'data' is no array of this file itself"):
        read_h5(path, 2)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.h5: truncated or damaged"):
        read_h5(path, 2)
    with pytest.raises(DataError, match="not a regular file"):
        read_h5(tmp_path, 2)


@pytest.mark.parametrize("how", ["soft", "external", "virtual", "raw"])
def test_references_to_other_files_are_refused(tmp_path, how):
    write(tmp_path / "other.h5", some_clouds(2), [0, 1])
    (tmp_path / "raw").write_bytes(some_clouds(2).tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["label"] = [0, 1]
        if how == "soft":
            file["data"] = h5py.SoftLink("/elsewhere")
        elif how == "external":
            file["data"] = h5py.ExternalLink("other.h5", "data")
        elif how == "virtual":
            virtual = h5py.VirtualLayout((2, POINTS, 3), np.float32)
            virtual[:] = h5py.VirtualSource(tmp_path / "other.h5", "data", (2, POINTS, 3))
            file.create_virtual_dataset("data", virtual)
        else:
            file.create_dataset(
                "data", (2, POINTS, 3), np.float32, external=[(str(tmp_path / "raw"), 0, 2 * POINTS * 12)]
            )
    with pytest.raises(DataError, match=r"a\.h5: 'data' is no array of this file itself"):
        read_h5(tmp_path / "a.h5", 2)


def test_a_size_that_the_file_only_claims_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (1 << 20, 1 << 10, 3), np.float32, chunks=(1, 1 << 10, 3))
        file.create_dataset("label", (1 << 20,), np.uint8, chunks=True)
    assert (tmp_path / "a.h5").stat().st_size < 1 << 16
    with pytest.raises(DataError, match="has more than 268,435,456 values"):
        read_h5(tmp_path / "a.h5", 2)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    write(path, some_clouds(4, 4), [0, 1, 0, 1])
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=rf"^{path}: truncated or damaged") as caught:
            read_h5(path, 2)
        assert "\n" not in str(caught.value)


def test_a_bad_file_leaves_nothing_half_loaded(layout):
    write(layout / "ply_data_test0.h5", nan_at(1), [0, 1, 0])
    with pytest.raises(DataError, match=r"ply_data_test0\.h5: cloud 1"):
        load_points(f"folder:{layout}")


def test_files_that_disagree(layout):
    write(layout / "ply_data_train1.h5", some_clouds(4, 8), [0, 1, 0, 1])
    with pytest.raises(DataError, match="its files have clouds of 8 and 16 points"):
        load_h5_layout(layout)
    (layout / "ply_data_train1.h5").unlink()
    with pytest.raises(DataError, match=r"ply_data_train1\.h5: no such file"):
        load_h5_layout(layout)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"a\nb\na\n", "line 3 repeats 'a'"),
        (b"a\n\xff\n", r"is no text \(byte 2\)"),
    ],
)
def test_lists(tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"list\.txt: {message}"):
        read_lines(tmp_path / "list.txt")


# The published archive -------------------------------------------------------------------------------------------


@pytest.fixture
def published(layout, monkeypatch):
    """The archive of the tiny layout at a mirror in a folder, its checksum declared, its census expected."""
    mirror = layout.parent / "mirror"
    mirror.mkdir()
    archive = mirror / f"{layout.name}.zip"
    with zipfile.ZipFile(archive, "w") as members:
        for file in sorted(layout.iterdir()):
            members.write(file, f"{layout.name}/{file.name}")
        members.writestr(f"{layout.name}/ply_data_train_0_id2file.json", "[]")
        members.writestr("../outside_files.txt", "")
        members.writestr("__MACOSX/train_files.txt", "")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    release = replace(modelnet.HDF5, mirrors=(archive.as_uri(),), sha256=sha256, max_bytes=archive.stat().st_size)
    monkeypatch.setattr(modelnet, "HDF5", release)
    monkeypatch.setattr(modelnet, "CENSUS", ((30, 6),))
    monkeypatch.setattr(modelnet, "CLASSES", 2)
    return archive


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
    with pytest.raises(MissingDataError, match=r"sha256 is \w+\.\.\., not \w+\.\.\.; remove it") as caught:
        load_points("modelnet40", root)
    assert "\n" not in str(caught.value)
    assert [path.name for path in root.iterdir()] == [published.name]


def test_an_incomplete_folder_is_not_overwritten(published):
    root = root_of(published)
    (root / "modelnet40_ply_hdf5_2048").mkdir()
    (root / "modelnet40_ply_hdf5_2048" / "mine").touch()
    with pytest.raises(MissingDataError, match=r"lacks train_files\.txt or shape_names\.txt"):
        load_points("modelnet40", root)
    assert (root / "modelnet40_ply_hdf5_2048" / "mine").exists()


def test_damage_in_an_archive_leaves_nothing(published, monkeypatch):
    root = root_of(published)
    data = bytearray(published.read_bytes())
    data[len(data) // 2] ^= 1
    published.write_bytes(data)
    release = replace(modelnet.HDF5, sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(modelnet, "HDF5", release)
    with pytest.raises(MissingDataError, match="Bad CRC-32"):
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
