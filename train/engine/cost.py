"""The cost of a network and its regularizer: floating-point operations, and seconds of the penalty."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from comhe.regularizers import Regularizer

CALLS = 5  # timed calls of a penalty


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
