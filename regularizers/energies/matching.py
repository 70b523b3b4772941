"""How far the cosines or angles of projected neurons are from those of the neurons themselves, and what lessens it.

Each function takes directions u [..., N, k] and returns :math:`\\sum_j S_{ij} u_j` [..., N, k], which is the derivative
of half the sum in u_i, and the sum [...] itself, :math:`\\sum_{i \\ne j} (g(c_{ij}) - g(t_{ij}))^2` with the cosines
c of u and t of the neurons, g the identity or the arccosine, :math:`S = 2 (g(c) - g(t)) g'(c)`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from comhe.autograd import Operation

from .blocks import pair_sum
from .checks import float64
from .terms import Terms
from .transforms import last_derivative

SIDE = 512  # neurons on a side of a block
ROWS = 2048  # rows that are in float64 at a time
INSTEAD = "layers of up to 1,024 neurons have a second derivative of this penalty, of any number hs-mhe's"


def match_matrix(u: Tensor, target: Tensor, angles: bool) -> tuple[Tensor, Tensor]:
    """From the neurons' cosines t [..., N, N]."""
    c = u @ u.mT
    if angles:
        (angle, slope), (wanted, _) = angles_and_slopes(c), angles_and_slopes(target)
        change = _off_diagonal(angle - wanted)
        return (2 * change * slope) @ u, change.square().sum((-2, -1))
    change = _off_diagonal(c - target)
    return 2 * change @ u, change.square().sum((-2, -1))


def match_cosines(u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""From the neurons' directions x [..., N, d]: the squared norm of :math:`U U^\top - X X^\top` off the diagonal.

    No N x N matrix is needed: it is :math:`|U^\top U|^2 - 2 |X^\top U|^2 + |X^\top X|^2` less the diagonal. These
    differ by less than their own rounding in float32 when P is good, so they are float64.
    """
    ours, both = _Cross.apply(u, u), _Cross.apply(x, u)
    lengths, others = (u * u).sum(-1), (x * x).sum(-1)
    off = lengths - others
    if x.shape[-1] < x.shape[-2]:
        theirs = _Cross.apply(x, x).square().sum((-2, -1))
    else:
        theirs = 2 * pair_sum(x, torch.square) + others.square().sum(-1)
    total = ours.square().sum((-2, -1)) - 2 * both.square().sum((-2, -1)) + theirs.to(ours)
    total = total - float64(off).square().sum(-1)
    return 2 * (u @ ours.to(u) - x @ both.to(u) - u * off[..., None]), total.clamp_min(0).to(u)


def match_angles(u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The same for angles, from blocks of the cosines."""
    return _Blocks.apply(u, x)


def unit_rows(w: Tensor, scale: Tensor, terms: Terms) -> Tensor:
    """Directions of rows w [..., N, d], which count with the lengths of ``terms`` after ``scale`` [..., N, 1]."""
    with torch.no_grad():
        lengths = terms.lengths(torch.linalg.vector_norm(w * scale, dim=-1).square(), branching=False)
        radial = torch.ones_like(scale) if lengths.radial is None else lengths.radial[..., None]
        factor = (lengths.inverse[..., None] * scale).detach()
    return _Directions.apply(w, factor, radial.detach())


def angles_and_slopes(c: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in radians and their derivative in the cosine; finite at parallel pairs."""
    c = c.clamp(-_edge(c), _edge(c))
    return c.acos(), -(1 - c * c).rsqrt()


class _Cross(Operation):
    """A^T B in float64 of [..., N, a] and [..., N, b], which are not converted as a whole."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(a.split(ROWS, -2), b.split(ROWS, -2), strict=True)
        return sum(float64(x).mT @ float64(y) for x, y in pairs)  # type: ignore[return-value]

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        grad = grad.to(a)
        return b @ grad.mT, a @ grad

    @staticmethod
    def jvp(ctx, change: Tensor, other: Tensor) -> Tensor:
        a, b = ctx.saved_tensors
        return _Cross.apply(change, b) + _Cross.apply(a, other)


class _Directions(Operation):
    """The factor goes with the rows' lengths, but is not looked at again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, factor: Tensor, radial: Tensor) -> Tensor:
        return (w * factor).masked_fill(factor == 0, 0)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(output, *inputs)
        ctx.save_for_forward(output, *inputs)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        u, w, *constants = ctx.saved_tensors
        return last_derivative(_turned(grad, u, *constants), w, grad, instead=INSTEAD), None, None

    @staticmethod
    def jvp(ctx, change: Tensor, *_) -> Tensor:
        u, w, *constants = ctx.saved_tensors
        return last_derivative(_turned(change, u, *constants), w, instead=INSTEAD)


def _turned(change: Tensor, u: Tensor, factor: Tensor, radial: Tensor) -> Tensor:
    along = torch.einsum("...i,...i->...", change, u)[..., None] * radial
    return torch.addcmul(change, u, along, value=-1).mul_(factor)


class _Blocks(Operation):
    """:func:`match_angles`. Derivatives compute the blocks again, so that no more than one is ever there."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        pulls, total = _zeros(u), torch.zeros_like(u[..., 0, 0])
        for i, j, block in _blocks(u, x):
            pulls[i] = pulls[i] + block.weights @ block.v
            if j > i:
                pulls[j] = pulls[j] + block.weights.mT @ block.u
            total = total + block.orders * block.change.square().sum((-2, -1))
        return torch.cat(pulls, -2), total

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad_pull: Tensor, grad_total: Tensor) -> tuple[Tensor, Tensor]:
        u, x = ctx.saved_tensors
        pushed, grads, targets = grad_pull.split(SIDE, -2), _zeros(u), _zeros(x)
        with torch.no_grad():
            for i, j, block in _blocks(u, x):
                weighted = pushed[i] @ block.v.mT
                if j > i:
                    weighted = weighted + block.u @ pushed[j].mT
                sums = 2 * block.orders * grad_total[..., None, None] * block.change
                cosines = (weighted * block.bend + sums * block.slope) * block.inside
                wanted = -(2 * weighted * block.slope + sums) * block.wanted
                grads[i] = grads[i] + cosines @ block.v
                grads[j] = grads[j] + cosines.mT @ block.u + block.weights.mT @ pushed[i]
                targets[i] = targets[i] + wanted @ block.y
                targets[j] = targets[j] + wanted.mT @ block.x
                if j > i:
                    grads[i] = grads[i] + block.weights @ pushed[j]
        both = (torch.cat(parts, -2) for parts in (grads, targets))
        first, second = (last_derivative(one, u, x, grad_pull, instead=INSTEAD) for one in both)
        return first, second

    @staticmethod
    def jvp(ctx, change: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        u, x = ctx.saved_tensors
        moves, turns, pulls = change.split(SIDE, -2), other.split(SIDE, -2), _zeros(change)
        total = torch.zeros_like(change[..., 0, 0])
        with torch.no_grad():
            for i, j, block in _blocks(u, x):
                cosines = (moves[i] @ block.v.mT + block.u @ moves[j].mT) * block.inside
                wanted = (turns[i] @ block.y.mT + block.x @ turns[j].mT) * block.wanted
                weights = block.bend * cosines - 2 * block.slope * wanted
                pulls[i] = pulls[i] + weights @ block.v + block.weights @ moves[j]
                if j > i:
                    pulls[j] = pulls[j] + weights.mT @ block.u + block.weights.mT @ moves[i]
                moved = block.change * (block.slope * cosines - wanted)
                total = total + 2 * block.orders * moved.sum((-2, -1))
        first, second = (last_derivative(one, u, x, instead=INSTEAD) for one in (torch.cat(pulls, -2), total))
        return first, second


class _Block(NamedTuple):
    """Rows u, x and columns v, y of a block of pairs; with the angles' derivatives g' and g'' in c and g' in t.

    ``change`` is g(c) - g(t), ``weights`` S and ``bend`` its derivative in c, all 0 for a neuron with itself.
    ``inside`` is where c is not clamped, ``orders`` what a pair counts for: a block on the diagonal has it twice.
    """

    u: Tensor
    x: Tensor
    v: Tensor
    y: Tensor
    change: Tensor
    slope: Tensor
    bend: Tensor
    weights: Tensor
    wanted: Tensor
    inside: Tensor
    orders: int


def _blocks(u: Tensor, x: Tensor) -> Iterator[tuple[int, int, _Block]]:
    """The blocks on and above the diagonal, each with the numbers of its sides."""
    sides = list(zip(u.split(SIDE, -2), x.split(SIDE, -2), strict=True))
    for i, (a, b) in enumerate(sides):
        for j, (v, y) in enumerate(sides[i:], start=i):
            c, t = a @ v.mT, b @ y.mT
            (angle, slope), (other, wanted) = angles_and_slopes(c), angles_and_slopes(t)
            change = angle - other
            if i == j:
                change, slope, wanted = (_off_diagonal(one) for one in (change, slope, wanted))
            edge = _edge(c)
            bend = 2 * (slope * slope + change * c.clamp(-edge, edge) * slope * slope * slope)
            wanted = wanted * (t.abs() <= edge)
            weights = 2 * change * slope
            yield i, j, _Block(a, b, v, y, change, slope, bend, weights, wanted, c.abs() <= edge, 1 if i == j else 2)


def _off_diagonal(x: Tensor) -> Tensor:
    return x.diagonal_scatter(torch.zeros_like(x[..., 0]), dim1=-2, dim2=-1)


def _edge(c: Tensor) -> float:
    return 1 - 8 * torch.finfo(c.dtype).eps


def _zeros(x: Tensor) -> list[Tensor]:
    return [torch.zeros_like(block) for block in x.split(SIDE, -2)]
