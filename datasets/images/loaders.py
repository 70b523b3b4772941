"""Batches of images: from pixels in memory, or from files that worker processes decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from comhe.datasets.labeled import LabeledSplit
from comhe.datasets.sampling import Batch, Loader, epoch_generator

from .augment import Augmentation, Normalizer, ResizedCrop
from .decoding import read_images

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False, repr=False)
class Split(LabeledSplit):
    """n images of one size in memory: ``pixels`` uint8 [n, h, w, 3], ``labels`` int64 [n]."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class FileSplit(LabeledSplit):
    """n image files: ``paths`` below ``folder``, bytes [n], ``labels`` int64 [n]."""

    folder: Path
    paths: np.ndarray
    labels: Tensor


class MemoryLoader(Loader):
    """Batches of images in memory. Pixels are [n, h, w, 3], so a channels-last batch needs no transposition."""

    def __init__(self, data: Split, augmentation: Augmentation | None, normalize: Normalizer, **options: Any) -> None:
        super().__init__(len(data), augmentation, **options)
        self.data, self.augmentation, self.normalize = data, augmentation, normalize

    def inputs(self, epoch: int = 0, first: int = 0) -> Iterator[tuple[Tensor, ...]]:
        generator = None if self.seed is None else epoch_generator(self.seed, epoch)
        order = self.order(generator)
        tensors = [order]
        if self.augmentation is not None and generator is not None:
            _, height, width, _ = self.data.pixels.shape
            tensors.append(self.augmentation.draw(self.count, height, width, generator).index_select(0, order))
        device = self.data.pixels.device
        batches = (map(self.share.take, tensor.to(device).split(self.batch_size)[first:]) for tensor in tensors)
        return zip(*batches, strict=True)

    def collate(self, index: Tensor, draws: Tensor | None = None) -> Batch:  # type: ignore[override]
        pixels = self.data.pixels.index_select(0, index)
        if self.augmentation is None or draws is None:
            x = self.normalize(pixels)
        else:
            x = self.normalize(self.augmentation.move(pixels, draws))
            self.augmentation.cut(x, draws)
        return self.normalize.channels_first(x), self.data.labels.index_select(0, index)


class FileLoader(Loader):
    """Batches of images of any size, which worker processes read, decode and transform.

    Without augmentation, the shorter side is resized to ``resize`` and the center is cropped, as torchvision does.
    """

    def __init__(
        self, data: FileSplit, augmentation: ResizedCrop | None, normalize: Normalizer,
        size: int, resize: int, workers: int, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(len(data), augmentation, **options)
        self.data, self.augmentation, self.normalize, self.workers = data, augmentation, normalize, workers
        self.transform = augmentation.transform(size) if augmentation else _center(resize, size)
        self.device = data.labels.device

    def inputs(self, epoch: int = 0, first: int = 0) -> Iterator[tuple[Tensor, ...]]:
        order = self.order(None if self.seed is None else epoch_generator(self.seed, epoch))
        batches = tuple(map(self.share.take, order.split(self.batch_size)[first:]))
        seeds = None if self.augmentation is None or self.seed is None else (self.seed, epoch)
        pin = self.device.type == "cuda"
        read = read_images(self.data.folder, self.data.paths, batches, self.workers, self.transform, seeds, pin)
        return zip(batches, read, strict=True)

    def collate(self, index: Tensor, pixels: Tensor) -> Batch:  # type: ignore[override]
        # Bytes travel to the device, a quarter of the size of floats.
        x = self.normalize(pixels.to(self.device, non_blocking=self.device.type == "cuda"))
        return self.normalize.channels_first(x), self.data.labels[index.to(self.device)]


def _center(resize: int, size: int) -> Callable[[Image], Image]:
    """Torchvision's evaluation: resize the shorter side, crop the center."""
    from torchvision.transforms import v2  # takes a second to import

    return v2.Compose([v2.Resize(resize), v2.CenterCrop(size)])
