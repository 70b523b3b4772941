"""A set of labeled point clouds as tensors, its batches, and the conditions that every source must satisfy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.labeled import SPLITS, Arrays, LabeledSet, LabeledSplit, prepare
from comhe.datasets.sampling import ALL, Batch, Loader, Share
from comhe.errors import DataError, UsageError, warn
from comhe.inputs.files import text_seed
from comhe.inputs.shapes import AXES, turn

from .augment import PointAugmentation

HOLD_OUT_SEED = 40
FAR = 10.0  # from the origin, for clouds that are scaled in one way or another


@dataclass(frozen=True, eq=False, repr=False)
class CloudSplit(LabeledSplit):
    """n clouds of P points: ``points`` float32 [n, P, 3] or, with normals, [n, P, 6], ``labels`` int64 [n]."""

    points: Tensor
    labels: Tensor


class CloudLoader(Loader):
    """Batches of clouds float32 [b, points, 3 or 6].

    The draws of order, points and augmentation are functions of seed, epoch and the position in the epoch; the order
    of the clouds is the same on every device, the other draws on every device of one kind.
    """

    def __init__(
        self, data: CloudSplit, augmentation: PointAugmentation | None, points: int, up: int, **options: Any
    ) -> None:
        super().__init__(len(data), augmentation, **options)
        _, self.num_points, self.num_channels = data.points.shape
        if not 1 <= points <= self.num_points:
            raise UsageError(f"points must be in 1..{self.num_points}, the size of the clouds, not {points}")
        self.data, self.augmentation, self.points, self.up = data, augmentation, points, up
        self.device = data.points.device
        self.generators = () if self.seed is None else (torch.Generator(self.device),)

    def inputs(self, epoch: int = 0, first: int = 0) -> Iterator[tuple[Tensor, ...]]:
        generator = None
        if self.seed is not None:
            # Two seeds: one stream of bits must not give both the order and the points.
            generator = torch.Generator().manual_seed(text_seed(f"order of epoch {epoch} of seed {self.seed}"))
            self.generators[0].manual_seed(text_seed(f"points of epoch {epoch} of seed {self.seed}"))
        return self._inputs(self.order(generator).to(self.device).split(self.batch_size), first)

    def _inputs(self, batches: tuple[Tensor, ...], first: int) -> Iterator[tuple[Tensor, ...]]:
        for number, rows in enumerate(batches):
            if number >= first:
                yield (rows,)
            elif self.generators:
                self.collate(rows)  # for its random numbers

    def collate(self, rows: Tensor) -> Batch:  # type: ignore[override]
        count, data = len(rows), self.data
        if not self.generators:
            rows = self.share.take(rows)
            return data.points[:, : self.points].index_select(0, rows), data.labels.index_select(0, rows)
        generator = self.generators[0]
        draw = torch.rand(count, self.num_points, device=self.device, generator=generator)
        chosen = self.share.take(draw).topk(self.points).indices  # in random order: largest draw first
        rows = self.share.take(rows)
        clouds = data.points.reshape(-1, self.num_channels)[rows[:, None] * self.num_points + chosen]
        if self.augmentation is not None:
            clouds = self.augmentation(clouds, generator, self.up, count, self.share)
        return clouds, data.labels[rows]


@dataclass(frozen=True, eq=False, repr=False)
class Clouds(LabeledSet):
    """Point clouds with the same number of points and the same columns; ``up`` is the axis that points up.

    ``front`` is the direction that most objects face, as ``+z``, if they face one.

    Example:
        >>> points, labels = torch.rand(40, 16, 3), torch.arange(40) % 2
        >>> clouds = Clouds.from_arrays("noise", train=(points, labels), test=(points, labels))
        >>> next(clouds.batches("train", batch_size=8, seed=0, points=10))[0].shape
        torch.Size([8, 10, 3])
    """

    train: CloudSplit
    val: CloudSplit
    test: CloudSplit
    up: int
    source: str
    front: str = ""

    @property
    def num_points(self) -> int:
        return self.train.points.shape[1]

    @property
    def num_channels(self) -> int:
        return self.train.points.shape[2]

    def loader(
        self, split: str, batch_size: int, seed: int | None = None, augmentation: PointAugmentation | None = None,
        *, points: int = 1024, drop_last: bool = False, share: Share = ALL,
    ) -> CloudLoader:  # fmt: skip
        """Return the batches of a split: clouds float32 [b, points, 3 or 6] and labels int64 [b], on the set's device.

        The ``points`` of each cloud are drawn in every epoch if there is a seed, else they are its first ones.
        """
        options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "drop_last": drop_last, "share": share}
        return CloudLoader(self.get_split(split), augmentation, points, self.up, **options)

    @classmethod
    def from_arrays(
        cls, name: str, train: Arrays, test: Arrays, val: Arrays | None = None,
        *, classes: Sequence[str] | None = None, up: int = 1, source: str = "", front: str = "",
        seed: int | None = None,
    ) -> Clouds:  # fmt: skip
        """Build a set from points [n, P, 3] or, with normals, [n, P, 6] and labels [n], as arrays or tensors.

        Clouds stay as they are; networks expect them centered, with the farthest point at a distance of 1.
        Without ``val``, a tenth of each class of ``train`` is held out: the standard clouds, or those that ``seed``
        draws. Names of classes are numbers by default.
        """
        drawn = HOLD_OUT_SEED if seed is None else seed
        splits, names = prepare(name, train, test, val, classes, 0.1, drawn)
        data = {}
        for split, (points, labels) in splits.items():
            if points.ndim != 3 or points.shape[2] not in (3, 6) or points.dtype.kind not in "fiu":
                found = f"{points.dtype} {list(points.shape)}"
                raise DataError(f"{name}: points are {found}, not numbers [n, P, 3] or [n, P, 6]")
            if not np.isfinite(points).all():
                raise DataError(f"{name}: points of {split} are not finite")
            if (farthest := float(np.linalg.norm(points[..., :3], axis=-1).max(initial=0))) > FAR:
                hint = "networks expect clouds that are centered and scaled to the unit sphere"
                warn(f"{name}: a point of {split} is {farthest:.3g} from the origin; {hint}")
            data[split] = CloudSplit(torch.as_tensor(points, dtype=torch.float32), torch.from_numpy(labels))
        return cls(name, **data, classes=names, up=up, source=source, front=front)

    def turned(self, up: str) -> Clouds:
        """Return the set with another axis up, for a network that was trained on such clouds."""
        source = "xyz"[self.up]
        splits = {s: self.get_split(s) for s in SPLITS}
        splits = {s: CloudSplit(turn(data.points, source, up), data.labels) for s, data in splits.items()}
        return replace(self, **splits, up=AXES[up], front=self.front if up == source else "")

    def describe(self) -> dict[str, object]:
        farthest = max(self.get_split(split).points[..., :3].norm(dim=-1).max().item() for split in SPLITS)
        census = {"name": self.name, "points": self.num_points, "channels": self.num_channels}
        axes = {"up": "xyz"[self.up], "front": self.front or "not stated"}
        about = {"farthest point": round(farthest, 4), **axes, "source": self.source}
        return {**census, "classes": self.num_classes, **self.sizes(), **about}

    def __repr__(self) -> str:
        return self._repr(f"points={self.num_points}, channels={self.num_channels}")
