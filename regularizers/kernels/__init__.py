"""Energies on a GPU, in Triton: chosen automatically for float32 tensors there, never required.

:mod:`.pairs` makes the energy of narrow neurons (d <= 256) and its gradient in one pass over tiles of cosines that never
reach memory; :mod:`.wide` makes those of wide neurons from tiles of their Gram matrix; :mod:`.projected` those of many
layers under many random projections. All take a ragged batch of layers in one launch each, do their products in
float32 by three of tensor-float-32 (the error is stated in :mod:`.pairs`), add up in a fixed order and allocate nothing
whose size depends on data: they repeat bit for bit, and may be captured in a CUDA graph.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ..potential import Potential


def usable(w: Tensor, potential: Potential) -> bool:
    """Whether the kernels take these neurons: float32 on a GPU that Triton compiles for, chords and not angles."""
    return w.is_cuda and w.dtype == torch.float32 and not potential.geodesic and _triton()


@cache
def _triton() -> bool:
    return find_spec("triton") is not None
