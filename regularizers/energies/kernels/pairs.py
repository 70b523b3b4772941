r"""Energies of narrow neurons and their gradients: one pass over tiles of cosines, in the manner of fused attention.

A program has a block of neurons of one set. Against every block of the set's neurons it computes a tile of cosines,
turns it into potentials and slopes F, and adds F U to the block's gradient; the N x N matrix never reaches memory.
Every pair is visited from both sides: the half that could be saved (a quarter of the products) would need its pushes
added up across programs, through memory and in no fixed order.

**Precision.** A float32 number is the sum of a high and a low part of tensor-float-32, and a product of two takes
three on the tensor cores, without that of the low parts. This is off by at most 2^-20 of the sum of its terms' sizes,
like a product in float32: a cosine by 1e-6 at worst. Its effect on the potential grows as neurons come near each
other, so pairs with a squared distance z below 0.2 (26 degrees) are left out there, and a second kernel, which does
nothing where there are none, takes them from the differences of the neurons: the relative error of z and of what turns
the pair is at most 2^-20 / sqrt(z). A pair's energy is thus right to 2e-5, and its gradient to 1e-4 at an angle of
1e-3, to 3e-3 at 1e-5 and to a tenth at 1e-6, below which a pair counts as parallel (``benchmarks/gradient_error.csv``).
``"tf32"`` leaves the low parts out: three times less
work, cosines to 1e-3.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import OutOfResources

from comhe.regularizers.energies.checks import Layers
from comhe.regularizers.energies.tables import device_table
from comhe.regularizers.energies.terms import Terms

from .launches import Launch, padded_width, pair_launches
from .potential import antipode, lengths, potential, squared_distance

NEAR = tl.constexpr(0.2)
LINE = tl.constexpr(8)
Shapes = tuple[tuple[int, int, int], ...]  # of the layers


def pair_sums(
    neurons: Layers, terms: Terms, factors: Tensor | None, with_gradient: bool
) -> tuple[Tensor, list[Tensor]]:
    """Sums [B_1 + B_2 + ...] of phi over the pairs i < j of every set, and the sums' gradients; d_l <= NARROW."""
    shapes, device = shapes_of(neurons), neurons[0].device
    width = padded_width(max(d for _, _, d in shapes))
    *preferred, last = pair_launches(max(n for _, n, _ in shapes), width, device)
    for launch in preferred:
        try:
            return _launched(neurons, shapes, width, launch, terms, factors, with_gradient)
        except OutOfResources:  # compiled by another Triton, which takes more memory
            continue
    return _launched(neurons, shapes, width, last, terms, factors, with_gradient)


def _launched(
    neurons: Layers,
    shapes: Shapes,
    width: int,
    launch: Launch,
    terms: Terms,
    factors: Tensor | None,
    with_gradient: bool,
) -> tuple[Tensor, list[Tensor]]:
    block = launch.rows
    table, rows, slots = programs(shapes, block, neurons[0].device)
    x = packed(neurons)
    unit = units(x, rows, width)
    with torch.cuda.device_of(x):
        sizes = {"ROWS": block, "WIDTH": width, "num_warps": launch.num_warps, "num_stages": 1}
        _unit_kernel[(len(table),)](x, table, *unit, rows, *norms(x, terms), **sizes)
    sums, gradient = energies(unit, table, slots, terms, factors, launch, with_gradient)
    if not with_gradient:
        return sums, []
    ends = [b * -(-n // block) * block for b, n, _ in shapes]
    pairs = zip(gradient.split(ends), shapes, strict=True)
    return sums, [one.view(b, -1, width)[:, :n, :d] for one, (b, n, d) in pairs]


def shapes_of(neurons: Layers) -> Shapes:
    """[sets, neurons, dimensions] of each layer."""
    return tuple((b, n, d) for b, n, d in (w.shape for w in neurons))


def packed(neurons: Layers) -> Tensor:
    """The numbers of all layers, one after the other."""
    return neurons[0].flatten() if len(neurons) == 1 else torch.cat([w.flatten() for w in neurons])


def unpacked(x: Tensor, shapes: Shapes) -> list[Tensor]:
    """Layers of these shapes from their packed numbers."""
    return [one.view(shape) for one, shape in zip(x.split([b * n * d for b, n, d in shapes]), shapes, strict=True)]


def norms(x: Tensor, terms: Terms) -> tuple[float, float, float, float]:
    """The scalars of :func:`.potential.lengths`."""
    return terms.eps, terms.min_norm, 1 / terms.min_norm if terms.min_norm else 0.0, torch.finfo(x.dtype).tiny


def limits(x: Tensor, terms: Terms) -> tuple[float, float]:
    """The floor, and the squared distance below which pairs count as parallel: no less than the rounding here."""
    return terms.potential.floor(x.dtype), max(terms.parallel_below(x), (8 * torch.finfo(x.dtype).eps) ** 2)


def kind(terms: Terms, with_gradient: bool) -> dict[str, Any]:
    """What the kernels are compiled for."""
    shortens = terms.potential.half_space and (terms.eps > 0 or terms.min_norm > 0)
    half = terms.potential.half_space
    return {"S": float(terms.potential.s), "HALF": half, "SHORTENS": shortens, "GRADIENT": with_gradient}


def units(like: Tensor, rows: int, width: int) -> tuple[Tensor, ...]:
    """Room for padded directions, high and low parts, by rows [R, WIDTH] and by columns [WIDTH, R], and of lengths."""
    high, low = like.new_empty(2, rows, width)
    columns_high, columns_low = like.new_empty(2, width, rows)
    return high, low, columns_high, columns_low, like.new_empty(rows), like.new_empty(rows)


def energies(unit, table, slots, terms, factors, launch, with_gradient) -> tuple[Tensor, Tensor]:
    """Pair sums of the sets, and their gradient in the neurons that the units belong to, padded as those are."""
    rows, width = unit[0].shape
    sums = unit[0].new_zeros(slots)
    gradient = torch.empty_like(unit[0]) if with_gradient else unit[0]
    near = torch.empty(len(table), dtype=torch.int32, device=sums.device)
    limit = 1 / terms.min_norm if terms.min_norm else 0.0
    arguments = (*unit, rows, table, factors, sums, gradient, near, *limits(sums, terms), limit)
    options = kind(terms, with_gradient) | {"EXACT": terms.precision == "fp32", "SCALED": factors is not None}
    options |= {"ROWS": launch.rows, "COLUMNS": launch.columns, "WIDTH": width, "num_warps": launch.num_warps}
    with torch.cuda.device_of(sums):
        _pairs_kernel[(len(table),)](*arguments, **options, num_stages=launch.num_stages)
        _near_kernel[(len(table),)](*arguments, **options, num_stages=1)
    return sums.sum(-1), gradient


@device_table
def programs(shapes: Shapes, block: int, device: torch.device) -> tuple[Tensor, int, tuple[int, int]]:
    """A line for each block of neurons; the rows in all, sets padded to whole blocks; [sets, blocks] of the sums.

    A line: the set's first row, its neurons, the block's first row in the set, its index in the sums, where the set
    begins in memory, its dimensions, its layer, and 0, which fills the line.
    """
    most = max(-(-n // block) for _, n, _ in shapes)
    lines, sets, first, source = [], 0, 0, 0
    for layer, (batch, n, d) in enumerate(shapes):
        for _ in range(batch):
            lines += [(first, n, at, sets * most + at // block, source, d, layer, 0) for at in range(0, n, block)]
            sets, first, source = sets + 1, first + -(-n // block) * block, source + n * d
    return torch.tensor(lines, dtype=torch.int64).to(device), first, (sets, most)


@triton.jit
def halves(x):
    """The high and the low part of float32 numbers: the first has the bits that tensor-float-32 keeps."""
    high = (x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return high, x - high


@triton.jit
def store_units(
    w, high, low, columns_high, columns_low, inverse, lack, rows, row, EPS, LEAST, LIMIT, TINY,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Neurons w divided by their norms; 1 / norm is 0 for one that has no direction, as the neuron is then.

    An infinite neuron is lost and makes NaN, as it does times 0; it is not one without direction.
    """
    scale, short_of = lengths(tl.sum(w * w + 0.0 * w, axis=1), EPS, LEAST, LIMIT, TINY)
    alive = scale != 0
    big, small = halves(tl.where(alive[:, None], tl.where(alive[:, None], w, 0.0) * scale[:, None], 0.0))
    dim = tl.arange(0, WIDTH)
    tl.store(high + row[:, None] * WIDTH + dim[None, :], big)
    tl.store(low + row[:, None] * WIDTH + dim[None, :], small)
    tl.store(columns_high + dim[None, :] * rows + row[:, None], big)
    tl.store(columns_low + dim[None, :] * rows + row[:, None], small)
    tl.store(inverse + row, scale)
    tl.store(lack + row, short_of)


@triton.jit
def _unit_kernel(
    x, table, high, low, columns_high, columns_low, inverse, lack, rows, EPS, LEAST, LIMIT, TINY,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    table += LINE * tl.program_id(0)
    width = tl.load(table + 5).to(tl.int32)
    row = tl.load(table + 2).to(tl.int32) + tl.arange(0, ROWS)
    dim = tl.arange(0, WIDTH)
    mask = (row < tl.load(table + 1))[:, None] & (dim < width)[None, :]
    w = tl.load(x + tl.load(table + 4) + row[:, None] * width + dim[None, :], mask=mask, other=0.0)
    first = tl.load(table)
    high, low, inverse, lack = high + first * WIDTH, low + first * WIDTH, inverse + first, lack + first
    columns_high, columns_low = columns_high + first, columns_low + first
    store_units(w, high, low, columns_high, columns_low, inverse, lack, rows, row, EPS, LEAST, LIMIT, TINY, ROWS, WIDTH)


@triton.jit
def _product(a_high, a_low, b_high, b_low, c, EXACT: tl.constexpr):
    """c + a b."""
    if EXACT:
        c = tl.dot(a_low, b_high, c, input_precision="tf32")
        c = tl.dot(a_high, b_low, c, input_precision="tf32")
    return tl.dot(a_high, b_high, c, input_precision="tf32")


@triton.jit
def _cosines(a_high, a_low, high, low, across, ROWS: tl.constexpr, COLUMNS: tl.constexpr, EXACT: tl.constexpr):
    c = tl.zeros((ROWS, COLUMNS), tl.float32)
    return _product(a_high, a_low, tl.load(high + across), tl.load(low + across), c, EXACT)


@triton.jit
def _pushed(pushes, slope, columns_high, columns_low, down, EXACT: tl.constexpr):
    """pushes + slope U."""
    slope_high, slope_low = halves(slope)
    return _product(slope_high, slope_low, tl.load(columns_high + down), tl.load(columns_low + down), pushes, EXACT)


@triton.jit
def _pairs_kernel(
    high, low, columns_high, columns_low, inverse, lack, rows, table, factors, sums, gradient, near,
    FLOOR, PARALLEL, LIMIT,
    S: tl.constexpr, HALF: tl.constexpr, SHORTENS: tl.constexpr, EXACT: tl.constexpr, GRADIENT: tl.constexpr,
    SCALED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    table += LINE * tl.program_id(0)
    first = tl.load(table)
    high, low, gradient = high + first * WIDTH, low + first * WIDTH, gradient + first * WIDTH
    columns_high, columns_low = columns_high + first, columns_low + first
    inverse, lack = inverse + first, lack + first
    count = tl.load(table + 1).to(tl.int32)
    row = tl.load(table + 2).to(tl.int32) + tl.arange(0, ROWS)
    dim = tl.arange(0, WIDTH)
    index = row[:, None] * WIDTH + dim[None, :]
    a_high = tl.load(high + index)
    a_low = tl.load(low + index)
    energy = tl.zeros((ROWS,), tl.float32)
    close = tl.zeros((ROWS,), tl.float32)
    pushes = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, count, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        across = dim[:, None] + column[None, :] * WIDTH  # [WIDTH, COLUMNS]
        down = column[:, None] + dim[None, :] * rows  # [COLUMNS, WIDTH]
        c = _cosines(a_high, a_low, high, low, across, ROWS, COLUMNS, EXACT)
        z = squared_distance(c, HALF)
        pair = row[:, None] != column[None, :]
        value, slope = potential(z, c, FLOOR, S, HALF)
        close += tl.sum(tl.where(pair & (z < NEAR), 1.0, 0.0), axis=1)
        pair &= ~(z < NEAR)  # NaN counts
        energy += tl.sum(tl.where(pair & (column < count)[None, :], value, 0.0), axis=1)
        if GRADIENT:  # padding does not push
            pushes = _pushed(pushes, tl.where(pair, slope, 0.0), columns_high, columns_low, down, EXACT)
    if SHORTENS:
        apart, _ = antipode(tl.load(lack + row), FLOOR, S)
        energy += 2.0 * apart  # all of it is halved
    tl.store(sums + tl.load(table + 3), 0.5 * tl.sum(tl.where(row < count, energy, 0.0)))
    tl.store(near + tl.program_id(0), (tl.sum(close) > 0).to(tl.int32))
    if GRADIENT:
        # The gradient in the neurons from that in their directions: what pushes along a neuron does not turn it.
        u = tl.load(high + index) + tl.load(
            low + index
        )  # read again: in registers for so long it would push others out
        scale = tl.load(inverse + row)
        radial = tl.where(scale == LIMIT, 0.0, 1.0)
        along = radial * tl.sum(pushes * u, axis=1)
        if SHORTENS:
            missing = tl.load(lack + row)
            _, outward = antipode(missing, FLOOR, S)
            along += 2.0 * outward * (1.0 - radial * (1.0 - missing))
        tl.store(gradient + index, (pushes - along[:, None] * u) * _scaled(scale, factors, table, SCALED)[:, None])


@triton.jit
def _near_kernel(
    high, low, columns_high, columns_low, inverse, lack, rows, table, factors, sums, gradient, near,
    FLOOR, PARALLEL, LIMIT,
    S: tl.constexpr, HALF: tl.constexpr, SHORTENS: tl.constexpr, EXACT: tl.constexpr, GRADIENT: tl.constexpr,
    SCALED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Adds the near pairs, whose squared distances and pushes are computed from differences."""
    if tl.load(near + tl.program_id(0)) == 0:
        return
    table += LINE * tl.program_id(0)
    first = tl.load(table)
    high, low, gradient = high + first * WIDTH, low + first * WIDTH, gradient + first * WIDTH
    columns_high, columns_low = columns_high + first, columns_low + first
    inverse, lack = inverse + first, lack + first
    count = tl.load(table + 1).to(tl.int32)
    row = tl.load(table + 2).to(tl.int32) + tl.arange(0, ROWS)
    dim = tl.arange(0, WIDTH)
    index = row[:, None] * WIDTH + dim[None, :]
    a_high = tl.load(high + index)
    a_low = tl.load(low + index)
    scale = tl.load(inverse + row)
    radial = tl.where(scale == LIMIT, 0.0, 1.0)
    energy = tl.zeros((ROWS,), tl.float32)
    along = tl.zeros((ROWS,), tl.float32)
    pushes = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, count, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        across = dim[:, None] + column[None, :] * WIDTH
        c = _cosines(a_high, a_low, high, low, across, ROWS, COLUMNS, EXACT)  # the same bits again
        pair = (row < count)[:, None] & (column < count)[None, :] & (row[:, None] != column[None, :])
        pair &= squared_distance(c, HALF) < NEAR
        if tl.sum(tl.sum(tl.where(pair, 1.0, 0.0), axis=1)) > 0:
            z = tl.load(lack + row)[:, None] + tl.load(lack + column)[None, :]
            for k in range(WIDTH):
                difference = _difference(columns_high, columns_low, k * rows, row, column, c, HALF)
                z += difference * difference
            value, slope = potential(z, c, FLOOR, S, HALF)
            energy += tl.sum(tl.where(pair, value, 0.0), axis=1)
            if GRADIENT:
                slope = tl.where(pair & (z >= PARALLEL), slope, 0.0)
                if HALF:  # of the nearer one
                    slope = tl.abs(slope)
                for k in range(WIDTH):
                    difference = _difference(columns_high, columns_low, k * rows, row, column, c, HALF)
                    turned = tl.sum(slope * difference, axis=1)
                    pushes += tl.where(dim[None, :] == k, turned[:, None], 0.0)
                along += tl.sum(slope * (1.0 - radial[:, None] * (1.0 - 0.5 * z)), axis=1)
    target = sums + tl.load(table + 3)
    tl.store(target, tl.load(target) + 0.5 * tl.sum(energy))
    if GRADIENT:
        u = tl.load(high + index) + tl.load(low + index)
        turning = (pushes + along[:, None] * u) * _scaled(scale, factors, table, SCALED)[:, None]
        tl.store(gradient + index, tl.load(gradient + index) + turning)


@triton.jit
def _difference(high, low, at, row, column, c, HALF: tl.constexpr):
    """One component of the differences of neurons, or from their negatives where those are nearer."""
    left = (tl.load(high + at + row) + tl.load(low + at + row))[:, None]
    right = (tl.load(high + at + column) + tl.load(low + at + column))[None, :]
    return tl.where(c < 0, -right, right) - left if HALF else right - left


@triton.jit
def _scaled(scale, factors, table, SCALED: tl.constexpr):
    return scale * tl.load(factors + tl.load(table + 6)) if SCALED else scale
