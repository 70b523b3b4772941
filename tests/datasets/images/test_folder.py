"""Trees of image files: what they may hold, how odd images are read, and images that are read when needed."""

import io
import multiprocessing
import os
import shutil
import signal
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

from comhe.datasets import Augmentation, DataError, ImageFiles, MissingDataError, ResizedCrop, describe, load_images
from comhe.datasets.images import imagenet
from comhe.datasets.images.decoding import decode
from comhe.datasets.images.tree import list_tree
from comhe.datasets.sampling import mixed_seed

from ..image_sources import pictures, write_tree
from .test_sets import check

LABELS = np.arange(20) % 2


@pytest.fixture
def small(tmp_path, monkeypatch):
    """20 + 4 images of 5 x 6 pixels in two classes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("COMHE_DATA", raising=False)
    parts = {"train": (pictures(20, 0, 6, 5), LABELS), "test": (pictures(4, 1, 6, 5), LABELS[:4])}
    return write_tree(tmp_path / "set", parts, ("a", "b"))


def smooth(seed: int, width: int, height: int) -> Image.Image:
    """What JPEG changes little."""
    return Image.fromarray(pictures(1, seed, 4, 4)[0]).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """11 + 5 JPEG files of various sizes in three classes, as in ImageNet without a test split."""
    folder = tmp_path_factory.mktemp("photographs") / "imagenet"
    for split, count in (("train", 11), ("val", 5)):
        for i in range(count):
            path = folder / split / f"n0{i % 3}" / f"{split}_{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            smooth(i, 60 + 7 * i, 50 + 5 * (i % 4)).save(path)
    return folder


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


def test_workers_change_nothing(small, monkeypatch):
    before = load(small, workers=0)
    monkeypatch.setattr("comhe.datasets.images.decoding.FEW", 0)
    next((small / "train/a").iterdir()).touch()  # or the cache would answer
    assert load(small, workers=2).train.pixels.equal(before.train.pixels)


def test_odd_splits(small):
    zero, one = (load_images(f"folder-random{seed}:{small}") for seed in (0, 1))
    assert not zero.val.pixels.equal(one.val.pixels)


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
        "test/a/x.png: has 6x5 pixels, where the set's images have 5x6",
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


def test_missing_folder(tmp_path):
    with pytest.raises(MissingDataError, match="nowhere: has no folder train"):
        load(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match=r"imagenet does not exist.*--data-root or \$COMHE_DATA"):
        load_images("imagenet", tmp_path)


def test_large_sets_are_not_held_in_memory(small, monkeypatch):
    monkeypatch.setattr("comhe.datasets.images.folder.MAX_BYTES", 24 * 90 - 1)
    assert isinstance(load(small), ImageFiles)
    monkeypatch.setattr("comhe.datasets.images.folder.MAX_BYTES", 24 * 90)
    assert not isinstance(load(small), ImageFiles)


# Odd images ---------------------------------------------------------------------------------------------------------

RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], 2)


def read(image: Image.Image | bytes, tmp_path, suffix=".png", **how) -> np.ndarray:
    path = tmp_path / f"image{suffix}"
    path.write_bytes(image) if isinstance(image, bytes) else image.save(path, **how)
    result = decode(str(path))
    assert result.mode == "RGB"
    return np.asarray(result)


def test_grey_is_repeated(tmp_path):
    expected = np.repeat(RAMP[:, :, None], 3, 2)
    assert np.array_equal(read(Image.fromarray(RAMP), tmp_path), expected)
    sixteen = Image.fromarray(RAMP.astype(np.uint16) * 256 + 77)
    assert sixteen.mode == "I;16"
    assert np.array_equal(read(sixteen, tmp_path), expected)
    one = Image.fromarray(RAMP > 100)
    assert np.array_equal(read(one, tmp_path), 255 * np.repeat((RAMP > 100)[:, :, None], 3, 2))


def test_transparent_parts_lie_on_white(tmp_path):
    alpha = np.full((4, 6), 255, dtype=np.uint8)
    alpha[0], alpha[1] = 0, 51
    expected = COLOURS.astype(float)
    expected[0] = 255
    expected[1] = 0.2 * expected[1] + 0.8 * 255
    found = read(Image.fromarray(np.dstack([COLOURS, alpha])), tmp_path)
    assert np.abs(found - expected).max() <= 1
    assert np.array_equal(found[2:], COLOURS[2:])
    grey = read(Image.fromarray(np.dstack([RAMP, alpha]), mode=None), tmp_path)
    assert (grey[0] == 255).all()
    assert np.array_equal(grey[2:, :, 0], RAMP[2:])
    palette = Image.fromarray(COLOURS).quantize(8)
    index = np.asarray(palette)
    found = read(palette, tmp_path, transparency=int(index[0, 0]))
    assert (found[index == index[0, 0]] == 255).all()
    assert (found[index != index[0, 0]] != 255).any(1).all()
    keyed = read(Image.fromarray(COLOURS), tmp_path, transparency=tuple(COLOURS[3, 5].tolist()))
    assert (keyed[3, 5] == 255).all()
    assert np.array_equal(keyed[:3], COLOURS[:3])


def test_other_modes_and_formats(tmp_path):
    assert np.array_equal(read(Image.fromarray(COLOURS).quantize(24), tmp_path, ".tiff"), COLOURS)
    for suffix in (".bmp", ".ppm", ".tif", ".png"):
        assert np.array_equal(read(Image.fromarray(COLOURS), tmp_path, suffix), COLOURS)
    assert np.array_equal(read(Image.fromarray(COLOURS), tmp_path, ".webp", lossless=True), COLOURS)
    cmyk = read(smooth(0, 32, 32).convert("CMYK"), tmp_path, ".jpg", quality=95).astype(int)
    assert np.abs(cmyk - np.asarray(smooth(0, 32, 32))).mean() < 4
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "PNG")
    assert np.array_equal(read(buffer.getvalue(), tmp_path, ".JPEG"), COLOURS), "ImageNet has such a file"


def test_a_cameras_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    assert np.array_equal(read(Image.fromarray(COLOURS), tmp_path, exif=exif), COLOURS)


def test_images_of_unknown_range_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"image\.tif: cannot be decoded \(has 32 bits a pixel \(mode F\)"):
        read(Image.fromarray(RAMP.astype(np.float32)), tmp_path, ".tif")


def test_a_huge_claim_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "BMP")
    huge = bytearray(buffer.getvalue())
    huge[18:26] = struct.pack("<ii", 30_000, 30_000)
    with pytest.raises(DataError, match="cannot be decoded"):
        read(bytes(huge), tmp_path, ".bmp")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_truncated_images_are_refused_or_whole(suffix, tmp_path):
    image = smooth(1, 24, 20)
    whole = read(image, tmp_path, suffix)
    data = (tmp_path / f"image{suffix}").read_bytes()
    refused = 0
    for end in range(0, len(data), max(1, len(data) // 150)):
        try:
            found = read(data[:end], tmp_path, suffix)
        except DataError as error:
            assert f"image{suffix}: cannot be decoded" in str(error)  # noqa: PT017 - others are whole
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:
            assert np.array_equal(found, whole)
    assert refused > 50


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


def test_evaluation_is_torchvisions(photographs):
    images = files(photographs)
    preset = ImageClassification(crop_size=32, resize_size=36)
    batches = list(images.batches("test", 2))
    assert [len(y) for _, y in batches] == [2, 2, 1], "the last batch is kept"
    expected = torch.stack([preset(Image.open(path)) for path in paths(images, "test")])
    torch.testing.assert_close(torch.cat([x for x, _ in batches]), expected, rtol=0, atol=1e-6)
    assert torch.cat([y for _, y in batches]).equal(images.test.labels)
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)


def epoch(images, *key, batch_size=3, augmentation=ResizedCrop(), **how):  # noqa: B008 - frozen
    return [torch.cat(p) for p in zip(*images.batches("train", batch_size, *key, augmentation, **how), strict=True)]


def test_training_is_torchvisions_with_seeds_of_its_own(photographs):
    images = replace(files(photographs), mean=(0.0,) * 3, std=(1 / 255,) * 3)
    # Labels that number the samples show the order.
    images = replace(images, train=replace(images.train, labels=torch.arange(8)))
    x, y = epoch(images, 5, 2)
    assert y.sort().values.tolist() == list(range(8))
    transform = v2.Compose([v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    for image, sample in zip(x, y.tolist(), strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed_seed(5, 2, sample))
            expected = transform(Image.open(paths(images, "train")[sample]))
        torch.testing.assert_close(image, expected.float(), rtol=0, atol=1e-3)


def test_an_epoch_is_a_function_of_seed_and_epoch(photographs):
    images = files(photographs)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    x, y = epoch(images, 1, 1)
    for again in (epoch(images, 1, 1, batch_size=8), epoch(replace(images, workers=2), 1, 1)):
        assert again[0].equal(x)
        assert again[1].equal(y)
    assert torch.get_rng_state().equal(state), "neither used nor changed"
    for other in (epoch(images, 1, 2), epoch(images, 2, 1)):
        assert not other[0].equal(x)
    assert [len(y) for _, y in images.batches("train", 3, 1, drop_last=True)] == [3, 3]
    plain = epoch(images, 1, 1, augmentation=None)
    assert plain[1].equal(y), "the augmentation does not change the order"
    assert not plain[0].equal(x)


@pytest.mark.parametrize("first", [1, 2, 5])
def test_an_epoch_is_gone_on_with_where_it_was_left(photographs, first):
    for images in (files(photographs), load_images("glyphs-random3")):
        size = 3 if isinstance(images, ImageFiles) else 2000
        options = {"augmentation": images.augmentation}
        whole = list(images.batches("train", size, 1, 2, **options))
        rest = list(images.batches("train", size, 1, 2, **options, first=first))
        assert len(rest) == max(0, len(whole) - first)
        for (x, y), (again, labels) in zip(whole[first:], rest, strict=True):
            assert again.equal(x)
            assert labels.equal(y)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_batches_to_come(photographs, number):
    """Ctrl-C on a terminal, and SIGTERM of SLURM or systemd, reach the processes that read files too."""
    images = files(photographs)
    batches = images.batches("train", 1, 0, augmentation=images.augmentation)
    reading = replace(images, workers=2).batches("train", 1, 0, augmentation=images.augmentation)
    for i, ((x, _), (again, _)) in enumerate(zip(batches, reading, strict=True)):
        assert again.equal(x)
        if i == 1:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, number)


def test_flips_can_be_switched_off(photographs):
    images = files(photographs)
    whole = ResizedCrop(scale=(1, 1), ratio=(1, 1), flip=False)
    never, perhaps = (epoch(images, 0, 0, augmentation=a)[0] for a in (whole, replace(whole, flip=True)))
    flipped = [not a.equal(b) for a, b in zip(never, perhaps, strict=True)]
    assert 0 < sum(flipped) < 8
    assert perhaps[flipped].equal(never[flipped].flip(3))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_stops_the_epoch_in_one_line(photographs, tmp_path, workers):
    folder = tmp_path / "set"
    shutil.copytree(photographs, folder)
    path = folder / "val/n01/val_1.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"val/n01/val_1\.JPEG: cannot be decoded") as caught:
        list(files(folder, workers=workers).batches("test", 2))
    assert "\n" not in str(caught.value)


def test_mistakes_are_said_at_the_call(photographs, small):
    with pytest.raises(TypeError, match="ImageFiles are augmented by ResizedCrop, not Augmentation"):
        files(photographs).batches("train", 2, 0, 0, Augmentation())
    with pytest.raises(TypeError, match="Images are augmented by Augmentation, not ResizedCrop"):
        load(small).batches("train", 2, 0, 0, ResizedCrop())
    with pytest.raises(ValueError, match="an augmentation needs a seed"):
        files(photographs).batches("train", 2, None, 0, ResizedCrop())
    with pytest.raises(ValueError, match="unknown split 'tests'"):
        files(photographs).batches("tests", 2)


def test_imagenet_is_the_whole_of_it(photographs, monkeypatch):
    with pytest.raises(DataError, match=r"not imagenet: \(3, 11, 5\).*a subset of it is folder:"):
        load_images("imagenet", photographs.parent)
    monkeypatch.setattr(imagenet, "CENSUS", (3, 11, 5))
    images = load_images("imagenet-random0", photographs.parent, workers=0)
    assert images.name == "imagenet-random0"
    assert images.val.labels.tolist() == [0, 1, 2], "one of each class, where a hundredth is less"
    assert images.augmentation == ResizedCrop()
    assert "ILSVRC 2012" in images.source


def test_list_tree_sorts(small):
    tree = list_tree(small)
    names = [path.decode() for path in tree.splits["train"][0]]
    assert names == sorted(names)
    assert len(names) == 20
