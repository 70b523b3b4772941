"""A set of point clouds as tensors: its three parts, what every source must satisfy, and its batches."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.graphs.citation import shuffled
from comhe.datasets.io.fetch import DataError
from comhe.datasets.sampling import ALL, Batch, Batches, Share

from .augment import PointAugmentation

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

    @property
    def device(self) -> torch.device:
        return self.train.points.device

    def to(self, device: torch.device | str) -> "Clouds":
        """The same clouds with all tensors on `device`."""
        return replace(self, **{split: self.part(split).to(device) for split in SPLITS})

    def part(self, split: str) -> CloudSplit:
        """The part called `train`, `val` or `test`; ValueError for any other name."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; the splits are {', '.join(SPLITS)}")
        return getattr(self, split)

    def batches(
        self,
        split: str,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        augmentation: PointAugmentation | None = None,
        *,
        points: int = 1024,
        drop_last: bool = False,
        first: int = 0,
        generator: torch.Generator | None = None,
        share: Share = ALL,
    ) -> Batches:
        """One epoch of clouds float32 [b, points, 3 or 6] and labels int64 [b], on the device of the set.

        Without a seed, for evaluation: in stored order, of every cloud its first `points` points. With one, for
        training: in an order, and with a subset of every cloud's points in an order of its own, that are drawn anew
        each epoch; then the augmentation. The last batch may be smaller, unless `drop_last`. The first `first` batches
        are left out, the others as ever. A `generator` given is seeded and drawn from in place of one that belongs to
        the epoch: a CUDA graph knows its generators by name. `share`: what is taken of each batch.

        All that is random is a function of seed, epoch and the place in the epoch. The order of the clouds is the same
        on every device, the other draws on every device of one kind.

        Raises:
            ValueError: at the call, for an unknown split, more points than the clouds have, a batch size below 1, an
                augmentation without a seed, or an epoch without a batch.
        """
        part = self.part(split)
        count = len(part)
        if not 1 <= points <= self.num_points:
            raise ValueError(f"points must be 1 to {self.num_points}, what clouds of {self.name} have, not {points}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if drop_last and count < batch_size:
            raise ValueError(f"drop_last leaves no batch: {count} clouds are fewer than batch_size {batch_size}")
        if augmentation is not None and seed is None:
            raise ValueError("an augmentation needs a seed")
        end = count - count % batch_size if drop_last else count
        if seed is None:
            stored = (part.points[:, :points], part.labels)
            parts = (map(share.of, tensor[:end].split(batch_size)[first:]) for tensor in stored)
            return Batches(zip(*parts, strict=True), lambda clouds, labels: (clouds.contiguous(), labels))
        # Two seeds: one stream of bits must not give both the order and the points.
        order_seed, seed = (seed_of(f"{what} of epoch {epoch} of seed {seed}") for what in ("order", "points"))
        order = torch.from_numpy(shuffled(count, torch.Generator().manual_seed(order_seed)))[:end].to(self.device)
        generator = (torch.Generator(self.device) if generator is None else generator).manual_seed(seed)
        every_point = part.points.reshape(-1, self.num_channels)

        def make(rows: Tensor) -> Batch:
            whole = len(rows)
            draw = torch.rand(whole, self.num_points, device=self.device, generator=generator)
            chosen = share.of(draw).topk(points).indices  # in random order: largest draw first
            rows = share.of(rows)
            clouds = every_point[rows[:, None] * self.num_points + chosen]
            if augmentation is not None:
                clouds = augmentation(clouds, generator, self.up, whole, share)
            return clouds, part.labels[rows]

        def inputs() -> Iterator[tuple[Tensor]]:
            for number, rows in enumerate(order.split(batch_size)):
                if number >= first:
                    yield (rows,)
                else:
                    make(rows)  # for what it draws

        return Batches(inputs(), make)

    def describe(self) -> dict[str, object]:
        """The census: counts, the sizes of train's classes, and the farthest point from the origin."""
        each = self.train.labels.bincount(minlength=self.num_classes)
        farthest = max(self.part(split).points[..., :3].norm(dim=-1).max().item() for split in SPLITS)
        return {
            "name": self.name,
            "points": self.num_points,
            "channels": self.num_channels,
            "classes": self.num_classes,
            **{split: len(self.part(split)) for split in SPLITS},
            "train per class": " to ".join(dict.fromkeys((str(each.min().item()), str(each.max().item())))),
            "farthest point": round(farthest, 4),
            "up": "xyz"[self.up],
            "source": self.source,
        }

    def __repr__(self) -> str:
        split = ", ".join(f"{split}={len(self.part(split))}" for split in SPLITS)
        return (
            f"Clouds({self.name!r}, points={self.num_points}, channels={self.num_channels}, "
            f"classes={self.num_classes}, {split})"
        )


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
