"""What sets of labeled samples have in common: three splits, the names of the classes, and batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from comhe.errors import DataError, UsageError

from .io.cache import Splits
from .sampling import Batch, Loader, hold_out
from .scarcity import draw_labels

SPLITS = ("train", "val", "test")
TESTED = 0.2  # of each class, of a set without splits
Arrays = tuple[Any, Any]  # samples and labels of a split, as arrays or tensors


class LabeledSplit:
    """Base of dataclasses of n samples and their ``labels``, int64 [n]."""

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Self:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})  # type: ignore[type-var]

    def take(self, rows: np.ndarray, labels: np.ndarray) -> Self:
        """Return the samples of these numbers with other labels."""
        taken = {name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor | np.ndarray)}
        taken["labels"] = torch.as_tensor(labels, device=self.labels.device)
        return replace(self, **taken)  # type: ignore[type-var]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples)"


@dataclass(frozen=True, eq=False, repr=False)
class LabeledSet:
    """Labeled samples in three disjoint splits; ``classes`` are the names of the classes, by label."""

    name: str
    train: Any
    val: Any
    test: Any
    classes: tuple[str, ...]
    loader: ClassVar[Callable[..., Loader]]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def device(self) -> torch.device:
        return self.train.labels.device

    def to(self, device: torch.device | str) -> Self:
        return replace(self, **{split: self.get_split(split).to(device) for split in SPLITS})

    def get_split(self, split: str) -> Any:
        """Return the split called ``train``, ``val`` or ``test``."""
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r}; the splits are {', '.join(SPLITS)}")
        return getattr(self, split)

    def with_labels(self, per_class: int = 0, noise: float = 0.0, seed: int = 0) -> Self:
        """Return the set with fewer or wrong labels in ``train``; see :func:`.draw_labels`."""
        if not (per_class or noise):
            return self
        rows, labels = draw_labels(self.train.labels.cpu().numpy(), self.num_classes, per_class, noise, seed)
        return replace(self, train=self.train.take(rows, labels))

    def batches(
        self, split: str, batch_size: int, seed: int | None = None, epoch: int = 0, augmentation: Any = None,
        *, first: int = 0, **options: Any,
    ) -> Iterator[Batch]:  # fmt: skip
        """Iterate over one epoch; the arguments are those of :meth:`loader` and :meth:`.Loader.inputs`."""
        return self.loader(split, batch_size, seed, augmentation, **options).batches(epoch, first)

    def sizes(self) -> dict[str, object]:
        """Return the number of samples of each split, and of train's smallest and largest class."""
        counts = self.train.labels.bincount(minlength=self.num_classes)
        each = dict.fromkeys((str(counts.min().item()), str(counts.max().item())))
        return {split: len(self.get_split(split)) for split in SPLITS} | {"train per class": " to ".join(each)}

    def _repr(self, figures: str) -> str:
        sizes = ", ".join(f"{split}={len(self.get_split(split))}" for split in SPLITS)
        return f"{type(self).__name__}({self.name!r}, {figures}, classes={self.num_classes}, {sizes})"


def prepare(
    name: str, train: Arrays, test: Arrays, val: Arrays | None,
    classes: Sequence[str] | None, held_out: float, seed: int,
) -> tuple[Splits, tuple[str, ...]]:  # fmt: skip
    """Check arrays, name the classes by their numbers if they have no names, and hold out ``val`` if it is missing."""
    found = {"train": train, "test": test} | ({} if val is None else {"val": val})
    splits = {split: _as_arrays(*pair, f"{name}: {split}") for split, pair in found.items()}
    samples, labels = splits["train"]
    names = range(labels.max(initial=-1) + 1) if classes is None else classes
    for split, (each, each_labels) in splits.items():
        if each.shape[1:] != samples.shape[1:]:
            raise DataError(f"{name}: samples of {split} are {list(each.shape)}, those of train {list(samples.shape)}")
        check_labels(each_labels, len(each), len(names), f"{name}: {split}")
    if val is None:
        kept, held = hold_out(labels, held_out, seed)
        if not len(held):
            raise DataError(f"{name}: no class has two training samples, so none can be held out to validate")
        splits |= {"train": (samples[kept], labels[kept]), "val": (samples[held], labels[held])}
    return {s: (each, y.astype(np.int64, copy=False)) for s, (each, y) in splits.items()}, tuple(map(str, names))


def _as_arrays(samples: Any, labels: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        arrays = np.asarray(samples), np.asarray(labels)
    except ValueError as error:
        raise DataError(f"{name}: samples are not of one size") from error
    if not arrays[0].ndim:
        raise DataError(f"{name}: samples must be an array, a tensor or a list of these, not {type(samples).__name__}")
    check_integers(arrays[1], len(arrays[0]), name)
    return arrays


def draw_test(name: str, splits: Splits, seed: int) -> tuple[Splits, str]:
    """Draw samples of each class of ``train`` to test; return both splits, and the share that was drawn."""
    samples, labels = splits["train"]
    kept, tested = hold_out(labels, TESTED, seed)
    if not len(tested):
        raise DataError(f"{name}: no class has two samples, so none can be drawn to test")
    return {"train": (samples[kept], labels[kept]), "test": (samples[tested], labels[tested])}, f"{TESTED:.0%}"


def check_labels(labels: np.ndarray, count: int, classes: int, name: str) -> None:
    """Raise a DataError unless ``labels`` are ``count`` integers in 0..classes-1."""
    check_integers(labels, count, name)
    if count and not 0 <= labels.min() <= labels.max() < classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"{name}: label {wrong} is outside 0..{classes - 1}")


def check_integers(labels: np.ndarray, count: int, name: str) -> None:
    """Raise a DataError unless ``labels`` are ``count`` integers."""
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(f"{name}: labels are {labels.dtype} {list(labels.shape)}, not one integer for {count} samples")
