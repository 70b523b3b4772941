r"""Energies of many layers under many random projections, and their gradients in the layers' neurons.

Three launches: every layer's neurons under every projection, :math:`V = W P^\top`, as unit vectors; the energies of
all these sets and their gradients in V, by :mod:`.pairs`; and back, :math:`\sum_c (\partial E_c / \partial V_c) P_c`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from comhe.regularizers.energies.checks import Layers, Precision
from comhe.regularizers.energies.potential import Potential

from . import Pool
from .pairs import LINE, Shapes, blocks, energies, packed, shapes_of, store_units, units, unpacked

TILE = 64


def projected_sums(
    neurons: Layers, pool: Pool, potential: Potential, factors: Tensor | None, with_gradient: bool, precision: Precision
) -> tuple[Tensor, list[Tensor]]:
    """Sums of phi over the pairs of neurons as each projection shows them, and the sums' gradients.

    Shape: layers [B_l, N_l, d_l] with C projections [k, d_l], k <= NARROW; factors [layers], which multiply gradients
    -> sums [B_1 + B_2 + ..., C], gradients like the neurons, of the sums over all C.
    """
    drawn, offsets, count, dim = pool
    shapes = shapes_of(neurons)
    block, width = blocks(max(n for _, n, _ in shapes), dim)
    table, back, rows, slots = _programs(shapes, offsets, count, dim, block, neurons[0].device)
    x = packed(neurons)
    unit = units(x, rows, width)
    options: dict[str, Any] = {"PRECISION": "tf32x3" if precision == "fp32" else "tf32", "WIDTH": width}
    with torch.cuda.device_of(x):
        tiny = torch.finfo(x.dtype).tiny
        _project_kernel[(len(table),)](x, drawn, table, *unit, rows, dim, tiny, ROWS=block, CHUNK=32, **options)
        sums, seen = energies(unit, table, slots, potential, 0.0, factors, block, with_gradient, precision)
        sums = sums.view(-1, count)
        if not with_gradient:
            return sums, []
        gradient = torch.empty_like(x)
        _back_kernel[(len(back),)](seen, drawn, back, gradient, count, dim, ROWS=TILE, COLUMNS=TILE, **options)
    return sums, unpacked(gradient, shapes)


@cache
def _programs(
    shapes: Shapes, offsets: tuple[int, ...], count: int, dim: int, block: int, device: torch.device
) -> tuple[Tensor, Tensor, int, tuple[int, int]]:
    """Lines for blocks of projected neurons and for tiles of the gradient, rows in all, and [sets, blocks] of the sums.

    Of a block as in :func:`.pairs.programs`, with where its projection begins at the end. Of a tile: the first row of
    the set's first projection, how many rows further the next one is, the set's neurons, the tile's first neuron and
    dimension, where the set begins in memory, its dimensions, where its first projection begins. The widest come
    first, since they end last.
    """
    most = max(-(-n // block) for _, n, _ in shapes)
    lines, back, sets, first, source = [], [], 0, 0, 0
    for layer, (batch, n, d) in enumerate(shapes):
        step = -(-n // block) * block
        for _ in range(batch):
            corners = [(i, j) for i in range(0, n, TILE) for j in range(0, d, TILE)]
            back += [(first, step, n, i, j, source, d, offsets[layer]) for i, j in corners]
            for c in range(count):
                p = offsets[layer] + c * dim * d
                starts = range(0, n, block)
                lines += [(first, n, at, sets * most + at // block, source, d, layer, p) for at in starts]
                sets, first = sets + 1, first + step
            source += n * d
    lines.sort(key=lambda line: -line[5])
    tables = [torch.tensor(rows, dtype=torch.int64).to(device) for rows in (lines, back)]
    return tables[0], tables[1], first, (sets, most)


@triton.jit
def _project_kernel(
    x, drawn, table, high, low, columns_high, columns_low, inverse, rows, k, TINY,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    table += LINE * tl.program_id(0)
    row = tl.load(table + 2).to(tl.int32) + tl.arange(0, ROWS)
    there = row < tl.load(table + 1)
    x += tl.load(table + 4)
    width = tl.load(table + 5).to(tl.int32)
    drawn += tl.load(table + 7)
    seen = tl.arange(0, WIDTH)
    v = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, width, CHUNK):
        dim = start + tl.arange(0, CHUNK)
        inside = (dim < width)[None, :]
        w = tl.load(x + row[:, None] * width + dim[None, :], mask=there[:, None] & inside, other=0.0)
        p = tl.load(drawn + seen[:, None] * width + dim[None, :], mask=(seen < k)[:, None] & inside, other=0.0)
        v = tl.dot(w, tl.trans(p), v, input_precision=PRECISION)
    row += tl.load(table).to(tl.int32)
    store_units(v, high, low, columns_high, columns_low, inverse, rows, row, 0.0, TINY, ROWS, WIDTH)


@triton.jit
def _back_kernel(
    seen, drawn, table, gradient, count, k,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    table += 8 * tl.program_id(0)
    step = tl.load(table + 1)
    row = tl.load(table + 3).to(tl.int32) + tl.arange(0, ROWS)
    dim = tl.load(table + 4).to(tl.int32) + tl.arange(0, COLUMNS)
    there = row < tl.load(table + 2)
    width = tl.load(table + 6).to(tl.int32)
    inside = dim < width
    seen += tl.load(table) * WIDTH
    drawn += tl.load(table + 7)
    inner = tl.arange(0, WIDTH)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for _ in range(count):
        v = tl.load(seen + row[:, None] * WIDTH + inner[None, :], mask=there[:, None], other=0.0)
        mask = (inner < k)[:, None] & inside[None, :]
        p = tl.load(drawn + inner[:, None] * width + dim[None, :], mask=mask, other=0.0)
        total = tl.dot(v, p, total, input_precision=PRECISION)
        seen += step * WIDTH
        drawn += k * width
    index = tl.load(table + 5) + row[:, None] * width + dim[None, :]
    tl.store(gradient + index, total, mask=there[:, None] & inside[None, :])
