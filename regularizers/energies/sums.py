"""Sums of the potential over all pairs of neurons, and their gradient, by ordinary tensor operations."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .cosines import gram, scale_pairs
from .near import NearPairs, TooManyError, near_pairs
from .potential import Potential
from .terms import Lengths, Terms, antipodes
from .transforms import is_batched

BLOCK = 1 << 19  # cosines in memory at a time: few enough to stay in the cache
BRANCHING = ("cpu",)  # devices where nothing waits for a number
SIDE = 128  # the fewest neurons on a side of such a block, unless there are fewer


class Sums(NamedTuple):
    """Pair sums [B] of neurons [B, N, d], and their gradient: G, or M with G = M W where that is smaller."""

    energy: Tensor
    gradient: Tensor | None
    is_product: bool = True
    near: bool = False

    def product(self, w: Tensor) -> Tensor | None:
        """G."""
        return self.gradient if self.gradient is None or self.is_product else self.gradient @ w


def pair_sums(w: Tensor, terms: Terms, with_gradient: bool, tall: bool) -> Sums:
    """Sums of phi over the pairs i < j of neurons [B, N, d], which are computed in blocks if ``tall``.

    On a CPU, pairs that are near each other are listed and computed from their differences. Elsewhere, and where that
    would be too long a list, all cosines are computed in float64.
    """
    if can_branch(w):
        try:
            return _tall(w, terms, with_gradient) if tall else _wide(w, terms, with_gradient)
        except TooManyError:
            pass
    wide = w.double()
    energy, gradient, *_ = _tall(wide, terms_of(w, terms), with_gradient, listed=False)
    return Sums(energy.to(w.dtype), gradient if gradient is None else gradient.to(w.dtype), near=True)


def joined(parts: Sequence[Sums]) -> Sums:
    """The sums of all sets, from those of some."""
    if len(parts) == 1:
        return parts[0]
    gradients = [part.gradient for part in parts if part.gradient is not None]
    gradient = torch.cat(gradients) if gradients else None
    return Sums(torch.cat([part.energy for part in parts]), gradient, near=any(part.near for part in parts))


def can_branch(w: Tensor) -> bool:
    """Whether a number of the neurons may decide what is computed: not in a CUDA graph, a compiled one, nor in vmap."""
    return w.device.type in BRANCHING and not torch.compiler.is_compiling() and not is_batched(w)


def terms_of(w: Tensor, terms: Terms) -> Terms:
    """The same terms for neurons that are about to be converted to float64."""
    return replace(terms, rows=terms.dtype(w))


def exact_derivatives(c: Tensor, terms: Terms, order: int) -> list[Tensor]:
    """phi and its derivatives at cosines in float64, parallel where they cannot tell."""
    parallel = max(terms.parallel_below(c), 64 * torch.finfo(c.dtype).eps)
    return terms.potential.derivatives(2 - 2 * c, terms.dtype(c), order, parallel=parallel)


def _wide(w: Tensor, terms: Terms, with_gradient: bool) -> Sums:
    """For few neurons, N <= d: all but one product happens on [N, N]."""
    potential = terms.potential
    c = gram(w)
    diagonal = c.diagonal(dim1=-2, dim2=-1)
    lengths = terms.lengths(diagonal)
    diagonal.zero_()
    scale = scale_pairs(c, lengths.inverse)
    near, mask = NearPairs(w, terms), near_pairs(c, potential)
    if mask is not None:
        near.add(mask.triu(1))
        c.masked_fill_(mask, 0)
    total, slope, factor = potential.sum_and_slope(c, with_gradient=with_gradient)
    energy = _unordered(total, c.shape[-1], mask, potential) + near.energy()
    if slope is None:
        return Sums(_with_antipodes(energy, lengths, terms, w), None)
    if mask is not None:
        slope.masked_fill_(mask, 0)
    inverse = lengths.inverse
    radial = lengths.along(c.mul_(slope).sum(-1)).mul_(inverse).mul_(inverse)
    slope.mul_(scale).diagonal(dim1=-2, dim2=-1).copy_(radial.neg_())
    bound = torch.finfo(w.dtype).max / 4  # neighbors with norms near the smallest number: no infinities to cancel
    slope.mul_(factor).clamp_(-bound, bound)
    if lengths.lack is not None and potential.half_space:
        slope.diagonal(dim1=-2, dim2=-1).add_(_outward(lengths, terms, w) * inverse)
    energy = _with_antipodes(energy, lengths, terms, w)
    if mask is None:
        return Sums(energy, slope, is_product=False)
    return Sums(energy, slope @ w + near.gradient(), near=True)


def _tall(w: Tensor, terms: Terms, with_gradient: bool, listed: bool = True) -> Sums:
    """For N > d or large N: norms and the sums over rows are computed on [N, d].

    Cosines are computed in square blocks on and above the diagonal, in the same memory: fresh memory costs more.
    """
    batch, n, _ = w.shape
    potential = terms.potential
    side = math.ceil(n / max(1, math.ceil(n * math.sqrt(batch / block_size(w)))))
    lengths = terms.lengths((w * w).sum(-1), listed)
    inverse = lengths.inverse[..., None, :]
    # Neurons are columns here, in whichever order memory has them.
    units = [block * scale for block, scale in zip(w.mT.split(side, -1), inverse.split(side, -1), strict=True)]
    pushes = [torch.zeros_like(block) for block in units] if with_gradient else []
    energy, factor = w.new_zeros(batch), 1.0
    memory = w.new_empty(2, batch * side * side)
    near, any_near = NearPairs(w, terms), False
    for i, a in enumerate(units):
        for j, b in enumerate(units[i:], start=i):
            shape = batch, a.shape[-1], b.shape[-1]
            c, spare = memory[:, : math.prod(shape)].view(2, *shape)
            torch.bmm(a.mT, b, out=c)
            if i == j:
                c.diagonal(dim1=-2, dim2=-1).zero_()
            mask: Tensor | None = None
            slope: Tensor | None
            if listed:
                mask = near_pairs(c, potential)
                if mask is not None:
                    near.add(mask.triu(1) if i == j else mask, side * i, side * j)
                    c.masked_fill_(mask, 0)
                    any_near = True
                total, slope, factor = potential.sum_and_slope(c, spare, with_gradient)
            else:
                value, *rest = exact_derivatives(c, terms, int(with_gradient))
                total, slope = value.sum((-2, -1)), rest[0] if rest else None
            total = _unordered(total, c.shape[-1] if i == j else 0, mask, potential)
            energy += total
            if slope is not None:
                if mask is not None:
                    slope.masked_fill_(mask, 0)
                if i == j:
                    slope.diagonal(dim1=-2, dim2=-1).zero_()
                else:
                    pushes[j].baddbmm_(a, slope)
                pushes[i].baddbmm_(b, slope.mT)
    energy = _with_antipodes(energy + near.energy(), lengths, terms, w)
    if not with_gradient:
        return Sums(energy, None, near=any_near)
    # What pushes along a neuron does not turn it.
    radial = [None] * len(units) if lengths.radial is None else lengths.radial[..., None, :].split(side, -1)
    for push, u, along in zip(pushes, units, radial, strict=True):
        length = (push * u).sum(-2, keepdim=True)
        push.addcmul_(u, length if along is None else length * along, value=-1)
    gradient = torch.cat(pushes, -1).mul_(inverse * factor)
    if lengths.lack is not None and potential.half_space:
        gradient += _outward(lengths, terms, w)[..., None, :] * torch.cat(units, -1)
    return Sums(energy, gradient.mT + near.gradient() if any_near else gradient.mT, near=any_near)


def block_size(w: Tensor) -> int:
    """How many cosines are in memory at a time."""
    return BLOCK if w.is_cpu else BLOCK << 6  # a GPU wants more to do at a time


def _unordered(total: Tensor, n: int, mask: Tensor | None, potential: Potential) -> Tensor:
    """Sums over i < j from those over all entries of a matrix with phi(0) on its diagonal of n and where masked."""
    count = n if mask is None else mask.sum((-2, -1)) + n
    total = total - count * potential.orthogonal if n or mask is not None else total
    return total * 0.5 if n else total


def _with_antipodes(energy: Tensor, lengths: Lengths, terms: Terms, w: Tensor) -> Tensor:
    if lengths.lack is None or not terms.potential.half_space:
        return energy
    return energy + antipodes(lengths, terms.potential, terms.dtype(w), 0)[0].sum(-1)


def _outward(lengths: Lengths, terms: Terms, w: Tensor) -> Tensor:
    """The factors [B, N] of the directions u in the gradient of the energies between neurons and their negatives."""
    assert lengths.lack is not None
    slope = antipodes(lengths, terms.potential, terms.dtype(w), 1)[1]
    return -2 * slope * lengths.rest(1 - lengths.lack) * lengths.inverse
