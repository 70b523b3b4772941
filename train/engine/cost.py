"""What a network and its regularizer cost: floating-point operations, and seconds of the penalty."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from comhe.regularizers import Regularizer

CALLS = 5  # timed calls of a penalty


@torch.no_grad()
def forward_flops(model: nn.Module, inputs: tuple) -> int:
    """Floating-point operations of one forward pass in evaluation mode: two for each multiply-add of the matrix
    products and convolutions, by their stored entries where a matrix is sparse. Everything else counts as nothing."""
    training = model.training
    model.eval()
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mm: _product}) as counter:
        model(*inputs)
    model.train(training)
    return counter.get_total_flops()


def _product(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    entries = a.numel() if a.layout == torch.strided else a._nnz()
    return 2 * entries * b.shape[-1]


_product._get_raw = True  # the counter hands over tensors, not shapes: a sparse one knows its entries


def penalty_seconds(regularizer: Regularizer, parameters: Sequence[Tensor]) -> float:
    """Median seconds of the penalty and its gradient, over a few calls; it moves learned projections on.

    Where layers are divided among ranks, those of the own layers.
    """
    times = []
    for _ in range(CALLS + 1):
        start = _now()
        regularizer.draw()
        _, slopes = regularizer.slopes(parameters)
        regularizer.step += 1
        if all(slope is None for slope in slopes):
            return 0.0
        times.append(_now() - start)
    return statistics.median(times[1:])  # the first one warms up


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
