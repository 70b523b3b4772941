"""How a layer's neurons lie on the sphere, in a few numbers."""

import math
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from comhe.errors import UsageError

from .energies.blocks import upper_blocks
from .energies.checks import as_sets, check_neurons, float64, upcast
from .energies.cosines import directions
from .energies.energy import hyperspherical_energy

ROWS = 2048  # rows of a matrix that are in float64 at a time
TITLES = ("energy", "half-space", "smallest °", "mean °", "coherence", "eff. rank", "dead")


@dataclass(frozen=True)
class Diagnostics:
    """Numbers of one matrix of neurons: energies with s = 2, angles of pairs in degrees (0 to 180), coherence (the
    largest absolute cosine), the effective rank, and how many neurons are dead: of a norm of 0, or below 1e-3 of the
    median."""

    energy: float
    half_space_energy: float
    smallest_angle: float
    mean_angle: float
    coherence: float
    effective_rank: float
    dead: int

    def cells(self) -> list[str]:
        """The numbers as text, in the order of :data:`TITLES`."""
        return [str(value) if isinstance(value, int) else f"{value:.4g}" for value in vars(self).values()]


@torch.no_grad()
def diagnose(w: Tensor) -> Diagnostics:
    """Diagnostics of neurons [..., N, d]; over several sets the mean, the smallest angle, the largest coherence.

    If any entry is infinite or NaN, all but the number of dead neurons are NaN.

    Pairs are looked at by blocks: no N x N matrix is ever whole. The smallest angle is that of the pair with the
    largest cosine, from the difference of the two directions: right to 1e-7 radians in float32, where the arccosine is
    right to 3e-4 near 0.

    Example:
        >>> round(diagnose(torch.eye(3)).mean_angle)
        90
    """
    check_neurons(w)
    if w.is_meta:
        raise UsageError(f"neurons {list(w.shape)} on the meta device have no numbers to diagnose; load them first")
    w = as_sets(upcast(w))
    norms = torch.linalg.vector_norm(w, dim=-1)
    dead = int(((norms < 1e-3 * norms.median(-1, keepdim=True).values) | (norms == 0)).sum())
    if not bool(w.isfinite().all()):
        return Diagnostics(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, dead)
    u, n = directions(w), w.shape[-2]
    nearest, coherence, angles, least = -math.inf, 0.0, 0.0, 0.0
    for start, c in upper_blocks(u):
        pairs = c.new_ones(c.shape[-2:], dtype=torch.bool).triu_(1)
        angles += float(c.clamp(-1, 1).acos_().mul_(pairs).sum())
        coherence = max(coherence, float(c.masked_fill(~pairs, 0).abs_().amax()))
        c.masked_fill_(~pairs, -math.inf)
        if float(c.amax()) > nearest:
            nearest = float(c.amax())
            batch, i, j = (int(index) for index in torch.unravel_index(c.argmax(), c.shape))
            least = _angle(u[batch, start + i], u[batch, start + j])
    return Diagnostics(
        energy=float(hyperspherical_energy(w, 2).mean()),
        half_space_energy=float(hyperspherical_energy(w, 2, half_space=True).mean()),
        smallest_angle=math.degrees(least),
        mean_angle=math.degrees(angles / (len(w) * n * (n - 1) / 2)),
        coherence=min(coherence, 1.0),
        effective_rank=float(effective_rank(w).mean()),
        dead=dead,
    )


def effective_rank(w: Tensor) -> Tensor:
    r"""Effective rank :math:`\exp(-\sum_i p_i \log p_i)`, :math:`p_i = \sigma_i / \sum_j \sigma_j`.

    From the eigenvalues of the smaller Gram matrix in float64: singular values are right to 1e-8 of the largest, and
    memory goes with the square of min(N, d). They are computed on the CPU also if the matrix is on a GPU, which gains
    nothing from steps that follow one another.

    Shape: ``[..., N, d] -> [...]``; between 1 and min(N, d), 0 for a zero matrix, NaN for one that is not finite.

    Example:
        >>> effective_rank(torch.eye(3, 5))
        tensor(3.)

    Source: Roy & Vetterli, *The Effective Rank: a Measure of Effective Dimensionality*, EUSIPCO 2007.
    """
    w = upcast(w)
    x = w if w.shape[-2] >= w.shape[-1] else w.mT
    x = x / x.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)  # squares overflow otherwise
    gram = reduce(torch.add, (rows.mT @ rows for rows in map(float64, x.split(ROWS, -2))))
    finite = x.isfinite().all(-1).all(-1)
    gram = gram.where(finite[..., None, None].to(gram.device), 0)  # the eigenvalues of anything else do not exist
    values = torch.linalg.eigvalsh(gram.cpu() if gram.is_cuda else gram)
    values = values.clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    total = values.sum(-1, keepdim=True)
    rank = torch.special.entr(values / total).sum(-1).exp().to(w)
    return torch.where(x.any(-1).any(-1), rank, 0).where(finite, math.nan)


def _angle(u: Tensor, v: Tensor) -> float:
    """The angle between two directions, in radians: as precise at 0 and pi as anywhere."""
    return 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))
