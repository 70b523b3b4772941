"""What an image set is to training: images in memory, or files that worker processes read; batches of either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.sampling import ALL, Batch, Batches, Share, epoch_order

from .augment import Augmentation, Normalization, Normalizer, ResizedCrop, channels_first
from .folder import read_images

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Split:
    """n images of one size in memory: pixels uint8 [n, h, w, 3], labels int64 [n]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Self:
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Files:
    """n image files: paths below folder, bytes [n], labels int64 [n]."""

    folder: Path
    paths: np.ndarray
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Self:
        return replace(self, labels=self.labels.to(device))


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """What both kinds of sets have.

    Attributes:
        name: of the set and its split; the same everywhere.
        train, val, test: the parts, disjoint.
        classes: names of the classes, by label.
        mean, std: of each channel, on the scale 0..1.
        source: where the images and their split come from.
    """

    name: str
    train: Split | Files
    val: Split | Files
    test: Split | Files
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def device(self) -> torch.device:
        """Where batches come out."""
        return self.train.labels.device

    def to(self, device: torch.device | str) -> Self:
        """The same set on `device`."""
        return replace(self, **{name: self.part(name).to(device) for name in ("train", "val", "test")})

    def part(self, split: str) -> Split | Files:
        """The part called `train`, `val` or `test`; ValueError for any other name."""
        if split not in ("train", "val", "test"):
            raise ValueError(f"unknown split {split!r}; the splits are train, val, test")
        return getattr(self, split)

    def describe(self) -> dict[str, object]:
        """The census of the set."""
        counts = self.train.labels.bincount(minlength=self.num_classes)
        return {
            "name": self.name,
            "image": "x".join(map(str, self.shape)),
            "classes": self.num_classes,
            "train": len(self.train),
            "val": len(self.val),
            "test": len(self.test),
            "train per class": " to ".join(dict.fromkeys((str(counts.min().item()), str(counts.max().item())))),
            "mean": " ".join(f"{value:.4f}" for value in self.mean),
            "std": " ".join(f"{value:.4f}" for value in self.std),
            "source": self.source,
        }

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={len(self.part(name))}" for name in ("train", "val", "test"))
        return f"{type(self).__name__}({self.name!r}, shape={self.shape}, classes={self.num_classes}, {sizes})"


@dataclass(frozen=True, eq=False, repr=False)
class Images(ImageSet):
    """Small images of one size in memory; `mean` and `std` are those of `train`, `augmentation` is what is usual.

    Pixels are [n, h, w, 3], channels last in memory. So a channels-last batch, the kind that convolutions are fastest
    on, is made by gathers of whole rows and one pass from bytes to normalised floats; nothing is transposed.
    """

    augmentation: Augmentation

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (3, *self.train.pixels.shape[1:3])

    def batches(
        self,
        split: str,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        augmentation: Augmentation | None = None,
        *,
        normalization: Normalization | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        drop_last: bool = False,
        first: int = 0,
        share: Share = ALL,
    ) -> Batches:
        """One epoch of normalised images [b, 3, h, w] and labels int64 [b], on the device of the set.

        With a seed the order and the augmentation are functions of seed and epoch alone; without one the images come
        in their own order. The last batch may be smaller, unless `drop_last`. `normalization` is (means, standard
        deviations) on the scale 0..1, else the set's. The first `first` batches are left out, the others as ever.
        `share`: what is taken of each batch.

        Errors: ValueError or TypeError, at the call, for an argument out of range and an augmentation without a seed.
        """
        part = self.part(split)
        order, generator = epoch_order(len(part), batch_size, seed, epoch, drop_last)
        _, height, width = self.shape
        _check(augmentation, Augmentation, self, seed)
        normalize = Normalizer(normalization or (self.mean, self.std), width, self.device)

        def make(index: Tensor, draws: Tensor | None = None) -> Batch:
            pixels = part.pixels.index_select(0, index)
            if draws is None:
                x = normalize(pixels)
            else:
                x = normalize(augmentation.move(pixels, draws))
                augmentation.cut(x, draws)
            return channels_first(x, dtype, channels_last), part.labels.index_select(0, index)

        inputs = [order]
        if augmentation is not None:
            inputs.append(augmentation.draw(len(part), height, width, generator).index_select(0, order))
        parts = (map(share.of, tensor.to(self.device).split(batch_size)[first:]) for tensor in inputs)
        return Batches(zip(*parts, strict=True), make)


@dataclass(frozen=True, eq=False, repr=False)
class ImageFiles(ImageSet):
    """Images of any size, read from files when they are needed; `mean` and `std` are ImageNet's.

    Without augmentation an image is resized so that its shorter side has `resize` pixels, and `size` x `size` are
    cropped from its centre: torchvision's evaluation. `workers` processes read and decode; 0 is this one. Another
    size: `dataclasses.replace(images, size=160, resize=182)`.
    """

    augmentation: ResizedCrop
    size: int = 224
    resize: int = 256
    workers: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (3, self.size, self.size)

    def batches(
        self,
        split: str,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        augmentation: ResizedCrop | None = None,
        *,
        normalization: Normalization | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = True,
        drop_last: bool = False,
        first: int = 0,
        share: Share = ALL,
    ) -> Batches:
        """As :meth:`Images.batches`, with the augmentation of files.

        Errors: also DataError, at the batch with an image that cannot be decoded.
        """
        part = self.part(split)
        order, _ = epoch_order(len(part), batch_size, seed, epoch, drop_last)
        _check(augmentation, ResizedCrop, self, seed)
        transform = augmentation.transform(self.size) if augmentation else _centre(self.resize, self.size)
        normalize = Normalizer(normalization or (self.mean, self.std), self.size, self.device)
        seeds = None if augmentation is None else (seed, epoch)
        on_gpu = self.device.type == "cuda"
        batches = tuple(map(share.of, order.split(batch_size)[first:]))
        read = read_images(part.folder, part.paths, batches, self.workers, transform, seeds, pin=on_gpu)

        def make(index: Tensor, pixels: Tensor) -> Batch:
            # Bytes travel to the device, a quarter of what floats would be.
            x = normalize(pixels.to(self.device, non_blocking=on_gpu))
            return channels_first(x, dtype, channels_last), part.labels[index.to(self.device)]

        return Batches(zip(batches, read, strict=True), make)


def _centre(resize: int, size: int) -> Callable[[Image], Image]:
    """Torchvision's evaluation: resize the shorter side, crop the centre."""
    from torchvision.transforms import v2  # takes a second to import

    return v2.Compose([v2.Resize(resize), v2.CenterCrop(size)])


def _check(augmentation: object, kind: type, images: ImageSet, seed: int | None) -> None:
    if augmentation is not None and not isinstance(augmentation, kind):
        raise TypeError(f"{type(images).__name__} are augmented by {kind.__name__}, not {augmentation!r}")
    if augmentation is not None and seed is None:
        raise ValueError("an augmentation needs a seed")
