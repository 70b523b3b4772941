"""Batch statistics of rows that come in blocks."""

import torch
from torch import Tensor


class Moments:
    r"""Mean and variance (or, if ``cross``, covariance matrix) of the columns of a matrix that comes in blocks of rows.

    The first block's mean m_1 is subtracted from every block. That is safe in float32: over b blocks of one size,
    :math:`(m_1 - m)^2 \le b \sigma^2` whatever the data, so no more than about log2(b) bits cancel in
    :math:`\sigma^2 = E(x - m_1)^2 - (m - m_1)^2`, however far from zero the mean lies. Sums over blocks are float64.
    """

    def __init__(self, cross: bool = False) -> None:
        self.cross, self.count = cross, 0
        self.origin: Tensor
        self._buffer: Tensor
        self._first: Tensor
        self._second: Tensor

    def add(self, block: Tensor) -> Tensor:
        """Add a block [n, C], no longer than the first; if ``cross``, return it minus :attr:`origin` (a buffer)."""
        if not self.count:
            self.origin, self._buffer = block.mean(0), torch.empty_like(block)
            self._first = torch.zeros_like(self.origin, dtype=torch.float64)
            self._second = torch.zeros_like(self._first.diag() if self.cross else self._first)
        self.count += len(block)
        centered = torch.sub(block, self.origin, out=self._buffer[: len(block)])
        self._first += centered.sum(0)
        self._second += centered.t() @ centered if self.cross else centered.mul_(centered).sum(0)
        return centered

    def result(self) -> tuple[Tensor, Tensor]:
        """Return the mean [C] and the biased variance [C], or the covariance [C, C], in float64."""
        offset = self._first / self.count
        square = torch.outer(offset, offset) if self.cross else offset * offset
        spread = self._second / self.count - square
        (spread.diagonal() if self.cross else spread).clamp_min_(0)
        return self.origin + offset, spread
