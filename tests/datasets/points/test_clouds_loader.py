"""Every cloud once an epoch, drawn anew and the same again; for evaluation what is stored, in order."""

import pytest
import torch

from comhe.datasets.points.augment import PointAugmentation
from comhe.datasets.points.clouds import Clouds, CloudSplit

NOTHING = PointAugmentation(rotate="none", jitter=0.0)


def numbered(count: int, points: int, channels: int = 3) -> CloudSplit:
    """Every point tells which it is: (cloud, point, 0), and its cloud's label is the cloud's number."""
    cloud, point = torch.meshgrid(torch.arange(float(count)), torch.arange(float(points)), indexing="ij")
    columns = [cloud, point] + [torch.zeros_like(cloud)] * (channels - 2)
    return CloudSplit(torch.stack(columns, dim=-1), torch.arange(count))


@pytest.fixture
def clouds():
    parts = {"train": numbered(23, 40), "val": numbered(7, 40), "test": numbered(10, 40)}
    return Clouds("numbered", **parts, classes=tuple(map(str, range(23))), up=1, source="here")


def test_evaluation_gives_every_cloud_in_order(clouds):
    batches = list(clouds.batches("test", 4, points=15))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([labels for _, labels in batches]), clouds.test.labels)
    assert torch.equal(torch.cat([points for points, _ in batches]), clouds.test.points[:, :15])


def epoch(clouds, seed=0, epoch=0, augmentation=None, **options):
    batches = list(clouds.batches("train", 5, seed, epoch, augmentation, **{"points": 15} | options))
    return torch.cat([p for p, _ in batches]), torch.cat([labels for _, labels in batches])


@pytest.mark.parametrize("drop_last", [False, True])
def test_training_gives_distinct_clouds_and_points(clouds, drop_last):
    points, labels = epoch(clouds, drop_last=drop_last)
    count = 20 if drop_last else 23
    assert points.shape == (count, 15, 3)
    assert len(labels.unique()) == count
    assert torch.equal(points[:, :, 0], labels[:, None].expand(-1, 15).float()), "points stay with their cloud"
    sizes = [len(labels) for _, labels in clouds.batches("train", 5, 0, points=15, drop_last=drop_last)]
    assert sizes == [5, 5, 5, 5] + [3] * (not drop_last)
    assert all(len(numbers.unique()) == 15 for numbers in points[:, :, 1])


def test_epochs_and_seeds_differ_and_repeat(clouds):
    jitter = PointAugmentation()
    runs = {
        where: epoch(clouds, augmentation=jitter, seed=where[0], epoch=where[1]) for where in [(0, 0), (0, 1), (1, 0)]
    }
    for where, (points, labels) in runs.items():
        torch.rand(3)  # the global generator is of no account
        again = epoch(clouds, augmentation=jitter, seed=where[0], epoch=where[1])
        assert torch.equal(points, again[0])
        assert torch.equal(labels, again[1])
    first, *others = runs.values()
    for other in others:
        assert not torch.equal(first[1], other[1])
        assert not torch.equal(first[0], other[0])


def test_global_generator_is_neither_used_nor_changed(clouds):
    before = torch.get_rng_state()
    epoch(clouds, augmentation=PointAugmentation(scale=(0.5, 2), translate=0.1, dropout=0.5))
    assert torch.equal(before, torch.get_rng_state())


def test_order_does_not_depend_on_the_augmentation(clouds):
    assert torch.equal(epoch(clouds)[1], epoch(clouds, augmentation=PointAugmentation())[1])


def test_over_many_epochs_every_cloud_and_point_comes_equally_often(clouds):
    seen = torch.zeros(23, 40)
    for number in range(400):
        points, _ = epoch(clouds, epoch=number, drop_last=True)
        seen.index_put_((points[..., 0].long(), points[..., 1].long()), torch.ones(20, 15), accumulate=True)
    expected = 400 * 20 / 23 * 15 / 40
    assert (seen - expected).abs().max() < 5 * expected**0.5
    assert (seen.sum(1) / 15 - 400 * 20 / 23).abs().max() < 25


def test_all_points_in_an_order_of_their_own(clouds):
    points, _ = epoch(clouds, points=40)
    assert torch.equal(points[..., 1].sort(1).values, torch.arange(40.0).expand(23, -1))
    assert not torch.equal(points[0, :, 1], points[1, :, 1])


def test_the_batch_size_does_not_change_the_order(clouds):
    for size in (1, 4, 23, 100):
        labels = torch.cat([labels for _, labels in clouds.batches("train", size, 3, 2, points=1)])
        assert torch.equal(labels, epoch(clouds, seed=3, epoch=2)[1])


@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("first", [0, 1, 4, 5, 6])
def test_an_epoch_is_gone_on_with_where_it_was_left(clouds, seed, first):
    augmentation = None if seed is None else PointAugmentation(dropout=0.5)
    whole = list(clouds.batches("train", 5, seed, 2, augmentation, points=15))
    rest = list(clouds.batches("train", 5, seed, 2, augmentation, points=15, first=first))
    assert len(rest) == max(0, len(whole) - first)
    for (points, labels), again in zip(whole[first:], rest, strict=True):
        assert torch.equal(points, again[0])
        assert torch.equal(labels, again[1])


def test_nothing_switched_on_changes_nothing(clouds):
    assert torch.equal(epoch(clouds)[0], epoch(clouds, augmentation=NOTHING)[0])


def test_training_batches_are_copies(clouds):
    before = clouds.train.points.clone()
    for points, _ in clouds.batches("train", 5, 0, points=40):
        points.zero_()
    assert torch.equal(clouds.train.points, before)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("tests", 4), {}, "unknown split 'tests'; the splits are train, val, test"),
        (("test", 4), {}, "points must be in 1\\.\\.40, the size of the clouds, not 1024"),
        (("test", 4), {"points": 0}, "points must be in 1\\.\\.40, .* not 0"),
        (("test", 0), {"points": 15}, "batch_size must be at least 1, not 0"),
        (("test", 11), {"points": 15, "drop_last": True}, "drop_last leaves no batch: 10 samples are fewer than .* 11"),
        (("test", 4), {"points": 15, "augmentation": NOTHING}, "an augmentation needs a seed"),
    ],
)
def test_errors_come_before_the_first_batch(clouds, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        clouds.batches(*arguments, **options)
