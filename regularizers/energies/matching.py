"""How far the cosines or angles of projected neurons are from those of the neurons themselves, and what lessens it.

Each function takes directions u [..., N, k] and returns :math:`\\sum_j S_{ij} u_j` [..., N, k], which is the derivative
of half the sum in u_i, and the sum [...] itself, :math:`\\sum_{i \\ne j} (g(c_{ij}) - g(t_{ij}))^2` with the cosines c of
u and t of the neurons, g the identity or the arccosine, :math:`S = 2 (g(c) - g(t)) g'(c)`.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from .blocks import pair_sum
from .checks import float64
from .terms import Terms
from .transforms import last_derivative

SIDE = 512  # neurons on a side of a block
ROWS = 2048  # rows that are in float64 at a time
INSTEAD = "layers of up to 1,024 neurons have a second derivative of this penalty, of any number hs-mhe's"


def match_matrix(u: Tensor, target: Tensor, angles: bool) -> tuple[Tensor, Tensor]:
    """From the neurons' cosines [..., N, N]."""
    return _matched(u, u, target, angles, diagonal=True)[::2]


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
    """Directions of the rows of w [..., N, d], which count with the lengths of ``terms`` after ``scale`` [..., N, 1]."""
    with torch.no_grad():
        lengths = terms.lengths(torch.linalg.vector_norm(w * scale, dim=-1).square(), branching=False)
        radial = torch.ones_like(scale) if lengths.radial is None else lengths.radial[..., None]
        factor = (lengths.inverse[..., None] * scale).detach()
    return _Directions.apply(w, factor, radial.detach())


def angles_and_slopes(c: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in radians and their derivative in the cosine; finite at parallel pairs."""
    edge = 1 - 8 * torch.finfo(c.dtype).eps
    c = c.clamp(-edge, edge)
    return c.acos(), -(1 - c * c).rsqrt()


def _matched(u: Tensor, v: Tensor, target: Tensor, angles: bool, diagonal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What a block of pairs does to its rows u and to its columns v, and its part of the sum.

    A block on the diagonal has both orders of each pair, so it does all to its rows; others stand for both.
    """
    c = u @ v.mT
    if angles:
        (angle, slope), (wanted, _) = angles_and_slopes(c), angles_and_slopes(target)
        change = angle - wanted
    else:
        change = c - target
    if diagonal:
        change = change.diagonal_scatter(torch.zeros_like(change[..., 0]), dim1=-2, dim2=-1)
    weights = 2 * (change * slope if angles else change)
    total = change.square().sum((-2, -1))
    if diagonal:
        return weights @ v, torch.zeros_like(v), total
    return weights @ v, weights.mT @ u, 2 * total


class _Cross(torch.autograd.Function):
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


class _Directions(torch.autograd.Function):
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
    along = (change * u).sum(-1, keepdim=True) * radial
    return torch.addcmul(change, u, along, value=-1) * factor


class _Blocks(torch.autograd.Function):
    """:func:`match_angles`. Derivatives compute the blocks again, so that no more than one is ever there."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        pulls, totals = [torch.zeros_like(block) for block in u.split(SIDE, -2)], []
        for i, j, block, tensors in _blocks(u, x):
            ours, theirs, total = block(*tensors)
            pulls[i] = pulls[i] + ours
            pulls[j] = pulls[j] + theirs
            totals.append(total)
        return torch.cat(pulls, -2), torch.stack(totals).sum(0)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad_pull: Tensor, grad_total: Tensor) -> tuple[Tensor, ...]:
        u, x = ctx.saved_tensors
        grads = [[torch.zeros_like(block) for block in w.split(SIDE, -2)] for w in (u, x)]
        pushed = grad_pull.split(SIDE, -2)
        with torch.no_grad():
            for i, j, block, tensors in _blocks(u, x):
                found = torch.func.vjp(block, *tensors)[1]((pushed[i], pushed[j], grad_total))
                for which, (side, part) in enumerate(((i, 0), (i, 1), (j, 0), (j, 1))):
                    grads[part][side] = grads[part][side] + found[which]
        return tuple(last_derivative(torch.cat(parts, -2), u, x, grad_pull, instead=INSTEAD) for parts in grads)

    @staticmethod
    def jvp(ctx, change: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        u, x = ctx.saved_tensors
        pulls, totals = [torch.zeros_like(block) for block in change.split(SIDE, -2)], []
        with torch.no_grad():
            for (i, j, block, tensors), (*_, changes) in zip(_blocks(u, x), _blocks(change, other), strict=True):
                ours, theirs, total = torch.func.jvp(block, tensors, changes)[1]
                pulls[i] = pulls[i] + ours
                pulls[j] = pulls[j] + theirs
                totals.append(total)
        found = torch.cat(pulls, -2), torch.stack(totals).sum(0)
        return tuple(last_derivative(one, u, x, instead=INSTEAD) for one in found)  # type: ignore[return-value]


def _blocks(u: Tensor, x: Tensor) -> Iterator[tuple[int, int, Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]]:
    """The blocks on and above the diagonal: numbers of their sides, what to compute of them, and from what."""
    sides = list(zip(u.split(SIDE, -2), x.split(SIDE, -2), strict=True))
    for i, one in enumerate(sides):
        for j, other in enumerate(sides[i:], start=i):
            yield i, j, partial(_block, diagonal=i == j), (*one, *other)


def _block(u: Tensor, x: Tensor, v: Tensor, y: Tensor, diagonal: bool) -> tuple[Tensor, ...]:
    return _matched(u, v, x @ y.mT, angles=True, diagonal=diagonal)
