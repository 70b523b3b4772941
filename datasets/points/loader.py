"""Batches of point clouds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from comhe.datasets.labeled import LabeledSplit
from comhe.datasets.sampling import Batch, Loader, text_seed
from comhe.errors import UsageError

from .augment import PointAugmentation


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
