"""Cosines between neurons, for the penalties that are written in them."""

from __future__ import annotations

import torch
from torch import Tensor


def cosines(w: Tensor) -> Tensor:
    """Cosines [..., N, N] between the rows of w [..., N, d]; 0 for a row that is zero. Differentiable twice."""
    squared = (w * w).sum(-1, keepdim=True)
    alive = squared > torch.finfo(w.dtype).tiny
    u = w * torch.where(alive, squared, 1).rsqrt() * alive
    return u @ u.mT
