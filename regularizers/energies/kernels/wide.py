r"""Energies of wide neurons and their gradients, from tiles of their Gram matrices.

With d > 128 a block of neurons and its gradient do not stay in registers, and with N <= d the matrix M of
:math:`\partial E / \partial W = M W` is no larger than the neurons. It is computed from tiles on and above the diagonal
only. A few tiles of many dimensions would leave most of a GPU idle, so the dimensions are divided, too: one kernel
computes parts of the products, a second adds them in a fixed order and turns them into potentials and slopes, a third
multiplies the slopes by W, and a fourth, which does nothing where there are none, adds what near pairs push. Products
are three of tensor-float-32, and near pairs are computed from differences, as in :mod:`.pairs`, which states the error.
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

from .launches import EXACT, PRODUCTS, PROGRAMS, PUSHES, SLOPES, Launch
from .pairs import NEAR, Shapes, kind, limits, norms, packed, shapes_of, unpacked
from .potential import antipode, lengths, potential, squared_distance

LINE = tl.constexpr(9)
STEP = 64  # dimensions that a part has a multiple of


def gram_sums(
    neurons: Layers, terms: Terms, factors: Tensor | None, with_gradient: bool
) -> tuple[Tensor, list[Tensor]]:
    """:func:`.pairs.pair_sums` for any d, in the memory of the neurons, one N x N matrix for every set and the parts.

    A pair of tiles has one part, and as many more as there are programs to fill: no more than PROGRAMS of them in all.
    """
    shapes = shapes_of(neurons)
    tile = PRODUCTS.rows
    tables, (depth, splits, slots), (rows, matrices, counts) = _programs(shapes, tile, PROGRAMS, neurons[0].device)
    parts_of, tiles, pushes = tables
    x = packed(neurons)
    parts, squares = x.new_empty(slots, tile, tile), x.new_empty(splits, rows)
    sums, inverse = x.new_zeros(counts), x.new_empty(rows)
    most = -(-max(n for _, n, _ in shapes) // tile)
    matrix = x.new_empty(matrices if with_gradient else 0)
    radial = x.new_empty(most if with_gradient else 0, rows)
    near = torch.empty_like(radial, dtype=torch.int32)
    aligned = {"ALIGNED": all(n % 4 == d % 4 == 0 for _, n, d in shapes), "TILE": tile}
    scalars = *limits(x, terms), *norms(x, terms)
    with torch.cuda.device_of(x):
        _product_kernel[(len(parts_of),)](
            x, parts_of, parts, squares, rows, depth, **aligned, **_options(PRODUCTS, terms)
        )
        arguments: tuple[Any, ...] = x, tiles, parts, squares, sums, inverse, matrix, radial, near, rows, depth
        sizes = {"num_warps": SLOPES.num_warps, "num_stages": SLOPES.num_stages}
        _slope_kernel[(len(tiles),)](*arguments, *scalars, **kind(terms, with_gradient), **aligned, **sizes)
        if not with_gradient:
            return sums.sum(-1), []
        gradient = torch.empty_like(x)
        scaled = {"SCALED": factors is not None} | aligned
        arguments = x, pushes, matrix, radial, inverse, rows, factors, gradient
        _push_kernel[(len(pushes),)](*arguments, **scaled, **_options(PUSHES, terms))
        arguments = x, pushes, parts, inverse, near, rows, depth, factors, gradient
        _near_kernel[(len(pushes),)](*arguments, HALF=terms.potential.half_space, **scaled, num_warps=4)
    return sums.sum(-1), unpacked(gradient, shapes)


def _options(launch: Launch, terms: Terms) -> dict[str, Any]:
    precision = EXACT if terms.precision == "fp32" else "tf32"
    sizes = {"num_warps": launch.num_warps, "num_stages": launch.num_stages}
    return sizes | {"PRECISION": precision, "CHUNK": launch.columns}


@device_table
def _programs(
    shapes: Shapes, tile: int, programs: int, device: torch.device
) -> tuple[list[Tensor], tuple[int, int, int], tuple[int, int, tuple[int, int]]]:
    """Lines for parts of the products, tiles of the Gram matrices and tiles of the gradients, and how much there is.

    That is dimensions of a part, the most parts of a tile, parts; rows, numbers of the matrices, [sets, tiles] of sums.

    A line: where the set begins in memory, its neurons and dimensions, its first row among all, where its matrix
    begins, the tile's first row and column, its first part, and of a part its first dimension, of a Gram matrix's tile
    its index in the sums. Of a gradient's tile the first dimension stands for the column, the set's first part for the
    tile's, the layer for the index. What takes longest comes first.
    """
    sides = [-(-n // tile) for _, n, _ in shapes]
    work = sum(b * m * (m + 1) // 2 * d for m, (b, _, d) in zip(sides, shapes, strict=True))
    depth = -(-work // (programs * STEP)) * STEP
    most = max(m * (m + 1) // 2 for m in sides)
    parts, tiles, pushes = [], [], []
    sets = first = source = matrix = slots = 0
    for layer, (batch, n, d) in enumerate(shapes):
        starts = range(0, d, depth)
        for _ in range(batch):
            line = (source, n, d, first, matrix)
            pushes += [(*line, i, j, slots, layer) for i in range(0, n, tile) for j in range(0, d, tile)]
            corners = [(i, j) for i in range(0, n, tile) for j in range(i, n, tile)]
            for index, (i, j) in enumerate(corners):
                tiles.append((*line, i, j, slots, sets * most + index))
                parts += [(*line, i, j, slots + part, start) for part, start in enumerate(starts)]
                slots += len(starts)
            sets, first, source, matrix = sets + 1, first + n, source + n * d, matrix + n * n
    parts.sort(key=lambda line: -min(depth, line[2] - line[8]))
    tiles.sort(key=lambda line: -line[2])
    pushes.sort(key=lambda line: -line[1])
    tables = [torch.tensor(lines, dtype=torch.int64).to(device) for lines in (parts, tiles, pushes)]
    splits = max(-(-d // depth) for _, _, d in shapes)
    return tables, (depth, splits, slots), (first, matrix, (sets, most))


@triton.jit
def _place(x, table, ALIGNED: tl.constexpr):
    """Where the set of a program begins in memory, the program's line, and the set's neurons and dimensions."""
    table += LINE * tl.program_id(0)
    source = tl.load(table)
    count = tl.load(table + 1).to(tl.int32)
    width = tl.load(table + 2).to(tl.int32)
    if ALIGNED:
        source, count, width = tl.multiple_of(source, 4), tl.multiple_of(count, 4), tl.multiple_of(width, 4)
    return source, table, count, width


@triton.jit
def _product_kernel(
    x, table, parts, squares, rows, depth,
    ALIGNED: tl.constexpr, PRECISION: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """A part of the products of two blocks of neurons; of a block with itself, of the squared norms as well."""
    source, table, count, width = _place(x, table, ALIGNED)
    x += source
    begin, across = tl.load(table + 5).to(tl.int32), tl.load(table + 6).to(tl.int32)
    slot, start = tl.load(table + 7), tl.load(table + 8).to(tl.int32)
    start = tl.multiple_of(start, 64)
    row = begin + tl.arange(0, TILE)
    column = across + tl.arange(0, TILE)
    above, inside = row < count, column < count
    c = tl.zeros((TILE, TILE), tl.float32)
    square = tl.zeros((TILE, CHUNK), tl.float32)
    for at in range(start, tl.minimum(start + depth, width), CHUNK):
        k = at + tl.arange(0, CHUNK)
        a = tl.load(x + row[:, None] * width + k[None, :], mask=above[:, None] & (k < width)[None, :], other=0.0)
        b = tl.load(x + column[:, None] * width + k[None, :], mask=inside[:, None] & (k < width)[None, :], other=0.0)
        square += a * a + 0.0 * a  # NaN of an infinite neuron
        c = tl.dot(a, tl.trans(b), c, input_precision=PRECISION)
    inner = tl.arange(0, TILE)
    tl.store(parts + slot * TILE * TILE + inner[:, None] * TILE + inner[None, :], c)
    if begin == across:
        target = squares + (start // depth).to(tl.int64) * rows + tl.load(table + 3)
        tl.store(target + row, tl.sum(square, axis=1), mask=above)


@triton.jit
def _slope_kernel(
    x, table, parts, squares, sums, inverse, matrix, radial, near, rows, depth,
    FLOOR, PARALLEL, EPS, LEAST, LIMIT, TINY,
    S: tl.constexpr, HALF: tl.constexpr, SHORTENS: tl.constexpr, GRADIENT: tl.constexpr,
    ALIGNED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    source, table, count, width = _place(x, table, ALIGNED)
    x += source
    first, slot = tl.load(table + 3), tl.load(table + 7)
    begin, across = tl.load(table + 5).to(tl.int32), tl.load(table + 6).to(tl.int32)
    row = begin + tl.arange(0, TILE)
    column = across + tl.arange(0, TILE)
    above, inside = row < count, column < count
    inner = tl.arange(0, TILE)
    parts += slot * TILE * TILE + inner[:, None] * TILE + inner[None, :]
    c = tl.zeros((TILE, TILE), tl.float32)
    squares_a = tl.zeros((TILE,), tl.float32)
    squares_b = tl.zeros((TILE,), tl.float32)
    for part in range(tl.cdiv(width, depth)):
        line = squares + tl.cast(part, tl.int64) * rows + first
        c += tl.load(parts + part * (TILE * TILE))
        squares_a += tl.load(line + row, mask=above, other=0.0)
        squares_b += tl.load(line + column, mask=inside, other=0.0)
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
    tl.store(sums + tl.load(table + 8), energy)
    if GRADIENT:
        pushes = slope * scale
        radial_a, radial_b = tl.where(scale_a == LIMIT, 0.0, 1.0), tl.where(scale_b == LIMIT, 0.0, 1.0)
        # With near pairs among them, neurons are pushed by differences, see the last kernel: c becomes c - 1, and the
        # pushes are left where the first part of the products was.
        if any_close:
            tl.store(parts, pushes)
        far = tl.where(any_close, 0.0, pushes)
        matrix += tl.load(table + 4)
        tl.store(matrix + row[:, None] * count + column[None, :], far, mask=above[:, None] & inside[None, :])
        side = tl.where(c < 0, -1.0, 1.0) if HALF else tl.full((TILE, TILE), 1.0, tl.float32)
        cosine = tl.where(close, side * (1.0 - 0.5 * z), c)
        less = tl.where(any_close, side, 0.0)
        less_a = tl.where(close & (radial_a > 0)[:, None], -0.5 * side * z, radial_a[:, None] * cosine - less)
        less_b = tl.where(close & (radial_b > 0)[None, :], -0.5 * side * z, radial_b[None, :] * cosine - less)
        along = tl.sum(slope * less_a, axis=1)
        if SHORTENS:
            along += tl.where(is_diagonal, 2.0 * outward * (1.0 - radial_a * (1.0 - lack_a)), 0.0)
        flag = tl.where(any_close, 1, 0) + tl.zeros((TILE,), tl.int32)
        here = (across // TILE).to(tl.int64) * rows + first + row
        tl.store(radial + here, along, mask=above)
        tl.store(near + here, flag, mask=above)
        if begin != across:
            there = (begin // TILE).to(tl.int64) * rows + first + column
            tl.store(radial + there, tl.sum(slope * less_b, axis=0), mask=inside)
            tl.store(near + there, flag, mask=inside)
            mirrored = matrix + column[:, None] * count + row[None, :]
            tl.store(mirrored, tl.trans(far), mask=inside[:, None] & above[None, :])


@triton.jit
def _push_kernel(
    x, table, matrix, radial, inverse, rows, factors, gradient,
    SCALED: tl.constexpr, ALIGNED: tl.constexpr, PRECISION: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """A tile of M W: M's diagonal, what pushes along the neuron, is subtracted last."""
    source, table, count, width = _place(x, table, ALIGNED)
    x, gradient = x + source, gradient + source
    first, at = tl.load(table + 3), tl.load(table + 4)
    matrix += tl.multiple_of(at, 4) if ALIGNED else at
    row = tl.load(table + 5).to(tl.int32) + tl.arange(0, TILE)
    dim = tl.multiple_of(tl.load(table + 6).to(tl.int32), TILE) + tl.arange(0, TILE)
    above, there = row < count, dim < width
    pushes = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, count, CHUNK):
        other = start + tl.arange(0, CHUNK)
        inside = other < count
        m = tl.load(matrix + row[:, None] * count + other[None, :], mask=above[:, None] & inside[None, :], other=0.0)
        w = tl.load(x + other[:, None] * width + dim[None, :], mask=inside[:, None] & there[None, :], other=0.0)
        pushes = tl.dot(m, w, pushes, input_precision=PRECISION)
    along = tl.zeros((TILE,), tl.float32)
    for tile in range(tl.cdiv(count, TILE)):
        along += tl.load(radial + tl.cast(tile, tl.int64) * rows + first + row, mask=above, other=0.0)
    scale = tl.load(inverse + first + row, mask=above, other=0.0)
    index = row[:, None] * width + dim[None, :]
    mask = above[:, None] & there[None, :]
    pushes -= (along * scale * scale)[:, None] * tl.load(x + index, mask=mask, other=0.0)
    if SCALED:
        pushes *= tl.load(factors + tl.load(table + 8))
    tl.store(gradient + index, pushes, mask=mask)


@triton.jit
def _near_kernel(
    x, table, parts, inverse, near, rows, depth, factors, gradient,
    HALF: tl.constexpr, SCALED: tl.constexpr, ALIGNED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Adds the pushes of tiles with near pairs in them: a sum of M_ij (w_j - n_j u_i), where nothing cancels."""
    source, table, count, width = _place(x, table, ALIGNED)
    first, slot = tl.load(table + 3), tl.load(table + 7)
    begin = tl.load(table + 5).to(tl.int32)
    tiles = tl.cdiv(count, TILE)
    near += first + begin
    some = 0
    for tile in range(tiles):
        some += tl.load(near + tl.cast(tile, tl.int64) * rows)
    if some == 0:
        return
    x, gradient, inverse = x + source, gradient + source, inverse + first
    inner = tl.arange(0, TILE)
    row = begin + inner
    dim = tl.load(table + 6).to(tl.int32) + inner
    above, there = row < count, dim < width
    index = row[:, None] * width + dim[None, :]
    mask = above[:, None] & there[None, :]
    u = tl.load(x + index, mask=mask, other=0.0) * tl.load(inverse + row, mask=above, other=0.0)[:, None]
    own, splits = begin // TILE, tl.cdiv(width, depth)
    pushes = tl.zeros((TILE, TILE), tl.float32)
    for tile in range(tiles):
        if tl.load(near + tl.cast(tile, tl.int64) * rows) > 0:
            low, high = tl.minimum(own, tile), tl.maximum(own, tile)
            part = slot + (low * tiles - low * (low - 1) // 2 + high - low).to(tl.int64) * splits
            down, right = tl.where(own <= tile, TILE, 1), tl.where(own <= tile, 1, TILE)
            for j in range(tl.minimum(TILE, count - tile * TILE)):
                one = tl.load(parts + part * TILE * TILE + inner * down + j * right)
                size = tl.load(inverse + tile * TILE + j)
                v = tl.load(x + (tile * TILE + j) * width + dim, mask=there, other=0.0) * size
                origin = tl.where((one < 0)[:, None], -u, u) if HALF else u
                pushes += (one / tl.where(size > 0, size, 1.0))[:, None] * (v[None, :] - origin)
    if SCALED:
        pushes *= tl.load(factors + tl.load(table + 8))
    tl.store(gradient + index, tl.load(gradient + index, mask=mask) + pushes, mask=mask)
