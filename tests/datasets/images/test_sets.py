"""What holds for every set in memory, names and splits, and the built-in glyphs."""

import hashlib

import numpy as np
import pytest
import torch

from comhe.datasets import Images, describe, list_data, load_graph, load_images
from comhe.datasets.images.sets import SEED
from comhe.datasets.sampling import hold_out


def moments(pixels: torch.Tensor) -> list[tuple[float, float]]:
    """Mean and standard deviation of each channel from its histogram."""
    value = torch.arange(256, dtype=torch.float64) / 255
    result = []
    for channel in pixels.view(-1, 3).T:
        share = channel.bincount(minlength=256).double() / len(channel)
        mean = (share * value).sum()
        result.append((mean.item(), (share * (value - mean) ** 2).sum().sqrt().item()))
    return result


def check(images: Images) -> None:
    """The invariants that `Images` promises."""
    channels, height, width = images.shape
    assert channels == 3
    for split in ("train", "val", "test"):
        part = images.get_split(split)
        assert part.pixels.dtype == torch.uint8
        assert part.pixels.shape == (len(part), height, width, 3)
        assert part.pixels.is_contiguous()
        assert part.labels.dtype == torch.int64
        assert part.labels.shape == (len(part),)
        assert part.labels.unique().tolist() == list(range(images.num_classes)), "every class is in every part"
    train = {hashlib.sha256(image.tobytes()).digest() for image in images.train.pixels.numpy()}
    held = {hashlib.sha256(image.tobytes()).digest() for image in images.val.pixels.numpy()}
    assert len(train & held) <= len(held) // 500, "parts are disjoint, but for duplicates that the set has"
    for channel, (mean, std) in enumerate(moments(images.train.pixels)):
        assert (images.mean[channel], images.std[channel]) == pytest.approx((mean, std), rel=1e-9)
    [(batch, labels)] = images.batches("val", len(images.val))
    assert labels.equal(images.val.labels)
    assert batch.shape == (len(images.val), *images.shape)


def test_splits_are_fixed_seeded_and_keep_the_test_images():
    standard, zero, one = (load_images(f"glyphs{split}") for split in ("", "-random0", "-random1"))
    assert standard.train.pixels.equal(load_images("glyphs").train.pixels)
    assert not standard.val.pixels.equal(zero.val.pixels)
    assert not zero.val.pixels.equal(one.val.pixels)
    assert zero.test.pixels.equal(one.test.pixels)
    assert zero.source.endswith("held out to validate, seed 0")


@pytest.mark.parametrize("counts", [[500] * 4, [2, 3, 14, 15, 16, 100], [2]])
def test_hold_out_is_stratified(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    train, val = hold_out(labels, 0.1, 7)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(labels)))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(val) > 0)
    wanted = [max(1, int(0.1 * count + 0.5)) for count in counts]
    assert np.bincount(labels[val], minlength=len(counts)).tolist() == wanted
    assert not np.array_equal(val, hold_out(labels, 0.1, 8)[1]) or len(labels) < 10


def test_global_generator_is_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_images("glyphs-random3")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert load_images("glyphs-random3").val.pixels.equal(first.val.pixels)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("cifar", "did you mean cifar100?, cifar100?"),
        ("CIFAR10", r"did you mean cifar10\?"),
        ("glyps", "did you mean glyphs"),
        ("glyphs-random", "did you mean glyphs-random0"),
        ("glyphs-random01", "did you mean glyphs-random0"),  # or one split would have two names
        (f"glyphs-random{SEED}", "did you mean glyphs-random0"),  # the standard split has one name
        ("glyphs:here", "did you mean glyphs"),
        ("folder", "did you mean folder:PATH"),
        ("folder:", "did you mean folder:PATH"),
        ("", "there are cifar10, .*imagenet"),
    ],
)
def test_unknown_name(name, nearest):
    with pytest.raises(ValueError, match=f"^unknown data set '{name}' for images; {nearest}"):
        load_images(name)


def test_listed_names():
    names = list_data("images")
    assert len(set(names)) == len(names) == 2 * 6
    assert {"cifar10", "cifar100-random0", "imagenet", "folder:PATH", "glyphs"} <= set(names)


def test_repr_describe_and_device():
    images = load_images("glyphs")
    assert repr(images) == "Images('glyphs', shape=(3, 32, 32), classes=36, train=7200, val=1800, test=3600)"
    census = describe(images)
    assert (census["name"], census["image"], census["train per class"]) == ("glyphs", "3x32x32", "200")
    assert (census["train"], census["val"], census["test"], census["classes"]) == (7200, 1800, 3600, 36)
    assert describe(load_graph("citations"))["nodes"] == 2500
    moved = images.to("meta")
    assert moved.train.pixels.device.type == moved.test.labels.device.type == moved.device.type == "meta"
    assert moved.name == images.name
