"""A set of point clouds as tensors: its three parts, what every source must satisfy, and its batches."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.citation import shuffled
from comhe.datasets.fetch import DataError
from comhe.datasets.point_augmentation import PointAugmentation

SPLITS = ("train", "val", "test")
HOLD_OUT_SEED = 40
FARTHEST = 1e15  # coordinates beyond it are refused: their squares come near the end of float32


@dataclass(frozen=True, eq=False)
class CloudSplit:
    """n clouds of P points: `points` float32 [n, P, 3] or, with normals, [n, P, 6]; `labels` int64 [n]."""

    points: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "CloudSplit":
        return CloudSplit(self.points.to(device), self.labels.to(device))

    def __repr__(self) -> str:
        return f"CloudSplit(points={list(self.points.shape)}, labels={list(self.labels.shape)})"


@dataclass(frozen=True, eq=False)
class Clouds:
    """Point clouds that are to be classified, with their split.

    Attributes:
        name: of the set; the same everywhere.
        train, val, test: disjoint parts with the same number of points a cloud and the same columns.
        classes: names; a label is an index into them.
        up: the axis that points up in this set, 0, 1 or 2.
        source: where the clouds and their split come from.
    """

    name: str
    train: CloudSplit
    val: CloudSplit
    test: CloudSplit
    classes: tuple[str, ...]
    up: int
    source: str

    @property
    def num_points(self) -> int:
        return self.train.points.shape[1]

    @property
    def num_channels(self) -> int:
        return self.train.points.shape[2]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device | str) -> "Clouds":
        """The same clouds with all tensors on `device`."""
        return replace(self, **{split: getattr(self, split).to(device) for split in SPLITS})

    def batches(
        self,
        split: str,
        batch_size: int,
        points: int = 1024,
        *,
        augmentation: PointAugmentation | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Clouds float32 [b, points, 3 or 6] and labels int64 [b], on the device that the set is on.

        Without an augmentation, for evaluation: every cloud once, in stored order, its first `points` points; the last
        batch holds what is left. With one, for training: an order and for every cloud a subset of its points that are
        drawn anew each epoch, then the augmentation. Only full batches are given then (unless the split has not even
        one), as in the published loops: batch norm fares badly on a remainder of one or two.

        All that is random is a function of (seed, epoch) and of the position in the epoch, by generators of its own.
        The order of the clouds is the same on every device, the rest on every device of one kind.

        Raises:
            ValueError: an unknown split, more points than the clouds have, or a number out of range.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")
        if not 1 <= points <= self.num_points:
            raise ValueError(f"points must be 1 to {self.num_points}, what clouds of {self.name} have, not {points}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        part: CloudSplit = getattr(self, split)
        if augmentation is None:
            return _in_order(part, batch_size, points)
        return _at_random(part, batch_size, points, augmentation, self.up, seed, epoch)

    def __repr__(self) -> str:
        split = ", ".join(f"{split}={len(getattr(self, split))}" for split in SPLITS)
        return (
            f"Clouds({self.name!r}, points={self.num_points}, channels={self.num_channels}, "
            f"classes={self.num_classes}, {split})"
        )


def _in_order(part: CloudSplit, batch_size: int, points: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(part), batch_size):
        rows = slice(start, start + batch_size)
        yield part.points[rows, :points], part.labels[rows]


def _at_random(
    part: CloudSplit, batch_size: int, points: int, augmentation: PointAugmentation, up: int, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    device, (count, stored, channels) = part.points.device, part.points.shape
    start = seed_of(f"epoch {epoch} of seed {seed}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(start)).to(device)
    generator = torch.Generator(device).manual_seed(start)
    every_point = part.points.reshape(-1, channels)
    batch_size = min(batch_size, count)
    for first in range(0, count - batch_size + 1, batch_size):
        rows = order[first : first + batch_size]
        subset = torch.rand(batch_size, stored, device=device, generator=generator).topk(points).indices
        clouds = every_point[rows[:, None] * stored + subset]
        yield augmentation(clouds, generator, up), part.labels[rows]


def seed_of(text: str) -> int:
    """A seed that differs for every text, the same everywhere (unlike `hash`)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def check_clouds(points: np.ndarray, name: object) -> None:
    """DataError that names the file unless `points` [n, P, 3 or more] are clouds: finite, and more than one place."""
    if points.shape[1] < 2:
        raise DataError(f"{name}: a cloud of {points.shape[1]} point; there have to be 2 at least")
    finite = (np.abs(points) < FARTHEST).reshape(len(points), -1).all(1)  # also false for NaN
    spread = (points[:, :, :3] != points[:, :1, :3]).reshape(len(points), -1).any(1)
    for good, reason in ((finite, f"a value that is not finite or beyond {FARTHEST:g}"), (spread, "only one place")):
        if not good.all():
            which = f"cloud {good.argmin()} (from 0) has" if len(points) > 1 else "the cloud has"
            raise DataError(f"{name}: {which} {reason}")


def unit_sphere(points: np.ndarray) -> np.ndarray:
    """`points` [P, 3 or more] with the mean of the points in the origin and the farthest at distance 1, as published.

    Further columns (normals) are left as they are.
    """
    points = points.astype(np.float64)
    places = points[:, :3]
    places -= places.mean(0)
    places /= np.linalg.norm(places, axis=1).max()
    return points


def hold_out(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which clouds stay for training and which validate: 10 % of each class, one at least of two or more; sorted.

    Drawn once and for all from a fixed seed, so that every run and every method validates on the same clouds.
    """
    order = shuffled(len(labels), torch.Generator().manual_seed(HOLD_OUT_SEED))
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        share = max((len(members) + 5) // 10, 1) if len(members) > 1 else 0
        chosen[members[:share]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def as_splits(parts: dict[str, tuple[np.ndarray, np.ndarray]], name: object) -> dict[str, CloudSplit]:
    """`train`, `val` and `test` from arrays of points and labels; `val` is held out of `train` where it is missing."""
    if "val" not in parts:
        points, labels = parts["train"]
        train, val = hold_out(labels)
        if not len(val):
            raise DataError(f"{name}: no class has two clouds to train on, so that none can be held out to validate")
        parts = parts | {"train": (points[train], labels[train]), "val": (points[val], labels[val])}
    return {
        split: CloudSplit(
            torch.as_tensor(parts[split][0], dtype=torch.float32), torch.as_tensor(parts[split][1], dtype=torch.int64)
        )
        for split in SPLITS
    }
