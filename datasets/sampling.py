"""Seeds, orders, splits and batches: functions of seed and epoch alone, so that a run can be repeated and resumed."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import torch
from torch import Tensor

from comhe.errors import UsageError

Batch = tuple[Tensor, Tensor]


def mixed_seed(*numbers: int) -> int:
    """Mix numbers >= 0, such as seed and epoch, into 32 bits; the same in every numpy release.

    Example:
        >>> mixed_seed(0, 1) != mixed_seed(1, 0)
        True
    """
    if min(numbers) < 0:
        raise UsageError(f"seed and epoch must be >= 0, not {', '.join(map(str, numbers))}")
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return a generator on the CPU for one epoch; neighboring seeds and epochs give unrelated streams."""
    return torch.Generator().manual_seed(mixed_seed(seed, epoch))


def shuffled(count: int, generator: torch.Generator) -> np.ndarray:
    """Return a permutation of 0..count-1, from sorted integers because torch.randperm may change between releases."""
    return np.argsort(torch.randint(2**31 - 1, (count,), generator=generator).numpy(), kind="stable")


def by_class(labels: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sample numbers class by class, within each in the given order, and the rank of each in its class.

    Example:
        >>> [found.tolist() for found in by_class(np.array([1, 0, 1]), np.array([2, 1, 0]))]
        [[1, 2, 0], [0, 0, 1]]
    """
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[np.argsort(labels[order], kind="stable")], rank


def hold_out(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of samples to train on and of ``fraction`` of each class (one or more) to validate on, sorted."""
    order, rank = by_class(labels, shuffled(len(labels), torch.Generator().manual_seed(seed)))
    counts = np.bincount(labels)
    held = np.where(counts > 1, np.maximum(1, np.floor(fraction * counts + 0.5)), 0)
    chosen = rank < np.repeat(held, counts)
    return np.sort(order[~chosen]), np.sort(order[chosen])


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes works on: an equal slice of each microbatch.

    Slices differ in length by one sample at most; the first ranks have the longer ones. Every process draws the random
    numbers of the full batch and then takes its slices. ``rank`` is the number of this process, ``ranks`` that of all;
    a batch goes through the network in ``microbatches`` pieces, one after the other.

    Example:
        >>> Share(rank=1, ranks=2).take(torch.arange(5))
        tensor([3, 4])
    """

    rank: int = 0
    ranks: int = 1
    microbatches: int = 1

    def slices(self, count: int) -> list[tuple[int, slice]]:
        """Return the size of each microbatch of a batch of ``count`` samples, and this rank's slice of the batch."""
        result = []
        for i in range(self.microbatches):
            start, end = (_edge(count, i + offset, self.microbatches) for offset in (0, 1))
            edges = (start + _edge(end - start, self.rank + offset, self.ranks) for offset in (0, 1))
            result.append((end - start, slice(*edges)))
        return result

    def take(self, batch: Tensor) -> Tensor:
        """Return this rank's samples of a batch [count, ...], microbatch by microbatch."""
        if self.ranks == 1:
            return batch
        return torch.cat([batch[samples] for _, samples in self.slices(len(batch))])


def _edge(count: int, index: int, pieces: int) -> int:
    """Where piece ``index`` begins if ``count`` is cut into nearly equal pieces, the longer ones first."""
    return index * (count // pieces) + min(index, count % pieces)


ALL = Share()


class Loader(ABC):
    """Batches of one split, with everything that stays the same over a run; only :meth:`inputs` depends on the epoch.

    :meth:`collate` is the same function in every epoch, works on the device of the data, and gives shapes that depend
    on those of its arguments alone. So a CUDA graph may capture it.

    ``count`` is the number of samples in the split. ``seed`` shuffles each epoch in its own way, None keeps the stored
    order; an ``augmentation`` needs a seed. ``drop_last`` leaves out a last batch that is not full.
    """

    generators: tuple[torch.Generator, ...] = ()  # those on the device that collate draws from; inputs seeds them

    def __init__(
        self, count: int, augmentation: object, batch_size: int, seed: int | None, drop_last: bool, share: Share
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}")
        if drop_last and count < batch_size:
            raise UsageError(f"drop_last leaves no batch: {count} samples are fewer than batch_size {batch_size}")
        if augmentation is not None and seed is None:
            raise UsageError("an augmentation needs a seed")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.drop_last, self.share = drop_last, share

    @property
    def steps(self) -> int:
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def order(self, generator: torch.Generator | None) -> Tensor:
        """Return the sample numbers of an epoch, int64: shuffled by ``generator``, or in stored order without one."""
        order = torch.arange(self.count) if generator is None else torch.from_numpy(shuffled(self.count, generator))
        return order[: self.count - self.count % self.batch_size if self.drop_last else self.count]

    @abstractmethod
    def inputs(self, epoch: int = 0, first: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Return what differs from batch to batch, such as sample numbers, without the ``first`` batches."""

    @abstractmethod
    def collate(self, *inputs: Tensor) -> Batch:
        """Build one batch of samples [b, ...] and labels int64 [b]."""

    def batches(self, epoch: int = 0, first: int = 0) -> Iterator[Batch]:
        return starmap(self.collate, self.inputs(epoch, first))
