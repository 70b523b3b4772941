"""Folders of image files: the layouts that are read, what they may contain, and what is passed over."""

import shutil

import numpy as np
import pytest
from PIL import Image

from comhe.datasets import DataError, ImageFiles, MissingDataError, load_images
from comhe.datasets.images.tree import list_tree

from .test_folder import load


def put(folder, name, data=b""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def remove(folder, name):
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def nest(split):
    inner = split.rename(split.with_name(f"inner-{split.name}"))
    split.mkdir()
    inner.rename(split / "images")


WRONG = {
    "a text": (lambda f: put(f, "train/a/readme.txt"), "train/a/readme.txt: not an image file"),
    "a name without extension": (lambda f: put(f, "test/b/image"), "test/b/image: not an image file"),
    "a file among the classes": (lambda f: put(f, "train/labels.csv"), "train/labels.csv: not a folder"),
    "a text in a folder of a class": (lambda f: put(f, "train/a/more/x.doc"), "train/a/more/x.doc: not an image file"),
    "a loop of links": (lambda f: (f / "train/a/x").symlink_to(f / "train/a"), "more than 8 folders deep"),
    "two splits to validate": (
        lambda f: [put(f, f"{split}/a/x.png") for split in ("val", "valid")],
        "both val and valid are the val split; keep one",
    ),
    "a split of unknown name": (
        lambda f: put(f, "holdout/a/x.png"),
        "holdout: has classes of train; name it as a split",
    ),
    "images to test without classes": (
        lambda f: [shutil.rmtree(f / "test"), put(f, "test/x.png"), put(f, "val/a/x.png")],
        "test: has no class folders, so its images have no labels; keep it elsewhere",
    ),
    "a broken link": (lambda f: (f / "train/a/x.png").symlink_to(f / "none"), "train/a/x.png: not a file"),
    "an empty class": (lambda f: (f / "train/c").mkdir(), "train/c: has no image"),
    "an empty class of test": (lambda f: [p.unlink() for p in (f / "test/a").iterdir()], "test/a: has no image"),
    "a class missing from test": (lambda f: remove(f, "test/a"), "test/a: has no image"),
    "a class missing from train": (lambda f: remove(f, "train/a"), "test/a: this class is missing from .*train"),
    "an empty train": (lambda f: [remove(f, f"train/{c}") for c in "ab"], "train: contains no class folder"),
    "no image": (lambda f: put(f, "train/b/x.png", b"hello"), r"train/b/x.png: cannot be decoded \(cannot identify"),
    "an empty file": (lambda f: put(f, "train/a/0000.png"), r"0000.png: cannot be decoded \(an empty file; download"),
    "a web page": (lambda f: put(f, "train/a/x.jpg", b"<html>404"), r"x.jpg: cannot be decoded \(a web page"),
    "a pointer": (
        lambda f: put(f, "train/a/x.png", b"version https://git-lfs.github.com/spec/v1"),
        r"x.png: cannot be decoded \(a pointer of Git LFS",
    ),
    "one class": (lambda f: [remove(f, f"{s}/b") for s in ("train", "test")], "train: has one class only, 'a'"),
    "a folder between split and classes": (
        lambda f: [nest(f / split) for split in ("train", "test")],
        "train: has one class only, 'images'",
    ),
    "another format": (
        lambda f: Image.new("RGB", (5, 6)).save(f / "test/a/x.png", format="PCX"),
        "test/a/x.png: cannot be decoded",
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
    assert "remove" not in str(caught.value), "nobody should remove data"


def test_what_file_managers_leave_is_passed_over(small):
    before = load(small)
    left = ("train/.DS_Store", "train/a/._0000.png", "test/a/Thumbs.db", ".hidden/x", "notes.txt", "train/desktop.ini")
    left += ("test/a/Desktop.ini", "__MACOSX/train/a/._x.png", "train/__MACOSX/a/x", "train/.ipynb_checkpoints/x.png")
    left += ("train/a/@eaDir/x.png", "$RECYCLE.BIN/x", "train/Icon\r", "train/a/~$x.png", "train/a/.gitkeep")
    for name in left:
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


def copy(small, source, target):
    (small / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(small / source, small / target)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation", "dev"])
def test_images_to_validate_have_several_names(small, name):
    copy(small, "test", name)
    images = load(small)
    assert images.val.pixels.equal(images.test.pixels)
    assert len(images.train) == 20


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_they_are_the_test_split_where_there_is_none(small, name):
    before = load(small)
    (small / "test").rename(small / name)
    (small / "train").rename(small / "Training")
    assert load(small).test.pixels.equal(before.test.pixels)


def test_classes_without_splits(small):
    whole = load(small)
    images = load(small / "train")
    assert images.classes == ("a", "b")
    assert [len(images.get_split(split)) for split in ("train", "val", "test")] == [14, 2, 4]
    assert images.test.labels.bincount().tolist() == [2, 2]
    assert "20% of each class drawn to test; 10% of each class of train held out" in images.source
    every = [images.get_split(split).pixels for split in ("train", "val", "test")]
    both = [whole.get_split(split).pixels for split in ("train", "val")]
    assert sorted(map(bytes, np.concatenate(every))) == sorted(map(bytes, np.concatenate(both))), "each image once"
    assert load(small / "train").test.pixels.equal(images.test.pixels)
    drawn = [load_images(f"folder-random{seed}:{small / 'train'}") for seed in (0, 1)]
    assert "seed 1" in drawn[1].source
    assert not drawn[0].test.pixels.equal(drawn[1].test.pixels)


def test_a_class_of_other_files_is_not_passed_over(small):
    put(small, "train/horse/0.heic", b"x")
    with pytest.raises(DataError, match=r"train/horse/0\.heic: not an image file .*; keep it outside of the classes"):
        load(small / "train")


def test_folders_next_to_classes_that_are_none_are_told(small):
    for name in (
        "docs/README",
        "docs/guide.md",
        "annotations/0.xml",
        "__MACOSX/a/._x.heic",
        ".git/HEAD",
        "void/.gitkeep",
    ):
        put(small, f"train/{name}", b"x")
    put(small, "train/cache/comhe-images-0123456789ab.safetensors")
    with pytest.warns(UserWarning, match=r"train: not used, without an image: annotations, docs, void$"):
        assert load(small / "train").classes == ("a", "b")


def test_images_in_no_class_of_a_split_are_told(small):
    before = load(small)
    copy(small, "train/a", "holdout")
    copy(small, "train/a", "test-mixed/unknown")
    for name in ("docs/guide.md", ".git/x.png", "deep/1/2/3/4/5/6/7/8/9/x.txt", "links/x.png.txt"):
        put(small, name)
    (small / "links/none").symlink_to("nowhere")
    with pytest.warns(UserWarning, match=r"not used, in no class of a split: holdout, test-mixed; name a split train,"):
        assert load(small).test.pixels.equal(before.test.pixels)


def test_a_class_may_have_the_name_of_a_split(small):
    for name in ("car", "train"):
        copy(small, f"train/{'a' if name == 'car' else 'b'}", f"vehicles/{name}")
    assert load(small / "vehicles").classes == ("car", "train")


def test_splits_inside_of_classes_are_not_mixed(small):
    for name in "ab":
        for split in ("train", "test"):
            copy(small, f"{split}/{name}", f"other/{name}/{split}")
    with pytest.raises(DataError, match=r"other/a/train: a split inside of a class; put it the other way round"):
        load(small / "other")


def test_what_may_be_splits_are_no_classes(small):
    for split in ("train", "test"):
        copy(small, split, f"kaggle/seg_{split}/seg_{split}")
    with pytest.raises(DataError, match=r"kaggle/seg_test: is it a split\? Name it train, val or test"):
        load(small / "kaggle")
    for name in ("test_tube", "train"):
        copy(small, "train/a", f"things/{name}")
    assert load(small / "things").classes == ("test_tube", "train")


def test_a_folder_around_the_data_is_named(small):
    copy(small, "train", "outer/inner/train")
    with pytest.raises(MissingDataError, match=r"outer: has no folder train; its data may be folder:.*outer/inner$"):
        load(small / "outer")
    (small / "outer" / "annotations").mkdir()
    with pytest.raises(MissingDataError, match=r"its data may be folder:.*outer/inner$"):
        load(small / "outer")


def test_images_in_no_class_folders_have_no_labels(small):
    copy(small, "train/a", "flat")
    for inside in ("train", "images"):
        copy(small, "train/a", f"{inside}_in/{inside}")
        with pytest.raises(MissingDataError, match=rf"images in .*_in/{inside} have no labels, .*{inside}/CLASS/$"):
            load(small / f"{inside}_in")
    (small / "flat" / "labels.csv").write_text("0000.png,1\n")  # no header says which column is the label
    with pytest.raises(
        MissingDataError, match=r"flat: has no folder train; the images in .*flat have no labels.*, or name folder:"
    ):
        load(small / "flat")


def test_images_next_to_classes_are_told(small):
    flat = small / "train"
    (flat / "a" / "0000.png").rename(flat / "stray.PNG")
    (flat / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match=r"train: not used, in no folder of a class: stray\.PNG; move them"):
        assert load(flat).classes == ("a", "b")


def test_images_may_lie_deeper_in_a_class(small):
    before = load(small)
    for split in ("train", "test"):
        for name in "ab":
            inside = small / split / name
            images = list(inside.iterdir())
            (inside / "images").mkdir()
            for path in images:
                path.rename(inside / "images" / path.name)
    assert load(small).train.pixels.equal(before.train.pixels)


def tiny_imagenet(small, names=("n01", "n02")):
    """The same images as Tiny ImageNet has its own."""
    for name, wnid in zip("ab", names, strict=True):
        (small / "train" / wnid).mkdir()
        (small / "train" / name).rename(small / "train" / wnid / "images")
        put(small, f"train/{wnid}/{wnid}_boxes.txt", b"0000.png 0 0 5 5")
    rows = []
    (small / "val" / "images").mkdir(parents=True)
    for name, wnid in zip("ab", names, strict=True):
        for path in sorted((small / "test" / name).iterdir()):
            path.rename(small / "val" / "images" / f"val_{wnid}_{path.name}")
            rows.append(f"val_{wnid}_{path.name}\t{wnid}\t0\t0\t5\t5\n")
    put(small, "val/val_annotations.txt", "".join(reversed(rows)).encode())
    shutil.rmtree(small / "test")
    put(small, "test/images/test_0.png")
    put(small, "wnids.txt", "\n".join(reversed(names)).encode())
    put(small, "words.txt", f"n00\tnothing\n{names[0]}\tcrane\n{names[1]}\tgoldfish, Carassius auratus\n".encode())


def test_tiny_imagenet(small):
    before = load(small)
    tiny_imagenet(small)
    images = load(small)
    assert images.classes == ("crane", "goldfish")
    for split in ("train", "val", "test"):
        assert images.get_split(split).pixels.equal(before.get_split(split).pixels)
        assert images.get_split(split).labels.equal(before.get_split(split).labels)
    assert "val is the test split, because the images in test have no labels" in images.source


@pytest.mark.parametrize("left", [(), ("val_annotations.txt",), ("images",), ("val_annotations.txt", "images")])
def test_tiny_imagenet_with_the_images_to_validate_in_classes(small, left):
    """Scripts that sort them leave the list of their classes behind, or the folder in which they were."""
    before = load(small)
    tiny_imagenet(small)
    for line in (small / "val/val_annotations.txt").read_text().splitlines():
        file, wnid, *_ = line.split("\t")
        (small / "val" / wnid).mkdir(exist_ok=True)
        (small / "val/images" / file).rename(small / "val" / wnid / file)
    for name in {"val_annotations.txt", "images"} - {*left}:
        remove(small, f"val/{name}")
    assert load(small).test.pixels.equal(before.test.pixels)


def test_an_advised_folder_is_there(small):
    copy(small, "train", "outer/Training")
    with pytest.raises(MissingDataError, match=r"no folder val or test; folder:.*outer/Training draws images to test"):
        load(small / "outer")
    assert len(load(small / "outer" / "Training").classes) > 1


def test_annotations_that_do_not_fit(small):
    tiny_imagenet(small)
    table = small / "val/val_annotations.txt"
    whole = table.read_bytes()
    table.write_bytes(whole.replace(b"\tn02", b"\tn99", 1))
    with pytest.raises(DataError, match=r"val_annotations.txt: line 1: .* is not an image and a class of train"):
        load(small)
    table.write_bytes(whole + b"x.png\tn01\n")
    with pytest.raises(DataError, match=r"val_annotations.txt: 'x.png' is not in images/"):
        load(small)
    table.write_bytes(whole)
    put(small, "val/images/y.png")
    with pytest.raises(DataError, match=r"val_annotations.txt: 'y.png' is without a class"):
        load(small)


def test_images_of_other_sizes_are_resized(small):
    odd = Image.new("RGB", (60, 12), "red")
    odd.paste("blue", (25, 0, 35, 12))
    odd.save(small / "train/a/0000.png")
    odd.save(small / "test/b/zzzz.png")
    images = load(small)
    assert images.shape == (3, 6, 5)
    assert "resized to cover 5x6 pixels, and their center cropped" in images.source
    assert (images.test.pixels[-1, :, 2] == images.test.pixels.new_tensor([0, 0, 255])).all(), "the center of the image"


def test_images_of_all_sizes_are_read_when_needed(small):
    for i, path in enumerate(sorted(small.rglob("*.png"))):
        Image.new("RGB", (20 + i, 30)).save(path)
    assert isinstance(load(small), ImageFiles)


def test_a_split_may_be_a_link_to_a_folder_next_to_it(small):
    (small / "train").rename(small / "photos")
    (small / "train").symlink_to(small / "photos")
    assert [len(labels) for _, labels in list_tree(small).splits.values()] == [20, 4]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK")
    (tmp_path / "photo.jpg").write_bytes(b"")
    (tmp_path / "cat").mkdir()
    for name, how in (("photos.zip", "unpack it, and name the folder"), ("photo.jpg", f"folder:{tmp_path}")):
        with pytest.raises(MissingDataError, match=f"{name}: a file; .*{how}$"):
            list_tree(tmp_path / name)


@pytest.mark.parametrize(("there", "here"), [("Cat", "cat"), ("caf\u00e9", "cafe\u0301")])
def test_a_class_in_other_letters_is_told(small, there, here):
    (small / "train/a").rename(small / "train" / there)
    (small / "test/a").rename(small / "test" / here)
    with pytest.raises(DataError, match=f"missing from .*train; '{there}' is there, which differs in case or in how"):
        load(small)
