"""What every penalty asks of its neurons: their shape, their precision, and no autocast."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from comhe.errors import UsageError

Layers = Sequence[Tensor]  # the neurons of each
Precision = Literal["fp32", "tf32"]  # of products on a GPU
PRECISIONS = ("fp32", "tf32")


def check_neurons(w: Tensor) -> None:
    """Raise TypeError unless ``w`` is a dense tensor of floats, UsageError unless it is ``[..., N >= 2, d >= 1]``."""
    if not (isinstance(w, Tensor) and w.is_floating_point() and w.layout is torch.strided):
        kind: object = type(w).__name__
        if isinstance(w, Tensor):
            kind = w.dtype if w.layout is torch.strided else f"a sparse one ({w.layout}): call to_dense()"
        raise TypeError(f"neurons must be a floating-point tensor [..., N, d], not {kind}")
    if w.dim() < 2 or w.shape[-2] < 2 or w.shape[-1] < 1:
        raise UsageError(f"neurons must be [..., N >= 2, d >= 1], one neuron a row, not {list(w.shape)}")


def as_sets(w: Tensor) -> Tensor:
    """[..., N, d] -> [sets, N, d]."""
    return w.flatten(0, -3) if w.dim() > 2 else w[None]


def upcast(w: Tensor) -> Tensor:
    """``w`` in the precision that penalties are computed in: float64 stays as it is, all else becomes float32."""
    return w if w.dtype == torch.float64 else w.float()


def float64(w: Tensor) -> Tensor:
    """``w`` in float64, on the CPU where its device has no such numbers."""
    return w.cpu().double() if w.device.type == "mps" else w.double()


def autocast_disabled(w: Tensor) -> AbstractContextManager[None]:
    """A context without autocast on the device of ``w``: no product of a penalty is computed in half precision."""
    return nullcontext() if w.is_meta else torch.autocast(w.device.type, enabled=False)
