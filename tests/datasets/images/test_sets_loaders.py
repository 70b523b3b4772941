"""Batches of image files are torchvision's, and functions of seed and epoch."""

import multiprocessing
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

from comhe.datasets import DataError, ImageFiles, ResizedCrop, load_images
from comhe.datasets.sampling import mixed_seed

from .test_folder import files, paths


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
