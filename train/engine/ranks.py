"""Several processes that make one run: torchrun starts them, each has a rank and a share of every batch.

The recipe's batch is that of all of them together, so that a run is the same run on any number of processes, but for
the rounding of sums and the numbers that dropout draws. Batch norm takes its statistics over the whole batch.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from comhe.datasets.sampling import Share
from comhe.train.runs.interruption import started
from comhe.zoo.norms import convert_global_batch_norm

TIMEOUT = timedelta(minutes=10)  # of one rank for the others, that may be reading data or writing a checkpoint
ASKING = 1.0  # seconds between two questions whether to stop or save
LAST_WORDS = 3.0  # seconds that a rank outlives another: torchrun ends it, once it has seen which one failed
LOST = ("onnection", "ocket", "timed out", "Timed out", "NCCL", "gloo")  # in what torch says of a peer that is gone

Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, from the point of view of one of them; by default there is no other.

    Attributes:
        rank, size: which of how many.
        parallel: ``ddp``, every process has the whole model; ``fsdp``, each has a part of every layer.
        shard_penalty: each process computes the penalties of some layers, not all of all.
    """

    rank: int = 0
    size: int = 1
    parallel: Parallel = "ddp"
    shard_penalty: bool = False

    def share(self, batch: int, parts: int) -> Share:
        """What this one takes of batches of so many samples that go through the network in so many parts.

        Errors: ValueError where that is less than a sample of each part.
        """
        if batch // parts < self.size:
            raise ValueError(
                f"a batch of {batch} in {parts} part{'s' * (parts > 1)} has too few samples for {self.size} processes; "
                "raise batch_size, or lower accumulate or the number of processes"
            )
        return Share(self.rank, self.size, parts)

    def spread(self, model: nn.Module) -> nn.Module:
        """The model as it is to be called in training, its batch norms over all ranks and its gradients averaged."""
        if self.size == 1:
            return model
        model = convert_global_batch_norm(model)
        if self.parallel == "ddp":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # the argument has another name from torch 2.15 on
                return Replicated(model, broadcast_buffers=False)  # they are the same everywhere
        from .sharded import shard  # takes a second to import

        shard(model, self.size)
        return model

    def whole(self, state: Any) -> Any:
        """A state dict, or what contains some, with nothing in it that is divided over ranks."""
        if self.parallel == "ddp":
            return state
        from .sharded import whole

        return whole(state)

    def divided(self, part: Any, state: Any) -> Any:
        """What the part's ``load_state_dict`` takes for a whole state."""
        if self.parallel == "ddp":
            return state
        from .sharded import divided

        return divided(part, state)

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(x)
        return x

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the ranks."""
        return x if self.size == 1 else self.sum(x.clone()) / self.size

    def largest(self, x: Tensor) -> Tensor:
        """The maximum over the ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(x, distributed.ReduceOp.MAX)
        return x

    def gather(self, own: Any) -> list[Any]:
        """What each rank has, on the first one; nothing on the others."""
        found = [own] * self.size if self.rank == 0 else []
        if self.size > 1:
            distributed.gather_object(own, found or None)
        return found

    def wait(self) -> None:
        """Go on once all are here."""
        if self.size > 1:
            distributed.barrier()


class Replicated(DistributedDataParallel):
    """A model whose gradients are averaged over the ranks; what is not its own it has from the model."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def local(x: Tensor) -> Tensor:
    """The rank's own part of a tensor that is divided over ranks, all of any other."""
    return x.to_local() if hasattr(x, "to_local") else x


def unreduced(forward: nn.Module) -> AbstractContextManager[None]:
    """Gradients of a backward pass in this block stay the rank's own, until that of another one is averaged."""
    return forward.no_sync() if isinstance(forward, Replicated) else nullcontext()


class Agreement:
    """After which step all ranks save, and whether they stop then.

    Signals and clocks are each process's own. About once a second all tell each other theirs, on the CPU, so that no
    rank waits for its device; when the next time is, the first rank tells with it.
    """

    def __init__(self, ranks: Ranks, seconds: float) -> None:
        self.ranks, self.seconds = ranks, min(ASKING, seconds)
        self._next = 0
        self._asked: tuple[int, float] | None = None  # after which step, and when

    def __call__(self, number: int, signum: int, due: bool) -> tuple[int, bool]:
        """The signal to stop for (0 for none), and whether to save, after a step of the run."""
        if self.ranks.size == 1:
            return signum, due or signum > 0
        if number < self._next:
            return 0, False
        now, steps = time.perf_counter(), 1
        if self._asked is not None:
            before, then = self._asked
            steps = max(1, int(self.seconds * (number - before) / max(now - then, 1e-9)))
        self._asked = number, now
        first = self.ranks.rank == 0
        found = self.ranks.largest(torch.tensor([signum, due and first, number + steps if first else 0]))
        signum, due, self._next = found.tolist()
        return signum, bool(due or signum)


_here = Ranks()


def here() -> Ranks:
    """The ranks that this process has been :func:`joined` with."""
    return _here


@contextmanager
def joined(device: str, parallel: Parallel = "ddp", shard_penalty: bool = False) -> Iterator[str]:
    """For the block, be one of the processes that torchrun has started; yields this one's device.

    ``cuda`` becomes the GPU of the process's rank on its machine. In a process that is alone nothing is changed.

    Where another rank is gone, whose own message says why, this one says so and ends with exit status 3.

    Raises:
        ValueError: a single GPU for all, or something that takes several processes in one.
    """
    global _here
    rank, size = started()
    if size == 1:
        if parallel != "ddp" or shard_penalty:
            what = "--shard-penalty" if shard_penalty else f"--parallel {parallel}"
            raise ValueError(f"{what} is for several processes: torchrun --nproc-per-node 2 -m comhe.train.images ...")
        yield device
        return
    if parallel == "fsdp" and shard_penalty:
        raise ValueError("--shard-penalty is for ddp; with fsdp every process takes every penalty, layer by layer")
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    elif device != "cpu":
        raise ValueError(f"{size} processes cannot share {device}; say --device cuda, and each takes its own")
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(backend, rank=rank, world_size=size, timeout=TIMEOUT)
        distributed.all_reduce(torch.zeros(1))  # no rank leaves, with an error, before all have come
        _here = Ranks(rank, size, parallel, shard_penalty)
        yield device
        distributed.destroy_process_group()  # not after an error: it would wait for ranks that are gone
    except RuntimeError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not any(word in reason for word in LOST):
            _tell_torchrun(error)
            raise
        print(f"comhe: rank {rank} of {size}: another rank is gone, see its message ({reason})", file=sys.stderr)
        sys.stderr.flush()
        time.sleep(LAST_WORDS)
        sys.exit(3)
    except Exception as error:
        _tell_torchrun(error)
        raise
    finally:
        _here = Ranks()


def _tell_torchrun(error: Exception) -> None:
    """For the summary in which it says which rank has failed first."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
