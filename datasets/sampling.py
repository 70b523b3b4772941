"""An epoch: its order and the seeds of its random numbers, functions of seed and epoch so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import torch
from torch import Tensor

from .graphs.citation import shuffled

Batch = tuple[Tensor, Tensor]


class Batches(Iterable[Batch]):
    """One epoch, to be gone through once: an iterable of batches, each ``make(*inputs)``.

    Attributes:
        inputs: what differs from batch to batch, as tensors: which samples, which random numbers, or pixels from files.
        make: makes a batch of it. All that it does is work on the device of the set, of shapes that depend on those of
            its arguments alone. In every epoch it is the same function of them, so that a CUDA graph may hold it.
    """

    def __init__(self, inputs: Iterable[tuple[Tensor, ...]], make: Callable[..., Batch]) -> None:
        self.inputs, self.make = inputs, make

    def __iter__(self) -> Iterator[Batch]:
        return starmap(self.make, self.inputs)


@dataclass(frozen=True)
class Share:
    """What one of several processes takes of every batch: an equal run of each of the batch's parts.

    Runs of one part differ in length by one sample at most, the first ranks have the longer ones. Everything that is
    drawn for a batch is drawn for all of it by every process, which then takes its own.

    Attributes:
        rank, ranks: which of how many processes.
        parts: that a batch goes through the network in, one after the other.
    """

    rank: int = 0
    ranks: int = 1
    parts: int = 1

    def runs(self, count: int) -> list[tuple[int, slice]]:
        """Of each part of a batch of ``count`` samples, how many it has, and which of the batch are the rank's."""
        found = []
        for part in range(self.parts):
            start, end = _edge(count, part, self.parts), _edge(count, part + 1, self.parts)
            own = (start + _edge(end - start, self.rank + i, self.ranks) for i in (0, 1))
            found.append((end - start, slice(*own)))
        return found

    def of(self, batch: Tensor) -> Tensor:
        """The rank's samples of a batch [count, ...], part after part."""
        if self.ranks == 1:
            return batch
        return torch.cat([batch[run] for _, run in self.runs(len(batch))])


def _edge(count: int, place: int, places: int) -> int:
    """Where the ``place``-th of so many nearly equal runs begins, the longer ones first: as tensor_split does it."""
    return place * (count // places) + min(place, count % places)


ALL = Share()


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator on the CPU for one epoch; neighbouring seeds and epochs give unrelated streams.

    Errors: ValueError for a negative number.
    """
    return torch.Generator().manual_seed(mixed_seed(seed, epoch))


def mixed_seed(*numbers: int) -> int:
    """32 well mixed bits (all that torch's CPU generator takes) from numbers >= 0; the same in every numpy release."""
    if min(numbers) < 0:
        raise ValueError(f"seed and epoch must be >= 0, not {numbers[0]} and {numbers[1]}")
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def epoch_order(
    count: int, batch_size: int, seed: int | None, epoch: int, drop_last: bool
) -> tuple[Tensor, torch.Generator | None]:
    """The sample numbers of an epoch, int64, and the generator that has shuffled them, for whatever is drawn next.

    Without a seed the samples come in their own order, and there is no generator. With `drop_last` the numbers of a
    last batch that is not full are left out.

    Errors: ValueError for a batch size below 1, a negative seed or epoch, and an epoch without a batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if drop_last and count < batch_size:
        raise ValueError(f"drop_last leaves no batch: {count} samples are fewer than batch_size {batch_size}")
    generator = None if seed is None else epoch_generator(seed, epoch)
    order = torch.arange(count) if generator is None else torch.from_numpy(shuffled(count, generator))
    return order[: count - count % batch_size if drop_last else count], generator
