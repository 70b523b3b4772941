"""Trees of image files: what they may contain."""

import shutil

import pytest
from PIL import Image

from comhe.datasets import DataError, MissingDataError
from comhe.datasets.images.decoding import list_tree

from .test_folder import load


def put(folder, name, data=b""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def remove(folder, name):
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()


WRONG = {
    "a text": (lambda f: put(f, "train/a/readme.txt"), "train/a/readme.txt: not an image file"),
    "a name without extension": (lambda f: put(f, "test/b/image"), "test/b/image: not an image file"),
    "a file among the classes": (lambda f: put(f, "train/labels.csv"), "train/labels.csv: not a folder"),
    "a folder among the images": (lambda f: put(f, "train/a/more.png/x.png"), "train/a/more.png: not a file"),
    "a broken link": (lambda f: (f / "train/a/x.png").symlink_to(f / "none"), "train/a/x.png: not a file"),
    "an empty class": (lambda f: (f / "train/c").mkdir(), "train/c: has no image"),
    "an empty class of test": (lambda f: [p.unlink() for p in (f / "test/a").iterdir()], "test/a: has no image"),
    "a class missing from test": (lambda f: remove(f, "test/a"), "test/a: has no image"),
    "a class missing from train": (lambda f: remove(f, "train/a"), "test/a: this class is missing from .*train"),
    "an empty train": (lambda f: [remove(f, f"train/{c}") for c in "ab"], "train: contains no class folder"),
    "no image": (lambda f: put(f, "train/b/x.png", b"hello"), r"train/b/x.png: cannot be decoded \(cannot identify"),
    "an empty file": (lambda f: put(f, "train/a/0000.png"), "train/a/0000.png: cannot be decoded"),
    "another format": (
        lambda f: Image.new("RGB", (5, 6)).save(f / "test/a/x.png", format="GIF"),
        "test/a/x.png: cannot be decoded",
    ),
    "another size": (
        lambda f: Image.new("RGB", (6, 5)).save(f / "test/a/x.png"),
        "test/a/x.png: has 6x5 pixels, but the set's images have 5x6",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_is_named(small, name):
    spoil, reason = WRONG[name]
    spoil(small)
    with pytest.raises(DataError, match=reason) as caught:
        load(small)
    assert str(small) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_file_managers_leave_is_passed_over(small):
    before = load(small)
    for name in ("train/.DS_Store", "train/a/._0000.png", "test/a/Thumbs.db", ".hidden/x", "notes.txt"):
        put(small, name)
    assert load(small).train.pixels.equal(before.train.pixels)


@pytest.mark.parametrize(("lacks", "reason"), [("train", "has no folder train"), ("test", "has no folder val or test")])
def test_missing_splits(small, lacks, reason):
    remove(small, lacks)
    with pytest.raises(MissingDataError, match=reason):
        load(small)


def test_list_tree_sorts(small):
    tree = list_tree(small)
    names = [path.decode() for path in tree.splits["train"][0]]
    assert names == sorted(names)
    assert len(names) == 20
