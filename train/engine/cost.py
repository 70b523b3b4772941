"""The cost of a network and its regularizer: operations, seconds of the penalty, and whether others were at work."""

import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from comhe.regularizers import Regularizer

CALLS = 5  # timed calls of a penalty
PROCESSOR_TIMES = Path("/proc/stat")  # of Linux


@torch.no_grad()
def forward_flops(model: nn.Module, inputs: tuple) -> int:
    """Count a forward pass's matrix products and convolutions, 2 for a multiply-add; sparse ones by their entries."""
    from torch.utils.flop_counter import FlopCounterMode  # here, because it brings Triton along

    training = model.training
    model.eval()
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mm: _operations}) as counter:
        model(*inputs)
    model.train(training)
    return counter.get_total_flops()


def _operations(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    entries = a.numel() if a.layout == torch.strided else a._nnz()
    return 2 * entries * b.shape[-1]


_operations._get_raw = True  # type: ignore[attr-defined]  # called with tensors, not shapes: sparse ones know their entries


def penalty_seconds(regularizer: Regularizer, parameters: Sequence[Tensor]) -> float:
    """Return the median seconds of the penalty and its gradient, over a few steps, of this rank's layers."""
    times = []
    for _ in range(CALLS + 1):
        start = _now()
        _, gradients = regularizer.value_and_grad(parameters, regularizer.draw())
        regularizer.step += 1
        if all(gradient is None for gradient in gradients):
            return 0.0
        times.append(_now() - start)
    return statistics.median(times[1:])  # the first one warms up


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class OtherWork:
    """Counts the processor cores that other programs keep busy from now on, as times then say little of the cost.

    Example:
        >>> others = OtherWork()
        >>> (cores := others.cores([others.own()])) is None or cores >= 0
        True
    """

    def __init__(self) -> None:
        self._busy, self._own, self._began = _busy_seconds(), _own_seconds(), time.perf_counter()

    def own(self) -> tuple[str, float]:
        """Return the name of this machine, and the seconds that this process has computed on it."""
        return platform.node(), _own_seconds() - self._own

    def cores(self, ranks: Iterable[tuple[str, float]]) -> float | None:
        """Return the mean number of cores that others have used; None where the system does not count them.

        Args:
            ranks: what :meth:`own` says in all processes of the run.
        """
        busy = _busy_seconds()
        if busy is None or self._busy is None:
            return None
        own = sum(seconds for node, seconds in ranks if node == platform.node())
        return max(0.0, busy - self._busy - own) / max(time.perf_counter() - self._began, 1e-9)


def _own_seconds() -> float:
    return sum(os.times()[:4])  # also of processes that it has waited for


def _busy_seconds() -> float | None:
    try:
        ticks = PROCESSOR_TIMES.read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _, _, *interrupts = map(int, ticks)
    except (OSError, ValueError):
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
