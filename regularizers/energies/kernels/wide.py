r"""Energies of wide neurons and their gradients, from tiles of their Gram matrices.

With d > 128 a block of neurons and its gradient do not stay in registers, and with N <= d the matrix M of
:math:`\partial E / \partial W = M W` is no larger than the neurons: it is computed from tiles on and above the diagonal
only, in one kernel with the products, norms, potentials and slopes, and a second one multiplies it by W. Products are
three of tensor-float-32, and near pairs are computed from differences, as in :mod:`.pairs`, which states the error.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from comhe.regularizers.energies.checks import Layers
from comhe.regularizers.energies.tables import device_table
from comhe.regularizers.energies.terms import Terms

from .launches import WIDE
from .pairs import NEAR, Shapes, kind, limits, norms, packed, shapes_of, unpacked
from .potential import antipode, lengths, potential, squared_distance


def gram_sums(
    neurons: Layers, terms: Terms, factors: Tensor | None, with_gradient: bool
) -> tuple[Tensor, list[Tensor]]:
    """:func:`.pairs.pair_sums` for any d, in the memory of the neurons and of one N x N matrix for every set."""
    shapes = shapes_of(neurons)
    tiles, pushes, (rows, matrices, slots) = _programs(shapes, neurons[0].device)
    x = packed(neurons)
    sums, inverse = x.new_zeros(slots), x.new_empty(rows)
    most = -(-max(n for _, n, _ in shapes) // WIDE.rows)
    matrix = x.new_empty(matrices if with_gradient else 0)
    radial = x.new_zeros(rows if with_gradient else 0, most)
    near = torch.zeros_like(radial, dtype=torch.int32)
    options: dict[str, Any] = {
        "TILE": WIDE.rows,
        "CHUNK": WIDE.columns,
        "num_warps": WIDE.num_warps,
        "num_stages": WIDE.num_stages,
        "PRECISION": "tf32x3" if terms.precision == "fp32" else "tf32",
    }
    scalars = *limits(x, terms), *norms(x, terms)
    with torch.cuda.device_of(x):
        arguments: tuple[Any, ...] = x, tiles, sums, inverse, matrix, radial, near, most, *scalars
        _gram_kernel[(len(tiles),)](*arguments, **kind(terms, with_gradient), **options)
        if not with_gradient:
            return sums.sum(-1), []
        gradient = torch.empty_like(x)
        arguments = x, pushes, matrix, radial.sum(-1), inverse, near, most, factors, gradient
        half = terms.potential.half_space
        _push_kernel[(len(pushes),)](*arguments, HALF=half, SCALED=factors is not None, **options)
    return sums.sum(-1), unpacked(gradient, shapes)


@device_table
def _programs(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor, tuple[int, int, tuple[int, int]]]:
    """Lines for tiles of the Gram matrices and of the gradients, and how much there is of rows, matrices and sums.

    Of a tile: where the set begins in memory, its neurons and dimensions, its first row among all, where its matrix
    begins, the tile's first row and column, its index in the sums. Of a tile of the gradient the same with the first
    dimension for the column and the layer for the index. Sets with long sums come first, since they end last.
    """
    most = max((m := -(-n // WIDE.rows)) * (m + 1) // 2 for _, n, _ in shapes)
    tiles, pushes, sets, first, source, matrix = [], [], 0, 0, 0, 0
    for layer, (batch, n, d) in enumerate(shapes):
        for _ in range(batch):
            line = (source, n, d, first, matrix)
            corners = [(i, j) for i in range(0, n, WIDE.rows) for j in range(i, n, WIDE.rows)]
            tiles += [(*line, i, j, sets * most + slot) for slot, (i, j) in enumerate(corners)]
            pushes += [(*line, i, j, layer) for i in range(0, n, WIDE.rows) for j in range(0, d, WIDE.rows)]
            sets, first, source, matrix = sets + 1, first + n, source + n * d, matrix + n * n
    tiles.sort(key=lambda line: -line[2])
    pushes.sort(key=lambda line: -line[1])
    tables = [torch.tensor(lines, dtype=torch.int64).to(device) for lines in (tiles, pushes)]
    return tables[0], tables[1], (first, matrix, (sets, most))


@triton.jit
def _gram_kernel(
    x, table, sums, inverse, matrix, radial, near, most, FLOOR, PARALLEL, EPS, LEAST, LIMIT, TINY,
    S: tl.constexpr, HALF: tl.constexpr, SHORTENS: tl.constexpr, GRADIENT: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    table += 8 * tl.program_id(0)
    x += tl.load(table)
    count = tl.load(table + 1).to(tl.int32)
    width = tl.load(table + 2).to(tl.int32)
    first = tl.load(table + 3)
    matrix += tl.load(table + 4)
    begin, across = tl.load(table + 5).to(tl.int32), tl.load(table + 6).to(tl.int32)
    row = begin + tl.arange(0, TILE)
    column = across + tl.arange(0, TILE)
    above, inside = row < count, column < count
    dim = tl.arange(0, CHUNK)
    c = tl.zeros((TILE, TILE), tl.float32)
    squares_a = tl.zeros((TILE,), tl.float32)
    squares_b = tl.zeros((TILE,), tl.float32)
    for start in range(0, width, CHUNK):
        k = start + dim
        a = tl.load(x + row[:, None] * width + k[None, :], mask=above[:, None] & (k < width)[None, :], other=0.0)
        b = tl.load(x + column[:, None] * width + k[None, :], mask=inside[:, None] & (k < width)[None, :], other=0.0)
        squares_a += tl.sum(a * a, axis=1)
        squares_b += tl.sum(b * b, axis=1)
        c = tl.dot(a, tl.trans(b), c, input_precision=PRECISION)
    scale_a, lack_a = lengths(squares_a, EPS, LEAST, LIMIT, TINY)
    scale_b, lack_b = lengths(squares_b, EPS, LEAST, LIMIT, TINY)
    scale = scale_a[:, None] * scale_b[None, :]
    c = tl.where(scale == 0, 0.0, c * scale)  # an infinite square times a dead neuron's zero
    z = squared_distance(c, HALF)
    pair = above[:, None] & inside[None, :] & (row[:, None] != column[None, :])
    close = pair & (z < NEAR)
    any_close = tl.sum(tl.sum(tl.where(close, 1.0, 0.0), axis=1)) > 0
    if any_close:
        apart = lack_a[:, None] + lack_b[None, :]
        for k in range(width):
            left = tl.load(x + row * width + k, mask=above, other=0.0) * scale_a
            right = tl.load(x + column * width + k, mask=inside, other=0.0) * scale_b
            turned = tl.where(c < 0, -right[None, :], right[None, :]) if HALF else right[None, :]
            difference = left[:, None] - turned
            apart += difference * difference
        z = tl.where(close, apart, z)
    value, slope = potential(z, c, FLOOR, S, HALF)
    value, slope = tl.where(pair, value, 0.0), tl.where(pair & (scale > 0) & (z >= PARALLEL), slope, 0.0)
    is_diagonal = begin == across
    energy = tl.sum(tl.sum(value, axis=1)) * tl.where(is_diagonal, 0.5, 1.0)
    if is_diagonal:
        tl.store(inverse + first + row, scale_a, mask=above)
    if SHORTENS:
        opposite, outward = antipode(lack_a, FLOOR, S)
        energy += tl.where(is_diagonal, tl.sum(tl.where(above, opposite, 0.0)), 0.0)
    tl.store(sums + tl.load(table + 7), energy)
    if GRADIENT:
        pushes = slope * scale
        tl.store(matrix + row[:, None] * count + column[None, :], pushes, mask=above[:, None] & inside[None, :])
        radial_a, radial_b = tl.where(scale_a == LIMIT, 0.0, 1.0), tl.where(scale_b == LIMIT, 0.0, 1.0)
        # With near pairs among them, neurons are pushed by differences, see the other kernel: c becomes c - 1.
        side = tl.where(c < 0, -1.0, 1.0) if HALF else tl.full((TILE, TILE), 1.0, tl.float32)
        cosine = tl.where(close, side * (1.0 - 0.5 * z), c)
        less = tl.where(any_close, side, 0.0)
        less_a = tl.where(close & (radial_a > 0)[:, None], -0.5 * side * z, radial_a[:, None] * cosine - less)
        less_b = tl.where(close & (radial_b > 0)[None, :], -0.5 * side * z, radial_b[None, :] * cosine - less)
        along = tl.sum(slope * less_a, axis=1)
        if SHORTENS:
            along += tl.where(is_diagonal, 2.0 * outward * (1.0 - radial_a * (1.0 - lack_a)), 0.0)
        flag = tl.where(any_close, 1, 0) + tl.zeros((TILE,), tl.int32)
        tl.store(radial + (first + row) * most + across // TILE, along, mask=above)
        tl.store(near + (first + row) * most + across // TILE, flag, mask=above)
        if begin != across:
            tl.store(radial + (first + column) * most + begin // TILE, tl.sum(slope * less_b, axis=0), mask=inside)
            tl.store(near + (first + column) * most + begin // TILE, flag, mask=inside)
            mirrored = matrix + column[None, :] * count + row[:, None]
            tl.store(mirrored, pushes, mask=above[:, None] & inside[None, :])


@triton.jit
def _push_kernel(
    x, table, matrix, radial, inverse, near, most, factors, gradient,
    HALF: tl.constexpr, SCALED: tl.constexpr, PRECISION: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """A tile of M W: M's diagonal, what pushes along the neuron, is subtracted last.

    Against a tile with near pairs in it, it is a sum of M_ij (w_j - n_j u_i), where nothing cancels.
    """
    table += 8 * tl.program_id(0)
    x += tl.load(table)
    gradient += tl.load(table)
    count = tl.load(table + 1).to(tl.int32)
    width = tl.load(table + 2).to(tl.int32)
    first = tl.load(table + 3)
    matrix += tl.load(table + 4)
    row = tl.load(table + 5).to(tl.int32) + tl.arange(0, TILE)
    dim = tl.load(table + 6).to(tl.int32) + tl.arange(0, TILE)
    above, there = row < count, dim < width
    index = row[:, None] * width + dim[None, :]
    mask = above[:, None] & there[None, :]
    scale = tl.load(inverse + first + row, mask=above, other=0.0)
    pushes = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, count, CHUNK):
        other = start + tl.arange(0, CHUNK)
        inside = other < count
        if tl.load(near + (first + tl.load(table + 5)) * most + start // TILE) == 0:
            m = tl.load(
                matrix + row[:, None] * count + other[None, :], mask=above[:, None] & inside[None, :], other=0.0
            )
            w = tl.load(x + other[:, None] * width + dim[None, :], mask=inside[:, None] & there[None, :], other=0.0)
            pushes = tl.dot(m, w, pushes, input_precision=PRECISION)
        else:
            u = tl.load(x + index, mask=mask, other=0.0) * scale[:, None]
            for j in range(start, tl.minimum(start + CHUNK, count)):
                one = tl.load(matrix + row * count + j, mask=above, other=0.0)
                size = tl.load(inverse + first + j)
                v = tl.load(x + j * width + dim, mask=there, other=0.0) * size
                origin = tl.where((one < 0)[:, None], -u, u) if HALF else u
                pushes += (one / tl.where(size > 0, size, 1.0))[:, None] * (v[None, :] - origin)
    along = tl.load(radial + first + row, mask=above, other=0.0) * scale * scale
    pushes -= along[:, None] * tl.load(x + index, mask=mask, other=0.0)
    if SCALED:
        pushes *= tl.load(factors + tl.load(table + 7))
    tl.store(gradient + index, pushes, mask=mask)
