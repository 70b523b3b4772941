"""Pairs of neurons that are near each other, computed from their differences in float64."""

import torch
from torch import Tensor

from .cosines import directions
from .potential import Potential
from .terms import Terms

NEAR = 0.01  # 1 - c of pairs that are near: their cosines in float32 would be right to 4e-5 of this, in 1 / z
MANY = 1 << 23  # the most numbers of such pairs' rows; cosines in float64 take less time then
CHUNK = 1 << 18  # as many at a time


class TooManyError(Exception):
    """So many pairs are near that to list them takes too long."""


def near_pairs(c: Tensor, potential: Potential) -> Tensor | None:
    """Which of these cosines [B, n, m] are near a pole of the potential; None if none is."""
    both = potential.half_space or potential.geodesic
    low, high = c.aminmax() if both and c.numel() else (None, c.amax() if c.numel() else None)
    if high is None or (high <= 1 - NEAR and (low is None or low >= NEAR - 1)):
        return None
    return (c.abs() if both else c) > 1 - NEAR


def any_near(w: Tensor, potential: Potential) -> bool:
    """Whether any two neurons of a set of w [..., N, d] are near each other."""
    u = directions(w)
    rows = max(1, CHUNK // (u[..., 0].numel() or 1))
    for start in range(0, u.shape[-2], rows):
        c = u[..., start : start + rows, :] @ u[..., start:, :].mT
        c.diagonal(0, -2, -1).zero_()
        if near_pairs(c, potential) is not None:
            return True
    return False


class NearPairs:
    r"""Energies and pushes of listed pairs: nothing cancels, however near they are.

    With :math:`\delta = u_j - u_i` the squared distance is :math:`z = |\delta|^2 + (1 - |u_i|^2) + (1 - |u_j|^2)`, and
    what turns neuron i is :math:`u_j - c\, u_i = \delta + (1 - c) u_i`; 1 - c is z / 2. Where c < 0, this is done with
    the negative of neuron j.
    """

    def __init__(self, w: Tensor, terms: Terms, v: Tensor | None = None) -> None:
        """Neurons ``w`` [B, N, d]; with ``v`` of the same shape, derivatives along it as well."""
        self._w, self._terms, self._v = w, terms, v
        self._energy = w.new_zeros(len(w), dtype=torch.float64)
        self._pushes: list[Tensor] = []
        self._count = 0

    def add(self, mask: Tensor, i: int = 0, j: int = 0) -> None:
        """Add the pairs of a block [B, n, m] that begins with the neurons i and j."""
        pairs = mask.nonzero()
        pairs[:, 1:] += torch.tensor((i, j))
        self._count += len(pairs) * self._w.shape[-1]
        if self._count > MANY:
            raise TooManyError
        for chunk in pairs.split(max(1, CHUNK // self._w.shape[-1])):
            self._add(*chunk.unbind(-1))

    def energy(self) -> Tensor:
        """Sums of phi over the pairs, [B]."""
        return self._energy.to(self._w.dtype)

    def gradient(self) -> Tensor:
        """The gradient of the pairs' energies in the neurons, [B, N, d]."""
        return self._pushes[0].view_as(self._w) if self._pushes else torch.zeros_like(self._w)

    def curvature(self) -> Tensor:
        """The derivative along ``v`` of the gradient times n_i, as far as it does not come from n_i."""
        return self._pushes[1].view_as(self._w) if self._pushes else torch.zeros_like(self._w)

    def _add(self, sets: Tensor, i: Tensor, j: Tensor) -> None:
        terms, dtype = self._terms, self._terms.dtype(self._w)
        rows = [self._w[sets, k].double() for k in (i, j)]
        both = [terms.lengths(row.square().sum(-1)) for row in rows]
        a, b = (row * one.inverse[:, None] for row, one in zip(rows, both, strict=True))
        sign = torch.where((a * b).sum(-1) < 0, -1.0, 1.0).double()
        b = b * sign[:, None]
        delta = b - a
        z = delta.square().sum(-1)
        for one in both:
            z = z if one.lack is None else z + one.lack
        value, slope, *bend = self._derivatives(z, sign, dtype)
        self._energy.index_add_(0, sets, value)
        rests = [z / 2 if one.radial is None else 1 - one.radial * (1 - z / 2) for one in both]
        flat = sets * self._w.shape[-2]
        if not self._pushes:
            self._pushes = [torch.zeros_like(self._w).flatten(0, 1) for _ in range(1 if self._v is None else 2)]
        turns = delta + rests[0][:, None] * a, rests[1][:, None] * b - delta
        self._push(0, flat, (i, j), (slope * both[0].inverse, slope * both[1].inverse * sign), turns)
        if self._v is None:
            return
        changes, twists = [], []
        for k, u, one, factor in ((i, a, both[0], None), (j, b, both[1], sign)):
            v = self._v[sets, k].double()
            v = v if factor is None else v * factor[:, None]
            along = (u * v).sum(-1)
            changes.append((v - one.along(along)[:, None] * u) * one.inverse[:, None])
            twists.append(along * one.inverse * one.rest(1 - one.lack) if one.lack is not None else 0.0)
        dc = ((changes[0] - changes[1]) * delta).sum(-1) + twists[0] + twists[1]
        apart = changes[1] - changes[0]
        moved = []
        for turn, other, own, u, rest, one in zip(turns, (apart, -apart), changes, (a, b), rests, both, strict=True):
            straight = other + rest[:, None] * own - one.along(dc)[:, None] * u
            moved.append((bend[0] * dc)[:, None] * turn + slope[:, None] * straight)
        self._push(1, flat, (i, j), (torch.ones_like(sign), sign), moved)

    def _derivatives(self, z: Tensor, sign: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """phi and its derivatives in the cosine of the neurons that were brought to the same side."""
        order = 1 if self._v is None else 2
        parallel = self._terms.parallel_below(self._w)
        found = self._terms.potential.derivatives(z, dtype, order, parallel=parallel)
        if self._terms.potential.half_space or not self._terms.potential.geodesic:
            return found
        other = self._terms.potential.derivatives(z, dtype, order, opposite=True, parallel=parallel)
        return [torch.where(sign < 0, b, a) for a, b in zip(found, other, strict=True)]

    def _push(self, which: int, flat: Tensor, ends, factors, turns) -> None:
        for k, factor, turn in zip(ends, factors, turns, strict=True):
            self._pushes[which].index_add_(0, flat + k, (factor[:, None] * turn).to(self._w.dtype))
