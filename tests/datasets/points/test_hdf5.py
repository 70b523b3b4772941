"""PointNet's layout: read as it is, or one clear line; on tiny files written here."""

import os

import h5py
import numpy as np
import pytest
import torch

from comhe.datasets import DataError, load_points
from comhe.datasets.points.hdf5 import find_parts, load_h5_folder, load_parts, read_h5
from comhe.inputs.shapes import unit_sphere

from ..conftest import POINTS, some_clouds, write_h5
from .test_clouds import check


def test_layout(layout):
    decoded = load_h5_folder(layout)
    parts, classes = decoded.splits, decoded.classes
    assert classes == ("airplane", "xbox")
    points, labels = parts["train"]
    assert (points == np.concatenate([some_clouds(20, seed=20), some_clouds(10, seed=10)])).all()
    assert points.dtype == np.float32
    assert labels.tolist() == [0, 1] * 15
    assert labels.dtype == np.int64
    assert (parts["test"][0] == some_clouds(6, seed=6)).all()


def test_as_a_folder_of_ones_own(layout):
    clouds = load_points(f"folder:{layout}", root="no/such/folder")
    check(clouds)
    assert (len(clouds.train), len(clouds.val), len(clouds.test)) == (26, 4, 6)
    assert clouds.val.labels.bincount().tolist() == [2, 2]
    stored, order = load_h5_folder(layout).splits["test"][0], None
    for cloud, points in zip(clouds.test.points.double(), stored, strict=True):
        near = torch.cdist(cloud, torch.as_tensor(unit_sphere(points))).min(1)
        assert near.values.max() < 1e-6
        assert near.indices.unique().numel() == POINTS
        assert order is None or near.indices.equal(order), "shuffled in the same way"
        order = near.indices
    assert (order[1:] < order[:-1]).any()
    assert clouds.up == 1


def scans(folder, rest="objectdataset", **how):
    """Two clouds of each class to train and one to test, and masks, as ScanObjectNN has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("training", 30), ("test", 15)):
        with h5py.File(folder / f"{split}_{rest}.h5", "w") as file:
            file["data"] = some_clouds(count, seed=len(rest) + count) * 5 + 3
            file["label"] = np.arange(count) % 15
            file["mask"] = np.zeros((count, POINTS))


def test_scanobjectnn_and_its_variants(tmp_path):
    for split in ("main_split", "main_split_nobg"):
        for rest in ("objectdataset", "objectdataset_augmentedrot_scale75"):
            scans(tmp_path / "h5_files" / split, rest)
    loaded = {name: load_points(name, tmp_path) for name in SCANNED}
    for name, clouds in loaded.items():
        check(clouds)
        assert (clouds.name, clouds.num_classes, clouds.classes[-1], clouds.up) == (name, 15, "toilet", 1)
        assert [len(clouds.get_split(split)) for split in ("train", "val", "test")] == [15, 15, 15]
    assert "main_split_nobg/*_objectdataset.h5" in loaded["scanobjectnn-objects"].source
    assert not loaded["scanobjectnn"].test.points.equal(loaded["scanobjectnn-hardest"].test.points)
    with pytest.raises(DataError, match=r"has 'objectdataset.*' and 'objectdataset.*' to train and to test; keep one"):
        load_points(f"folder:{tmp_path / 'h5_files/main_split'}")
    with pytest.raises(DataError, match=r"no h5_files/main_split/training_objectdataset.h5 and test_.*--data-root"):
        load_points("scanobjectnn", tmp_path / "h5_files")


SCANNED = ("scanobjectnn", "scanobjectnn-objects", "scanobjectnn-hardest")


def test_a_pair_of_files_of_ones_own(tmp_path):
    scans(tmp_path, "")
    (tmp_path / "training_.h5").rename(tmp_path / "train.h5")
    (tmp_path / "test_.h5").rename(tmp_path / "test.h5")
    (tmp_path / "shape_names.txt").write_text("".join(f"kind {i}\n" for i in range(16)))
    with pytest.warns(UserWarning, match=r"of its 16 classes, no cloud to train has kind 15; check that labels are"):
        clouds = load_points(f"folder-up-z:{tmp_path}")
    assert (clouds.classes[14], clouds.num_classes, clouds.up) == ("kind 14", 16, 2)
    (tmp_path / "shape_names.txt").write_text("a\nb\n")
    with pytest.raises(
        DataError, match=r"train.h5: label 2 of cloud 2 \(from 0\) is not one of 0..1; .* name all of them in shape"
    ):
        load_points(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", [np.float64, np.float16, ">f4"])
@pytest.mark.parametrize(
    "label",
    [np.int64([1, 0]), np.float64([[1, 0]]), np.int32([[1], [0]]), np.uint8([[1], [0]]), np.float32([[1], [0]])],
)
def test_types(tmp_path, kind, label):
    write_h5(tmp_path / "a.h5", some_clouds(2).astype(kind), label)
    points, labels = read_h5(tmp_path / "a.h5", 2)
    assert points.dtype == (np.float64 if kind is np.float64 else np.float32)
    assert (points == some_clouds(2).astype(kind)).all()
    assert labels.tolist() == [1, 0]


def test_a_shape_far_from_the_origin_is_kept(tmp_path):
    """Meters of a map: float32 has a step of half a meter there."""
    near = some_clouds(4).astype(np.float64)
    for name, clouds in (("near", near), ("far", near + np.array([5e6, 4e6, 100]))):
        (tmp_path / name).mkdir()
        for split in ("train", "test"):
            write_h5(tmp_path / name / f"{split}.h5", clouds, np.int64([0, 1, 0, 1]))
    found = [load_points(f"folder:{tmp_path / name}", root=tmp_path).test.points for name in ("near", "far")]
    assert (found[0] - found[1]).abs().max() < 1e-6


def nan_at(cloud):
    clouds = some_clouds(3)
    clouds[cloud, 7, 1] = np.nan
    return clouds


BAD = {
    "nan": (nan_at(2), [0, 1, 0], r"cloud 2 \(from 0\) has a value that is not finite"),
    "infinite": (nan_at(0) * np.inf, [0, 1, 0], r"cloud 0 .* not finite"),
    "one point": (some_clouds(3)[:, :1], [0, 1, 0], "a cloud of 1 point"),
    "one place": (np.ones((3, 5, 3), np.float32), [0, 1, 0], r"cloud 0 \(from 0\) has all points at one position"),
    "label too large": (some_clouds(3), [0, 1, 2], r"label 2 of cloud 2 \(from 0\) is not one of 0..1"),
    "label negative": (some_clouds(3), [0, -1, 1], r"label -1 of cloud 1 \(from 0\) is not one of 0..1"),
    "labels too few": (some_clouds(3), [0, 1], r"label is int64 \[2\], not int \[3, 1\]"),
    "labels wide": (some_clouds(3), [[0, 1]] * 3, r"label is int64 \[3, 2\]"),
    "labels of text": (some_clouds(3), [b"0", b"1", b"0"], r"label is object"),
    "a label between two": (some_clouds(3), [0, 0.5, 1], r"label 0\.5 of cloud 1 \(from 0\) is not one of 0..1"),
    "no label": (some_clouds(3), [0, 1, np.nan], r"label nan of cloud 2 \(from 0\) is not one of 0..1"),
    "data flat": (some_clouds(3)[0], [0] * POINTS, r"data is float32 \[16, 3\], not float \[n, P, 3\]"),
    "data of sixteen columns": (np.ones((3, 5, 16)), [0, 1, 0], r"data is .* \[3, 5, 16\], not float"),
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


@pytest.mark.parametrize(
    "names", [("points", "labels"), ("pc", "y"), ("X", "Y"), ("xyz", "label"), ("data", "label", "points", "labels")]
)
def test_arrays_have_their_usual_names(tmp_path, names):
    arrays = [some_clouds(2), [1, 0], some_clouds(2) + 1, [0, 0]]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.update(zip(names, arrays, strict=False))
    points, labels = read_h5(tmp_path / "a.h5", 2)
    assert ((points == arrays[0]).all(), labels.tolist()) == (True, [1, 0])


def test_axes_in_the_order_of_matlab_are_told(tmp_path):
    write_h5(tmp_path / "a.h5", some_clouds(8).T, np.zeros((1, 8)))
    with pytest.raises(DataError, match=r"data is float32 \[3, 16, 8\], not float \[n, P, 3\]; reverse its axes"):
        read_h5(tmp_path / "a.h5", 2)


def test_other_contents(tmp_path):
    path = tmp_path / "a.h5"
    for names, fault in (
        (["points"], "no 'label', but 'points'; call the array of the numbers of the classes 'label'"),
        (["mesh", "label"], "no 'data', but 'label', 'mesh'; call the array of the points 'data'"),
        (["pc", "Points", "y"], "both 'Points' and 'pc'; call the array of the points 'data'"),
    ):
        with h5py.File(path, "w") as file:
            file.update({name: some_clouds(2) for name in names})
        with pytest.raises(DataError, match=rf"a\.h5: has {fault}$"):
            read_h5(path, 2)
    with h5py.File(path, "w") as file:
        file.create_group("data")
    with pytest.raises(DataError, match=r"a\.h5: 'data' is not an array stored in this file"):
        read_h5(path, 2)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataError, match=r"a\.h5: truncated or damaged \(a pointer of Git LFS"):
        read_h5(path, 2)
    with pytest.raises(DataError, match="not a regular file"):
        read_h5(tmp_path, 2)


@pytest.mark.parametrize("how", ["soft", "external", "virtual", "raw"])
def test_references_to_other_files_are_refused(tmp_path, how):
    write_h5(tmp_path / "other.h5", some_clouds(2), [0, 1])
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
    with pytest.raises(DataError, match=r"a\.h5: 'data' is not an array stored in this file"):
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
    write_h5(path, some_clouds(4, 4), [0, 1, 0, 1])
    for end in reversed(range(0, path.stat().st_size, 7)):
        os.truncate(path, end)
        with pytest.raises(DataError, match=rf"^{path}: truncated or damaged") as caught:
            read_h5(path, 2)
        assert "\n" not in str(caught.value)


def test_a_bad_file_leaves_nothing_half_loaded(layout):
    write_h5(layout / "ply_data_test0.h5", nan_at(1), [0, 1, 0])
    with pytest.raises(DataError, match=r"ply_data_test0\.h5: cloud 1"):
        load_points(f"folder:{layout}")


def test_files_that_disagree(layout):
    write_h5(layout / "ply_data_train1.h5", some_clouds(4, 8), [0, 1, 0, 1])
    with pytest.raises(DataError, match="its files have clouds of 8 and 16 points"):
        load_h5_folder(layout)
    (layout / "ply_data_train1.h5").unlink()
    with pytest.raises(DataError, match=r"ply_data_train1\.h5: no such file"):
        load_h5_folder(layout)


def test_classes_of_a_pair_of_ones_own_are_those_of_its_labels(tmp_path):
    """Only ScanObjectNN's files have its classes."""
    for split in ("train", "test"):
        write_h5(tmp_path / f"{split}.h5", some_clouds(8), [0, 1, 2, 1] * 2)
    assert load_points(f"folder:{tmp_path}").classes == ("0", "1", "2")
    write_h5(tmp_path / "train.h5", some_clouds(8), [1, 2] * 4)
    with pytest.warns(UserWarning, match="of its 3 classes, no cloud to train has 0"):
        load_points(f"folder:{tmp_path}")
    for split in ("train", "test"):
        (tmp_path / f"{split}.h5").rename(tmp_path / f"ply_data_{split}0.h5")
    with pytest.raises(DataError, match=r"HDF5 files are train\.h5 and test\.h5, or listed in train_files\.txt"):
        load_points(f"folder:{tmp_path}")
    write_h5(tmp_path / "train.h5", some_clouds(8).swapaxes(1, 2), [0, 1] * 4)
    with pytest.raises(DataError, match="swap its last two axes"):
        read_h5(tmp_path / "train.h5", 2)


@pytest.mark.parametrize("more", [1, 3, 6])
def test_columns_after_the_coordinates_are_not_used(tmp_path, more):
    """Normals or colors, as in files of text and arrays."""
    clouds = some_clouds(4)
    write_h5(tmp_path / "a.h5", np.concatenate([clouds, np.ones((*clouds.shape[:2], more))], 2), [0, 1] * 2)
    points, _ = read_h5(tmp_path / "a.h5", 2)
    np.testing.assert_array_equal(points, clouds)


def write_splits(folder, *names):
    """Files of 8, 9, 10 ... clouds of two classes, in this order."""
    folder.mkdir()
    for count, name in enumerate(names, 8):
        write_h5(folder / name, some_clouds(count, seed=count), np.arange(count) % 2)
    return folder


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train0.h5", "train1.h5", "test0.h5"), [15, 2, 10]),  # 17 to train, a tenth of which validates
        (("train_9.hdf5", "train_10.hdf5", "test.hdf5"), [15, 2, 10]),
        (("training_x_1.h5", "training_x_2.h5", "test_x_1.h5", "test_x_2.h5"), [15, 2, 21]),
        (("train.h5", "val.h5", "test.h5"), [8, 9, 10]),
        (("train0.h5", "validation0.h5", "test0.h5", "test1.h5"), [8, 9, 21]),
        (("Train.h5", "testing.h5"), [6, 2, 9]),
        (("train_a.h5", "testing_a.h5"), [6, 2, 9]),
        (("train.h5", "valid.h5"), [6, 2, 9]),  # to test, where no others are
        (("train_cloud2048.h5", "test_cloud2048.h5"), [6, 2, 9]),
    ],
)
def test_parts_are_joined_and_own_validation_is_used(tmp_path, names, sizes):
    clouds = load_points(f"folder:{write_splits(tmp_path / 'set', *names)}")
    assert [len(clouds.get_split(split)) for split in ("train", "val", "test")] == sizes
    assert ("its own split" in clouds.source) == any(name.startswith("val") for name in names[:-1])


def test_parts_are_in_the_order_of_their_numbers(tmp_path):
    folder = write_splits(tmp_path / "set", "train9.h5", "train10.h5", "test0.h5")
    train, _ = load_parts(folder, find_parts(folder)).splits["train"]
    assert (train == np.concatenate([some_clouds(8, seed=8), some_clouds(9, seed=9)])).all()


def test_lists_of_windows_and_empty_lines_at_their_end(layout):
    before = load_h5_folder(layout)
    for file in layout.glob("*.txt"):
        file.write_text("".join(f"{line}\n" for line in [*file.read_text().replace("/", "\\").splitlines(), " ", ""]))
    after = load_h5_folder(layout)
    assert after.classes == before.classes
    assert (after.splits["train"][0] == before.splits["train"][0]).all()


def test_lists_may_have_a_split_to_validate(layout):
    (layout / "train_files.txt").write_text("ply_data_train0.h5")
    (layout / "val_files.txt").write_text("ply_data_train1.h5")
    clouds = load_points(f"folder:{layout}")
    assert [len(clouds.get_split(split)) for split in ("train", "val", "test")] == [20, 10, 6]


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("training_y.h5", r"set/training_y\.h5: does not belong to the set of train0\.h5; keep it elsewhere"),
        ("val_y.h5", r"set/val_y\.h5: does not belong to the set of train0\.h5; keep it elsewhere"),
        ("train.h5", r"set: has both train\.h5 and train0\.h5; keep one of them"),
        ("train_0.h5", r"set: has both train0\.h5 and train_0\.h5; keep one of them"),
        ("train2.h5", r"set: has no part 1 between train0\.h5 and train2\.h5; add it"),
    ],
)
def test_files_that_do_not_belong_to_the_parts_are_named(tmp_path, more, fault):
    folder = write_splits(tmp_path / "set", "train0.h5", "test0.h5", more)
    with pytest.raises(DataError, match=fault):
        load_points(f"folder:{folder}")


def test_files_of_no_split_are_told(tmp_path):
    folder = write_splits(tmp_path / "set", "train.h5", "test.h5", "normals.h5")
    with pytest.warns(UserWarning, match=r"set: not used: normals\.h5$"):
        load_points(f"folder:{folder}")
