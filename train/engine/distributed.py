"""Several processes that train one model: torchrun starts them, each has a rank and a share of every batch.

A run is the same run on any number of processes, but for the rounding of sums and the numbers that dropout draws.
"""

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from comhe.datasets import Share
from comhe.errors import UsageError, first_line
from comhe.train.hardware import choose_device
from comhe.train.runs.interruption import torchrun_rank
from comhe.zoo.norms import convert_global_batch_norm

TIMEOUT = timedelta(minutes=10)  # of one rank for the others, which may be reading data or writing a checkpoint
POLL_SECONDS = 1.0  # between two exchanges on whether to stop or save
EXIT_DELAY = 3.0  # seconds that a rank outlives another: torchrun ends it, once it knows which one failed
PROBE_TAG = 7  # of messages that nobody receives


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a run, seen by one of them; with ``shard_penalty`` each computes some layers' penalties."""

    rank: int = 0
    world_size: int = 1
    shard_penalty: bool = False

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.world_size > 1

    def share(self, batch_size: int, microbatches: int) -> Share:
        """Return which samples this process takes of batches that go through the network in so many microbatches."""
        if batch_size // microbatches < self.world_size:
            what = f"batch_size={batch_size} with accumulate={microbatches} has too few samples"
            hint = "raise batch_size, or lower accumulate or the number of processes"
            raise UsageError(f"{what} for {self.world_size} processes; {hint}")
        return Share(self.rank, self.world_size, microbatches)

    def parallelize(self, model: nn.Module) -> nn.Module:
        """Return the model as it is called in training: batch norms span all ranks and gradients are averaged."""
        if not self.is_distributed:
            return model
        model = convert_global_batch_norm(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the argument has another name from torch 2.15 on
            return DistributedDataParallel(model, broadcast_buffers=False)  # buffers are the same everywhere

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over the ranks, computed in place."""
        if self.is_distributed:
            distributed.all_reduce(x)
        return x

    def mean(self, x: Tensor) -> Tensor:
        return self.sum(x.clone()) / self.world_size if self.is_distributed else x

    def maximum(self, x: Tensor) -> Tensor:
        """Return the maximum over the ranks, computed in place."""
        if self.is_distributed:
            distributed.all_reduce(x, distributed.ReduceOp.MAX)
        return x

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks on the main one, and an empty list on the others."""
        values = [value] * self.world_size if self.is_main else []
        if self.is_distributed:
            distributed.gather_object(value, values or None)
        return values

    def barrier(self) -> None:
        if self.is_distributed:
            distributed.barrier()

    def lost_peer(self) -> bool:
        """Return whether another rank is gone: the system then refuses to wait for a message to it."""
        try:
            for peer in set(range(self.world_size)) - {self.rank}:
                distributed.isend(torch.zeros(1), peer, tag=PROBE_TAG)
        except RuntimeError:
            return True
        return False


SINGLE_PROCESS = DistributedContext()


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model that :meth:`DistributedContext.parallelize` was given."""
    return getattr(model, "module", model)


def no_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Keep the gradients of a backward pass in this block local, until those of another one are averaged."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


class StopConsensus:
    """Agrees on the step after which all ranks save, and whether they stop then.

    About once a second they exchange their signals and clocks, on the CPU, so that no rank waits for its device.
    """

    def __init__(self, context: DistributedContext, seconds: float) -> None:
        self.context, self.seconds = context, min(POLL_SECONDS, seconds)
        self._next = 0
        self._last: tuple[int, float] | None = None  # the step of the last exchange, and its time

    def __call__(self, number: int, signum: int, due: bool) -> tuple[int, bool]:
        """Return the signal to stop for (0 for none) and whether to save, after a step of the run."""
        if not self.context.is_distributed:
            return signum, due or signum > 0
        if number < self._next:
            return 0, False
        now, steps = time.perf_counter(), 1
        if self._last is not None:
            step, then = self._last
            steps = max(1, int(self.seconds * (number - step) / max(now - then, 1e-9)))
        self._last = number, now
        main = self.context.is_main
        agreed = self.context.maximum(torch.tensor([signum, due and main, number + steps if main else 0]))
        signum, due, self._next = agreed.tolist()
        return signum, bool(due or signum)


@contextmanager
def join_ranks(device: str, shard_penalty: bool = False) -> Iterator[tuple[DistributedContext, str]]:
    """Connect to the processes that torchrun has started; yield the context and this one's device.

    Where another rank is gone, whose own message says why, this one says so and ends with exit status 3.
    """
    rank, world_size = torchrun_rank()
    if world_size == 1:
        if shard_penalty:
            raise UsageError("--shard-penalty is for several processes: torchrun --nproc-per-node 2 -m comhe.train....")
        yield DistributedContext(), device
        return
    device = choose_device() if device == "auto" else device
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    elif device != "cpu":
        raise UsageError(f"{world_size} processes cannot share {device}; with --device cuda each takes its own")
    context = DistributedContext(rank, world_size, shard_penalty)
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(backend, rank=rank, world_size=world_size, timeout=TIMEOUT)
        context.sum(torch.zeros(1))  # no rank leaves, with an error, before all have come
        yield context, device
        distributed.destroy_process_group()  # not after an error: it would wait for ranks that are gone
    except Exception as error:
        is_ours = not isinstance(error, RuntimeError) or (distributed.is_initialized() and not context.lost_peer())
        if is_ours:
            _tell_torchrun(error)
            raise
        reason = first_line(error)
        print(f"comhe: rank {rank} of {world_size}: another rank is gone, see its message ({reason})", file=sys.stderr)
        sys.stderr.flush()
        time.sleep(EXIT_DELAY)
        sys.exit(3)


def _tell_torchrun(error: Exception) -> None:
    """Record the error for the summary in which torchrun says which rank failed first."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
