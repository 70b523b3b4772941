"""The second derivative of the pair sums, as a product with a vector."""

import torch
from torch import Tensor

from .near import NearPairs, TooManyError, near_pairs
from .sums import block_size, can_branch, exact_derivatives, terms_of
from .terms import Lengths, Terms, antipodes


def curvature(w: Tensor, v: Tensor, terms: Terms) -> Tensor:
    r"""The derivative of the pair sums' gradient in the neurons w [B, N, d] along v [B, N, d].

    With directions u, their change t along v, slopes F and bends F' of the potential, the gradient and its change are

    .. math::
        g_i = \frac{a_i - \langle u_i, a_i \rangle u_i}{n_i}, \quad a = F u, \qquad
        \dot g_i = \frac{\dot a_i - (\langle t_i, a_i \rangle + \langle u_i, \dot a_i \rangle) u_i
        - \langle u_i, a_i \rangle t_i - \langle u_i, v_i \rangle g_i}{n_i}, \quad
        \dot a = (F' \circ \dot c)\, u + F t

    where the terms in which u_i multiplies something are those of the length, which a short neuron does not have.
    """
    if can_branch(w):
        try:
            return _curvature(w, v, terms, listed=True)
        except TooManyError:
            pass
    return _curvature(w.double(), v.double(), terms_of(w, terms), listed=False).to(w.dtype)


def _curvature(w: Tensor, v: Tensor, terms: Terms, listed: bool) -> Tensor:
    lengths = terms.lengths((w * w).sum(-1), listed)
    inverse = lengths.inverse[..., None]
    u = w * inverse
    along = lengths.along((u * v).sum(-1))[..., None]
    t = (v - along * u) * inverse
    near, masks = NearPairs(w, terms, v), False
    pushes, changes = [], []
    rows = max(1, block_size(w) // max(1, w.shape[0] * w.shape[1]))
    for start in range(0, w.shape[1], rows):
        block = slice(start, start + rows)
        c = u[:, block] @ u.mT
        dc = torch.baddbmm(t[:, block] @ u.mT, u[:, block], t.mT)
        c.diagonal(start, -2, -1).zero_()
        mask: Tensor | None = None
        if listed:
            mask = near_pairs(c, terms.potential)
            if mask is not None:
                near.add(mask.triu(start + 1), start)
                c.masked_fill_(mask, 0)
                masks = True
            _, slope, bend = terms.potential.derivatives(2 - 2 * c, terms.dtype(w), 2)
        else:
            _, slope, bend = exact_derivatives(c, terms, 2)
        for factor in (slope, bend):
            factor.diagonal(start, -2, -1).zero_()
            if mask is not None:
                factor.masked_fill_(mask, 0)
        pushes.append(slope @ u)
        changes.append(torch.baddbmm(slope @ t, bend.mul_(dc), u))
    a, da = torch.cat(pushes, 1), torch.cat(changes, 1)
    radial = lengths.along((u * a).sum(-1))[..., None]
    turning = lengths.along((t * a + u * da).sum(-1))[..., None]
    gradient, moved = (a - radial * u) * inverse, da - turning * u - radial * t
    if masks:
        gradient, moved = gradient + near.gradient(), moved + near.curvature()
    found = (moved - along * gradient) * inverse
    if lengths.lack is not None and terms.potential.half_space:
        found += _outward_change(u, v, t, along, lengths, terms, w)
    return found


def _outward_change(
    u: Tensor, v: Tensor, t: Tensor, along: Tensor, lengths: Lengths, terms: Terms, w: Tensor
) -> Tensor:
    """What short neurons and their negatives add. Their gradient is -2 f' (1 - radial |u|^2) u / n."""
    _, slope, bend = (x[..., None] for x in antipodes(lengths, terms.potential, terms.dtype(w), 2))
    assert lengths.lack is not None
    rest, inverse = lengths.rest(1 - lengths.lack)[..., None], lengths.inverse[..., None]
    twice = 2 * (u * t).sum(-1, keepdim=True)
    radial = 1.0 if lengths.radial is None else lengths.radial[..., None]
    factor = -bend * twice * rest - slope * radial * twice - slope * rest * along * inverse
    return -2 * inverse * (factor * u + slope * rest * t)
