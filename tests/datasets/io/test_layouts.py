"""Names of splits, and what operating systems leave behind."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from comhe.datasets import DataError
from comhe.datasets.io.layouts import check_no_splits, children, files_below, is_stray, not_a_folder, split_folders

LEFT = [".DS_Store", "._a.png", "Thumbs.db", "THUMBS.DB", "ehthumbs.db", "desktop.ini", "Desktop.ini", "__MACOSX"]
LEFT += [
    "Icon\r",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "~$a.png",
    ".gitkeep",
    ".Trashes",
    "a.png:Zone.Identifier",
    "Thumbs.db:encryptable",
    "ehthumbs_vista.db",
    "Picasa.ini",
    ".picasa.ini",
    "ZbThumbnail.info",
    "#recycle",
    "@Recycle",
    "Network Trash Folder",
    "Temporary Items",
]


@pytest.mark.parametrize("name", LEFT)
def test_what_systems_leave_is_passed_over(tmp_path, name):
    assert is_stray(name)
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).mkdir()
    (tmp_path / "a" / name / "b").write_bytes(b"")
    (tmp_path / "a" / "b").write_bytes(b"")
    assert children(tmp_path) == [tmp_path / "a"]
    assert files_below(tmp_path) == ["a/b"]


@pytest.mark.parametrize("name", ["icon", "thumbs.png", "a~", "MACOSX", "desktop", "_a.png", "recycled", "a:b.png"])
def test_what_anybody_may_have_is_not(name):
    assert not is_stray(name)


def test_splits(tmp_path):
    for name in ("Training", "validation", "TEST", "a"):
        (tmp_path / name).mkdir()
    assert split_folders(tmp_path) == {
        "train": tmp_path / "Training", "val": tmp_path / "validation", "test": tmp_path / "TEST"
    }  # fmt: skip
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match="both valid and validation are the val split; keep one"):
        split_folders(tmp_path)
    with pytest.raises(DataError, match="nowhere: cannot be listed"):
        children(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("folders", "fault"),
    [
        (["train", "test1"], "train, test1 are no classes, .* has no labels; put it in .*/SPLIT/CLASS/"),
        (["cars_train", "cars_test"], "are no classes"),
        (["val_data", "train_data", "test_data"], "are no classes"),
        (["images", "Annotations"], "are no classes"),
        (["my_train/a", "my_test/a"], r"my_train: is it a split\? Name it train, val or test"),
        (["a/train", "b/test"], "a/train: a split inside of a class; put it the other way round"),
        (["train", "test_tube"], None),
        (["test1", "test2"], None),
        (["test+", "test-"], None),
        (["valid-id", "test-id"], None),
        (["images", "drawings"], None),
        (["a/front", "a/back", "b/front"], None),
    ],
)
def test_splits_under_other_names_are_no_classes(tmp_path, folders, fault):
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    names = [*dict.fromkeys(name.partition("/")[0] for name in folders)]
    with pytest.raises(DataError, match=fault) if fault else nullcontext():
        check_no_splits(tmp_path, names)


def test_classes_with_the_same_folders_may_be_one_level_too_high(tmp_path):
    for name in ("fold0/cat", "fold0/dog", "fold1/cat", "fold1/dog"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.warns(UserWarning, match="fold0, fold1 are taken .* the same folders in them, cat, dog; .*:.*/fold0$"):
        check_no_splits(tmp_path, ["fold0", "fold1"])


@pytest.mark.parametrize("name", ["a/0.jpg", "train/a/0.off", "a/TEST/0.ply", "training/a/0.NPZ"])
def test_of_a_sample_the_folder_of_the_classes_is_named(tmp_path, name, monkeypatch):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    advice = "a file; name the folder that has a folder for each class: folder:"
    assert not_a_folder(tmp_path / name) == f"{advice}{tmp_path}"
    monkeypatch.chdir((tmp_path / name).parent)
    assert not_a_folder(children(Path())[0]) == f"{advice}.."
