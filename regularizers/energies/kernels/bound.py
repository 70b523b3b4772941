"""The gradients of many layers bounded at once, as :func:`comhe.regularizers.bound.bound_gradient` does one by one.

That takes thirty launches a layer, and more time than the energies. Here it is two for all layers before their penalty
is computed, and one after.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from comhe.regularizers.energies.checks import Layers
from comhe.regularizers.energies.tables import device_table

from .launches import ROWS
from .pairs import Shapes, packed, shapes_of, unpacked

LINE = tl.constexpr(6)
CHUNK = tl.constexpr(1024)  # neurons of a set whose lengths are read at a time


def gradient_limits(neurons: Layers, rates: Sequence[float], min_norm: float, share: float, least: float) -> Tensor:
    r"""The largest gradient of each neuron, infinite in a set where none is short.

    .. math:: \frac{\mathrm{rate}\, \max(|w_i|, \mathrm{min\_norm})}{(1 - \min_j |w_j|^2 / h^2)_+}, \qquad
              h^2 = \max(\mathrm{least}, \mathrm{share} \operatorname{mean}_j |w_j|^2)

    Shape: layers [B_l, N_l, d_l], a rate for each layer -> [neurons of all layers].
    """
    shapes, x = shapes_of(neurons), packed(neurons)
    rows, sets = _programs(shapes, x.device)
    limits = x.new_empty(sum(b * n for b, n, _ in shapes))
    with torch.cuda.device_of(x):
        _square_kernel[(len(rows),)](x, rows, limits, **_sizes())
        rates_there = device_numbers(tuple(rates), x.device)
        _limit_kernel[(len(sets),)](limits, sets, rates_there, min_norm, share, least, num_warps=ROWS.num_warps)
    return limits


def bounded(gradients: Layers, limits: Tensor, factors: Tensor) -> list[Tensor]:
    """The gradients of all neurons, none longer than its limit times the size of its layer's factor.

    Shape: layers [B_l, N_l, d_l], [neurons of all layers], [layers] -> like the gradients.
    """
    shapes, x = shapes_of(gradients), packed(gradients)
    rows, _ = _programs(shapes, x.device)
    out = torch.empty_like(x)
    with torch.cuda.device_of(x):
        _shorten_kernel[(len(rows),)](x, rows, limits, factors, out, **_sizes())
    return unpacked(out, shapes)


def _sizes() -> dict[str, int]:
    return {"ROWS": ROWS.rows, "COLUMNS": ROWS.columns, "num_warps": ROWS.num_warps}


@device_table
def device_numbers(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A vector that stays on the device."""
    return torch.tensor(values, dtype=torch.float32).to(device)


@device_table
def _programs(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    """A line for every block of neurons, and one for every set.

    It has where the set begins among the numbers and among the neurons, its size, the block's first neuron and the
    layer.
    """
    blocks, sets = [], []
    source = first = 0
    for layer, (batch, n, d) in enumerate(shapes):
        for _ in range(batch):
            line = (source, first, n, d)
            blocks += [(*line, begin, layer) for begin in range(0, n, ROWS.rows)]
            sets.append((*line, 0, layer))
            source, first = source + n * d, first + n
    blocks.sort(key=lambda line: -line[3])
    made = [torch.tensor(lines, dtype=torch.int64).to(device) for lines in (blocks, sets)]
    return made[0], made[1]


@triton.jit
def _block(table, ROWS: tl.constexpr):
    """Of a program: where its set's numbers begin, its neurons in the set and among all, its width and its layer."""
    table += LINE * tl.program_id(0)
    row = tl.load(table + 4).to(tl.int32) + tl.arange(0, ROWS)
    width = tl.load(table + 3).to(tl.int32)
    return tl.load(table), row, row < tl.load(table + 2), tl.load(table + 1) + row, width, tl.load(table + 5)


@triton.jit
def _squares(x, row, inside, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Squared lengths of a block's rows."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, width, COLUMNS):
        k = start + tl.arange(0, COLUMNS)
        part = tl.load(x + row[:, None] * width + k[None, :], mask=inside[:, None] & (k < width)[None, :], other=0.0)
        total += part * part
    return tl.sum(total, axis=1)


@triton.jit
def _square_kernel(x, table, squares, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    source, row, inside, place, width, _ = _block(table, ROWS)
    tl.store(squares + place, _squares(x + source, row, inside, width, ROWS, COLUMNS), mask=inside)


@triton.jit
def _limit_kernel(limits, table, rates, SHORTEST, SHARE, LEAST):
    """From the squared lengths of a set's neurons their limits, in their place."""
    table += LINE * tl.program_id(0)
    limits += tl.load(table + 1)
    count = tl.load(table + 2).to(tl.int32)
    total = tl.zeros((CHUNK,), tl.float32)
    shortest = tl.full((CHUNK,), float("inf"), tl.float32)
    for start in range(0, count, CHUNK):
        i = start + tl.arange(0, CHUNK)
        total += tl.load(limits + i, mask=i < count, other=0.0)
        shortest = tl.minimum(shortest, tl.load(limits + i, mask=i < count, other=float("inf")))
    long = tl.maximum(SHARE * tl.sum(total) / count, LEAST)
    lack = tl.maximum(1.0 - tl.min(shortest) / long, 0.0)
    rate = tl.load(rates + tl.load(table + 5))
    for start in range(0, count, CHUNK):
        i = start + tl.arange(0, CHUNK)
        length = tl.sqrt_rn(tl.load(limits + i, mask=i < count, other=0.0))
        limit = rate * tl.maximum(length, SHORTEST) / tl.where(lack > 0, lack, 1.0)
        tl.store(limits + i, tl.where(lack > 0, limit, float("inf")), mask=i < count)


@triton.jit
def _shorten_kernel(x, table, limits, factors, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    source, row, inside, place, width, layer = _block(table, ROWS)
    x, out = x + source, out + source
    length = tl.sqrt_rn(_squares(x, row, inside, width, ROWS, COLUMNS))
    limit = tl.load(limits + place, mask=inside, other=0.0)
    is_bounded = limit < float("inf")
    limit = tl.where(is_bounded, limit, 0.0) * tl.abs(tl.load(factors + layer))
    is_long = is_bounded & (length > limit)
    scale = tl.where(is_long, limit / tl.where(is_long, length, 1.0), 1.0)
    for start in range(0, width, COLUMNS):
        k = start + tl.arange(0, COLUMNS)
        index = row[:, None] * width + k[None, :]
        mask = inside[:, None] & (k < width)[None, :]
        tl.store(out + index, tl.load(x + index, mask=mask, other=0.0) * scale[:, None], mask=mask)
