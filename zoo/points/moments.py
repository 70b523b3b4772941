"""Batch statistics of rows that are never all in the cache at once."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Mean and spread of the columns of a matrix that comes in blocks of rows.

    Every block is taken about the first block's mean m_1. That is safe in float32: over b blocks of one size,
    :math:`(m_1 - m)^2 \\le b \\sigma^2` whatever the data, so no more than about log2(b) bits cancel in
    :math:`\\sigma^2 = E(x - m_1)^2 - (m - m_1)^2`, however far from zero the mean lies. Sums over blocks are float64.

    Args:
        cross: keep the covariance matrix instead of the variances.
    """

    def __init__(self, cross: bool = False) -> None:
        self.cross, self.count = cross, 0
        self.origin: Tensor
        self._buffer: Tensor
        self._first: Tensor
        self._second: Tensor

    def add(self, block: Tensor) -> Tensor:
        """Take note of a block [n, C]; returns it about :attr:`origin`, where the cross products are kept."""
        if not self.count:
            self.origin, self._buffer = block.mean(0), torch.empty_like(block)
            self._first = torch.zeros_like(self.origin, dtype=torch.float64)
            self._second = torch.zeros_like(self._first.diag() if self.cross else self._first)
        if len(block) > len(self._buffer):
            raise ValueError(f"a block of {len(block)} rows after a first one of {len(self._buffer)}")
        self.count += len(block)
        centred = torch.sub(block, self.origin, out=self._buffer[: len(block)])
        self._first += centred.sum(0)
        self._second += centred.t() @ centred if self.cross else centred.mul_(centred).sum(0)
        return centred

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean [C] and biased variance [C], or covariance [C, C], in float64."""
        offset = self._first / self.count
        square = torch.outer(offset, offset) if self.cross else offset * offset
        spread = self._second / self.count - square
        (spread.diagonal() if self.cross else spread).clamp_min_(0)
        return self.origin + offset, spread
