"""What the kernels take: the neurons of many layers, and their projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

Precision = Literal["fp32", "tf32"]
PRECISIONS = ("fp32", "tf32")
Layers = Sequence[Tensor]  # the neurons of each


class Pool(NamedTuple):
    """Projections [number, dim, d_l] of many layers, one after the other in memory."""

    drawn: Tensor
    offsets: tuple[int, ...]  # where each layer's begin; layers may share theirs
    number: int
    dim: int
