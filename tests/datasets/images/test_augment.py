"""The batched augmentation is the per-sample one, and its random numbers depend on seed, epoch and sample only."""

import numpy as np
import pytest
import torch

from comhe.datasets import CENTERED, Augmentation, Images
from comhe.datasets.images.augment import Normalizer
from comhe.datasets.images.sets import Split

NORMALIZATION = ((0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
AUGMENTATIONS = [
    Augmentation(),
    Augmentation(mode="symmetric"),
    Augmentation(pad=0),
    Augmentation(pad=0, flip=False),
    Augmentation(pad=1, flip=False, cutout=1),
    Augmentation(pad=2, mode="symmetric", cutout=3),
    Augmentation(pad=6, mode="symmetric", cutout=4),
    Augmentation(cutout=40),
]


def numbered(count: int, height: int = 7, width: int = 6) -> Images:
    """A set whose labels are the numbers of its samples."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, height, width, 3), generator=draw, dtype=torch.uint8)
    part = Split(pixels, torch.arange(count))
    return Images("numbered", part, part, part, ("a",), *NORMALIZATION, source="test", augmentation=Augmentation())


def oracle(image: np.ndarray, augmentation: Augmentation, draws: list[int], normalization=NORMALIZATION) -> np.ndarray:
    """One image, one step after another: [h, w, 3] -> [3, h, w]."""
    top, left, flip, row, column = draws
    height, width = image.shape[:2]
    p = augmentation.pad
    padded = np.pad(
        image, ((p, p), (p, p), (0, 0)), mode={"zero": "constant", "symmetric": "symmetric"}[augmentation.mode]
    )
    if p:
        image = padded[top : top + height, left : left + width]
    if augmentation.flip and flip:
        image = image[:, ::-1]
    mean, std = (np.array(v) for v in normalization)
    x = image.astype(np.float32) * (1 / (255 * std)).astype(np.float32) + (-mean / std).astype(np.float32)
    for i in range(height):
        for j in range(width):
            start_i, start_j = row - augmentation.cutout // 2, column - augmentation.cutout // 2
            if start_i <= i < start_i + augmentation.cutout and start_j <= j < start_j + augmentation.cutout:
                x[i, j] = 0
    return x.transpose(2, 0, 1)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=str)
def test_every_sample_is_what_the_oracle_makes_of_it(augmentation):
    images = numbered(60)
    draws = augmentation.draw(60, 7, 6, torch.Generator().manual_seed(5))
    x = Normalizer(NORMALIZATION, 6)(augmentation.move(images.train.pixels, draws))
    augmentation.cut(x, draws)
    for i in range(60):
        expected = oracle(images.train.pixels[i].numpy(), augmentation, draws[i].tolist())
        np.testing.assert_array_equal(x[i].permute(2, 0, 1).numpy(), expected)


def by_sample(batches) -> dict[int, torch.Tensor]:
    return {int(y): x for xs, ys in batches for x, y in zip(xs, ys, strict=True)}


@pytest.mark.parametrize("augmentation", AUGMENTATIONS[:6], ids=str)
def test_a_sample_does_not_depend_on_its_batch(augmentation):
    images = numbered(50)
    whole, small, one = (by_sample(images.batches("train", size, 3, 2, augmentation)) for size in (50, 8, 1))
    assert sorted(whole) == sorted(small) == sorted(one) == list(range(50))
    assert all(whole[i].equal(small[i]) and whole[i].equal(one[i]) for i in range(50))


def test_epochs_and_seeds_differ_and_repeat():
    images = numbered(40)

    def epoch(*key):
        return [torch.cat(parts) for parts in zip(*images.batches("train", 16, *key, Augmentation()), strict=True)]

    (x, y), (x_again, y_again) = epoch(1, 2), epoch(1, 2)
    assert x.equal(x_again)
    assert y.equal(y_again)
    for other in (epoch(1, 3), epoch(2, 2), epoch(2, 1)):
        assert not other[1].equal(y)
        mine, theirs = x[y.argsort()], other[0][other[1].argsort()]
        assert (mine != theirs).flatten(1).any(1).float().mean() > 0.5


def test_all_moves_are_equally_likely():
    augmentation = Augmentation(pad=1, cutout=2)
    draws = augmentation.draw(36_000, 5, 4, torch.Generator().manual_seed(0))
    for column, count in enumerate((3, 3, 2, 5, 4)):
        share = draws[:, column].bincount(minlength=count) / 36_000
        assert share.shape == (count,)
        assert (share * count - 1).abs().max() < 0.04  # at least 3.8 standard deviations
    joint = (draws[:, 0] * 6 + draws[:, 1] * 2 + draws[:, 2]).bincount(minlength=18) / 2000
    assert (joint - 1).abs().max() < 0.12


def test_switching_a_part_off_leaves_the_others():
    images = numbered(30)
    plain = by_sample(images.batches("train", 30, 0, 0, Augmentation(flip=False)))
    cut = by_sample(images.batches("train", 30, 0, 0, Augmentation(flip=False, cutout=2)))
    for i in range(30):
        changed = (plain[i] != cut[i]).any(0)
        assert 1 <= changed.sum() <= 4
        assert not cut[i][:, changed].any()


def test_the_global_generator_is_neither_used_nor_changed():
    images = numbered(20)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = by_sample(images.batches("train", 7, 0, 0, Augmentation(cutout=2)))
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    again = by_sample(images.batches("train", 7, 0, 0, Augmentation(cutout=2)))
    assert all(first[i].equal(again[i]) for i in range(20))


def test_without_a_seed_the_order_is_the_sets():
    images = numbered(20)
    batches = list(images.batches("val", 8))
    assert [len(y) for _, y in batches] == [8, 8, 4]
    assert torch.cat([y for _, y in batches]).tolist() == list(range(20))
    expected = (images.val.pixels.double() / 255 - torch.tensor(NORMALIZATION[0])) / torch.tensor(NORMALIZATION[1])
    torch.testing.assert_close(
        torch.cat([x for x, _ in batches]).double(), expected.permute(0, 3, 1, 2), rtol=0, atol=1e-6
    )


def test_centered_is_the_released_normalization_exactly():
    images = numbered(4)
    [(x, _)] = images.batches("test", 4, normalization=CENTERED)
    assert x.permute(0, 2, 3, 1).equal((images.test.pixels.float() - 127.5) / 128)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_type_and_memory_format(dtype, channels_last):
    images = numbered(10)
    reference = by_sample(images.batches("train", 5, 0))
    batches = list(images.batches("train", 5, 0, dtype=dtype, channels_last=channels_last))
    form = torch.channels_last if channels_last else torch.contiguous_format
    for x, y in batches:
        assert x.dtype == dtype
        assert x.shape == (5, 3, 7, 6)
        assert x.is_contiguous(memory_format=form)
        assert y.dtype == torch.int64
    assert all(x.equal(reference[i].to(dtype)) for i, x in by_sample(batches).items())


def test_drop_last():
    images = numbered(10)
    assert [len(y) for _, y in images.batches("train", 4, 0, drop_last=True)] == [4, 4]
    with pytest.raises(ValueError, match="drop_last leaves no batch: 10 samples are fewer than batch_size 11"):
        images.batches("train", 11, 0, drop_last=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "unknown split 'tset'; the splits are train, val, test"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"seed": -1}, "seed and epoch must be >= 0, not -1, 0"),
        ({"epoch": -1}, "seed and epoch must be >= 0, not 0, -1"),
        ({"seed": None, "augmentation": Augmentation()}, "an augmentation needs a seed"),
        ({"augmentation": Augmentation(pad=7, mode="symmetric")}, "symmetric pad 7 is larger than the image, 6x7"),
        ({"normalization": ((0.5,) * 3, (1, 0, 1))}, "normalization must be"),
        ({"normalization": ((0.5,), (0.5,))}, "normalization must be"),
    ],
)
def test_mistakes_are_said_at_the_call(arguments, message):
    with pytest.raises(ValueError, match=message):
        numbered(10).batches(**{"split": "train", "batch_size": 4, "seed": 0} | arguments)


@pytest.mark.parametrize("wrong", [{"pad": -1}, {"pad": 1.5}, {"cutout": -1}, {"mode": "reflect"}])
def test_augmentation_refuses(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        Augmentation(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_gives_the_same_bits():
    images = numbered(50)
    for augmentation in AUGMENTATIONS:
        here = by_sample(images.batches("train", 16, 1, 1, augmentation))
        there = by_sample(images.to("cuda").batches("train", 16, 1, 1, augmentation))
        assert all(there[i].cpu().equal(here[i]) for i in here)
