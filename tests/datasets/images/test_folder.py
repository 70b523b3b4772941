"""Trees of image files: what they may hold, how odd images are read, and images that are read when needed."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from comhe.datasets import Augmentation, ImageFiles, MissingDataError, ResizedCrop, describe, load_images

from ..image_sources import pictures
from .test_sets import check


def load(folder, **how):
    return load_images(f"folder:{folder}", **how)


# Images in memory ---------------------------------------------------------------------------------------------------


def test_small_images_are_held_in_memory(small):
    images = load(small)
    check(images)
    assert images.classes == ("a", "b")
    assert images.shape == (3, 6, 5)
    assert (len(images.train), len(images.val), len(images.test)) == (18, 2, 4)
    expected = pictures(4, 1, 6, 5)[[0, 2, 1, 3]]  # by class, then by name
    assert np.array_equal(images.test.pixels, expected)
    assert images.test.labels.tolist() == [0, 0, 1, 1]
    assert images.name == f"folder:{small}"


def test_own_validation_images(small):
    shutil.copytree(small / "test", small / "val")
    images = load(small)
    assert images.val.pixels.equal(images.test.pixels)
    assert len(images.train) == 20
    with pytest.raises(ValueError, match=r"has its own validation images.*leave out -random1"):
        load_images(f"folder-random1:{small}")


def test_val_is_the_test_split_where_there_is_none(small):
    before = load(small)
    (small / "test").rename(small / "val")
    after = load(small)
    assert after.test.pixels.equal(before.test.pixels)
    assert after.val.pixels.equal(before.val.pixels)


def test_odd_splits(small):
    zero, one = (load_images(f"folder-random{seed}:{small}") for seed in (0, 1))
    assert not zero.val.pixels.equal(one.val.pixels)


def test_missing_folder(tmp_path):
    with pytest.raises(MissingDataError, match="nowhere: no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match=r"imagenet does not exist.*--data-root or \$COMHE_DATA"):
        load_images("imagenet", tmp_path)


def test_large_sets_are_not_held_in_memory(small, monkeypatch):
    monkeypatch.setattr("comhe.datasets.images.folder.MAX_BYTES", 24 * 90 - 1)
    assert isinstance(load(small), ImageFiles)
    monkeypatch.setattr("comhe.datasets.images.folder.MAX_BYTES", 24 * 90)
    assert not isinstance(load(small), ImageFiles)


# Odd images ---------------------------------------------------------------------------------------------------------


# Images that are read when they are needed ----------------------------------------------------------------------------


def files(folder, **changes) -> ImageFiles:
    images = load(folder, workers=0)
    assert isinstance(images, ImageFiles)
    return replace(images, **{"size": 32, "resize": 36} | changes)


def paths(images: ImageFiles, split: str) -> list[str]:
    part = images.get_split(split)
    return [str(part.folder / path.decode()) for path in part.paths]


def test_census_of_files(photographs):
    images = files(photographs)
    assert (len(images.train), len(images.val), len(images.test)) == (8, 3, 5)
    assert images.classes == ("n00", "n01", "n02")
    for split in ("train", "val", "test"):
        part = images.get_split(split)
        assert part.labels.dtype == torch.int64
        names = [path.split("/")[-2] for path in paths(images, split)]
        assert [images.classes[label] for label in part.labels] == names
    assert sorted(paths(images, "train") + paths(images, "val")) == sorted(map(str, photographs.glob("train/*/*")))
    assert sorted(paths(images, "test")) == sorted(map(str, photographs.glob("val/*/*")))
    assert describe(images)["image"] == "3x32x32"
    assert load(photographs).shape == (3, 224, 224)
    assert repr(images).endswith("shape=(3, 32, 32), classes=3, train=8, val=3, test=5)")


def test_mistakes_are_said_at_the_call(photographs, small):
    with pytest.raises(TypeError, match="ImageFiles are augmented by ResizedCrop, not Augmentation"):
        files(photographs).batches("train", 2, 0, 0, Augmentation())
    with pytest.raises(TypeError, match="Images are augmented by Augmentation, not ResizedCrop"):
        load(small).batches("train", 2, 0, 0, ResizedCrop())
    with pytest.raises(ValueError, match="an augmentation needs a seed"):
        files(photographs).batches("train", 2, None, 0, ResizedCrop())
    with pytest.raises(ValueError, match="unknown split 'tests'"):
        files(photographs).batches("tests", 2)
