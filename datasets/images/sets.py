"""Sets of labeled images and their batches: in memory, or as files that worker processes decode when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.labeled import Arrays, LabeledSet, LabeledSplit, prepare
from comhe.datasets.sampling import ALL, Batch, Loader, Share, epoch_generator
from comhe.errors import DataError, UsageError
from comhe.inputs.pixels import center

from .augment import Augmentation, Normalization, Normalizer, ResizedCrop
from .decoding import read_images
from .tree import Tree

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEED = 1_906_048_920  # of the standard split; no -random<seed> reaches it, so no split has two names


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
        self.transform = augmentation.transform(size) if augmentation else center(resize, size)
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


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet(LabeledSet):
    """What both kinds of image sets have; ``mean`` and ``std`` are those of each channel, on the scale 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    augmentation_type: ClassVar[type]
    _loader: ClassVar[Callable[..., Loader]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images in a batch."""
        raise NotImplementedError

    def loader(
        self, split: str, batch_size: int, seed: int | None = None,
        augmentation: Augmentation | ResizedCrop | None = None, *, normalization: Normalization | None = None,
        dtype: torch.dtype = torch.float32, channels_last: bool = True, drop_last: bool = False, share: Share = ALL,
    ) -> Loader:  # fmt: skip
        """Return the batches of a split: normalized images [b, 3, h, w] and labels int64 [b], on the set's device.

        A sample is augmented in the same way whatever the batch size. The ``normalization`` is means and standard
        deviations on the scale 0..1, by default those of the set; ``dtype`` and ``channels_last`` are the type and the
        memory format of the images; for the rest see :class:`.Loader`.
        """
        if augmentation is not None and not isinstance(augmentation, self.augmentation_type):
            wanted = self.augmentation_type.__name__
            raise TypeError(f"{type(self).__name__} are augmented by {wanted}, not {augmentation!r}")
        normalization = normalization or (self.mean, self.std)
        normalize = Normalizer(normalization, self.shape[2], self.device, dtype, channels_last)
        options = {"batch_size": batch_size, "seed": seed, "drop_last": drop_last, "share": share}
        return self._loader(self.get_split(split), augmentation, normalize, **options)

    def describe(self) -> dict[str, object]:
        mean, std = (" ".join(f"{value:.4f}" for value in values) for values in (self.mean, self.std))
        census = {"name": self.name, "image": "x".join(map(str, self.shape)), "classes": self.num_classes}
        return {**census, **self.sizes(), "mean": mean, "std": std, "source": self.source}

    def __repr__(self) -> str:
        return self._repr(f"shape={self.shape}")


@dataclass(frozen=True, eq=False, repr=False)
class Images(ImageSet):
    """Small images of one size in memory, pixels uint8 [n, h, w, 3]; ``augmentation`` is what is usual in training.

    Example:
        >>> pixels, labels = np.zeros((8, 4, 4, 3), np.uint8), np.arange(8) % 2
        >>> images = Images.from_arrays("noise", train=(pixels, labels), test=(pixels, labels))
        >>> [x.shape for x, labels in images.batches("train", batch_size=4, seed=0)]
        [torch.Size([4, 3, 4, 4]), torch.Size([2, 3, 4, 4])]
    """

    augmentation: Augmentation
    augmentation_type, _loader = Augmentation, MemoryLoader

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, *self.train.pixels.shape[1:3]

    @classmethod
    def from_arrays(
        cls, name: str, train: Arrays, test: Arrays, val: Arrays | None = None,
        *, classes: Sequence[str] | None = None, source: str = "", seed: int | None = None, held_out: float = 0.1,
        augmentation: Augmentation | None = None,
    ) -> Images:  # fmt: skip
        """Build a set from pixels uint8 [n, h, w, 3] and labels [n] of each split, as arrays or tensors.

        Without ``val``, the fraction ``held_out`` of each class of ``train`` is held out to validate: the standard
        images, or those that ``seed`` draws. By default names of classes are numbers.
        """
        origin = _origin(name, source, val, held_out, seed)
        splits, names = prepare(name, train, test, val, classes, held_out, SEED if seed is None else seed)
        for pixels, _ in splits.values():
            if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
                raise DataError(f"{name}: pixels are {pixels.dtype} {list(pixels.shape)}, not uint8 [n, h, w, 3]")
        data = {split: Split(torch.from_numpy(pixels), torch.from_numpy(y)) for split, (pixels, y) in splits.items()}
        mean, std = _moments(data["train"].pixels)
        augmentation = augmentation or Augmentation()
        return cls(name, **data, classes=names, mean=mean, std=std, source=origin, augmentation=augmentation)


@dataclass(frozen=True, eq=False, repr=False)
class ImageFiles(ImageSet):
    """Images of any size, read from files when they are needed.

    Without augmentation, the shorter side is resized to ``resize`` pixels and ``size`` x ``size`` are cropped from the
    center. For another size: ``dataclasses.replace(images, size=160, resize=182)``. ``mean`` and ``std`` are those of
    ImageNet; ``workers`` is the number of processes that read and decode, 0 for this one.
    """

    augmentation: ResizedCrop
    size: int = 224
    resize: int = 256
    workers: int = 0
    augmentation_type = ResizedCrop

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def _loader(self, data: FileSplit, augmentation: Any, normalize: Normalizer, **options: Any) -> Loader:
        return FileLoader(data, augmentation, normalize, self.size, self.resize, self.workers, **options)

    @classmethod
    def from_tree(
        cls, name: str, tree: Tree, source: str, seed: int | None, workers: int, held_out: float = 0.1
    ) -> ImageFiles:
        val = tree.splits.get("val")
        origin = _origin(name, source, val, held_out, seed)
        seed = SEED if seed is None else seed
        splits, names = prepare(name, tree.splits["train"], tree.splits["test"], val, tree.classes, held_out, seed)
        data: dict[str, Any] = {s: FileSplit(tree.folder, p, torch.from_numpy(y)) for s, (p, y) in splits.items()}
        data |= {"classes": names, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "source": origin}
        return cls(name, **data, augmentation=ResizedCrop(), workers=workers)


def _origin(name: str, source: str, val: Arrays | None, held_out: float, seed: int | None) -> str:
    """Where the images come from, and those to validate on."""
    if val is not None and seed is not None:
        raise UsageError(f"{name!r} has its own validation images, so none are drawn: leave out -random{seed}")
    drawn = "" if seed is None else f", seed {seed}"
    text = f"{held_out:.0%} of each class of train held out to validate{drawn}"
    return f"{source}; {text if val is None else 'its own validation images'}".removeprefix("; ")


def _moments(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel on the scale 0..1, from exact sums, so in any order."""
    sums, squares = torch.zeros(2, pixels.shape[2], 3, dtype=torch.float64, device=pixels.device)
    for rows in pixels.flatten(0, 1).split(1 << 14):
        values = rows.double()
        sums += values.sum(0)
        squares += values.square_().sum(0)
    count = pixels[..., 0].numel()
    mean = sums.sum(0) / count
    std = (squares.sum(0) / count - mean * mean).clamp_min(0).sqrt()
    # A constant channel has no deviation to divide by.
    return tuple((mean / 255).tolist()), tuple((std.where(std > 0, 1.0) / 255).tolist())
