r"""Cholesky factors and triangular solves on a GPU by products and one kernel, which a CUDA graph can always record.

The library's solvers have handles and work spaces of their own, which belong to a stream and may be made or waited for
at any call. Here a matrix is halved until what is left is a block of SIZE rows:

.. math:: A = \begin{pmatrix} L_1 & \\ B & L_2 \end{pmatrix} \begin{pmatrix} L_1^\top & B^\top \\ & L_2^\top
          \end{pmatrix}, \quad B = A_{21} L_1^{-\top}, \quad L_2 L_2^\top = A_{22} - B B^\top

The kernel factorizes such a block, or inverts its factor; everything else is a batched product. A matrix that is not
positive definite yields NaN.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launches import BLOCK

SIZE = BLOCK.rows


def cholesky(a: Tensor) -> Tensor:
    """The lower triangular L with L L^T = A, of symmetric matrices [B, N, N]."""
    factor = a.contiguous().clone()
    inverses = a.new_empty(len(a), -(-a.shape[-1] // SIZE), SIZE, SIZE)
    _factorize(factor, inverses, 0, factor.shape[-1])
    return factor.tril_()


def solve(factor: Tensor, b: Tensor) -> Tensor:
    """The X [B, M, N] with X L = B, for lower triangular matrices L [B, N, N]."""
    factor = factor.contiguous()
    inverses = factor.new_empty(len(factor), -(-factor.shape[-1] // SIZE), SIZE, SIZE)
    _launch(factor, inverses, 0, inverses.shape[1], is_factor=True)
    x = b.contiguous().clone()
    _solve(factor, inverses, x, 0, factor.shape[-1])
    return x


def _middle(start: int, stop: int) -> int:
    return start + SIZE * (-(-(stop - start) // SIZE) // 2)


def _factorize(a: Tensor, inverses: Tensor, start: int, stop: int) -> None:
    """Turn the rows and columns from ``start`` to ``stop`` into their factor, in place."""
    if stop - start <= SIZE:
        _launch(a, inverses, start, 1, is_factor=False)
        return
    middle = _middle(start, stop)
    _factorize(a, inverses, start, middle)
    below = a[:, middle:stop]
    _solve_transposed(a, inverses, below, start, middle)
    side = below[..., start:middle]
    below[..., middle:stop].baddbmm_(side, side.mT, alpha=-1)
    _factorize(a, inverses, middle, stop)


def _solve_transposed(factor: Tensor, inverses: Tensor, x: Tensor, start: int, stop: int) -> None:
    """Replace the columns B of x from ``start`` to ``stop`` by B L^-T, L being that block of the factor."""
    if stop - start <= SIZE:
        x[..., start:stop] = x[..., start:stop] @ inverses[:, start // SIZE, : stop - start, : stop - start].mT
        return
    middle = _middle(start, stop)
    _solve_transposed(factor, inverses, x, start, middle)
    x[..., middle:stop].baddbmm_(x[..., start:middle], factor[:, middle:stop, start:middle].mT, alpha=-1)
    _solve_transposed(factor, inverses, x, middle, stop)


def _solve(factor: Tensor, inverses: Tensor, x: Tensor, start: int, stop: int) -> None:
    """Replace the columns B of x from ``start`` to ``stop`` by B L^-1."""
    if stop - start <= SIZE:
        x[..., start:stop] = x[..., start:stop] @ inverses[:, start // SIZE, : stop - start, : stop - start]
        return
    middle = _middle(start, stop)
    _solve(factor, inverses, x, middle, stop)
    x[..., start:middle].baddbmm_(x[..., middle:stop], factor[:, middle:stop, start:middle], alpha=-1)
    _solve(factor, inverses, x, start, middle)


def _launch(a: Tensor, inverses: Tensor, start: int, blocks: int, is_factor: bool) -> None:
    sets, n, _ = a.shape
    with torch.cuda.device_of(a):
        sizes = {"SIZE": SIZE, "num_warps": BLOCK.num_warps, "num_stages": BLOCK.num_stages}
        _block_kernel[(sets, blocks)](a, inverses, n, inverses.shape[1], start // SIZE, FACTOR=is_factor, **sizes)


@triton.jit
def _block_kernel(a, inverses, n, blocks, first, FACTOR: tl.constexpr, SIZE: tl.constexpr):
    """The inverse of a block's factor, which is computed first unless the block is one; column by column.

    What is left of a symmetric block stays symmetric, so its next column is its next row: a sum within each thread.
    """
    block = first + tl.program_id(1)
    begin = block * SIZE
    row = tl.arange(0, SIZE)
    i, j = row[:, None], row[None, :]
    a += tl.program_id(0).to(tl.int64) * n * n + begin.to(tl.int64) * (n + 1)
    there = begin + row < n
    one = tl.where(i == j, 1.0, 0.0)
    left = tl.load(a + i.to(tl.int64) * n + j, mask=there[:, None] & there[None, :], other=0.0)
    left = tl.where(there[:, None] & there[None, :], left, one)
    inverse = one.to(left.dtype)
    for k in range(SIZE):
        if FACTOR:
            column = tl.load(a + row.to(tl.int64) * n + k, mask=there & (begin + k < n), other=0.0)
            scale = 1.0 / tl.sum(tl.where(row == k, tl.where(there, column, 1.0), 0.0))
            low = tl.where(row > k, column, 0.0)
        else:
            column = tl.sum(tl.where(i == k, left, 0.0), axis=0)
            pivot = tl.sqrt(tl.sum(tl.where(row == k, column, 0.0)))
            scale = 1.0 / pivot
            low = tl.where(row > k, column * scale, 0.0)
            left -= low[:, None] * low[None, :]
            below = tl.where(row == k, pivot, low)
            tl.store(a + row.to(tl.int64) * n + k, below, mask=(row >= k) & there & (begin + k < n))
        last = tl.sum(tl.where(i == k, inverse, 0.0), axis=0) * scale
        inverse = tl.where(i == k, last[None, :], inverse - low[:, None] * last[None, :])
    out = inverses + (tl.program_id(0).to(tl.int64) * blocks + block) * SIZE * SIZE
    tl.store(out + i * SIZE + j, inverse)
