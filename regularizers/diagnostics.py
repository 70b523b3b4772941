"""How a layer's neurons lie on the sphere, in a few numbers."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .energies.checks import as_sets, check_neurons, upcast
from .energies.cosines import cosines
from .energies.energy import hyperspherical_energy

TITLES = ("energy", "half-space", "smallest °", "mean °", "coherence", "eff. rank", "dead")


@dataclass(frozen=True)
class Diagnostics:
    """Numbers of one matrix of neurons: energies with s = 2, angles of pairs in degrees (0 to 180), coherence (the
    largest |cosine|), the effective rank, and how many neurons are dead: of a norm below 1e-3 of the median norm."""

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

    Example:
        >>> round(diagnose(torch.eye(3)).mean_angle)
        90
    """
    check_neurons(w)
    w = as_sets(upcast(w))
    c = cosines(w).clamp(-1, 1)
    upper = torch.triu_indices(c.shape[-2], c.shape[-1], offset=1, device=w.device)
    c = c[:, upper[0], upper[1]]
    norms = torch.linalg.vector_norm(w, dim=-1)
    return Diagnostics(
        energy=float(hyperspherical_energy(w, 2).mean()),
        half_space_energy=float(hyperspherical_energy(w, 2, half_space=True).mean()),
        smallest_angle=math.degrees(float(c.amax().acos())),
        mean_angle=math.degrees(float(c.acos().mean())),
        coherence=float(c.abs().amax()),
        effective_rank=float(effective_rank(w).mean()),
        dead=int((norms < 1e-3 * norms.median(-1, keepdim=True).values).sum()),
    )


def effective_rank(w: Tensor) -> Tensor:
    r"""Effective rank :math:`\exp(-\sum_i p_i \log p_i)`, :math:`p_i = \sigma_i / \sum_j \sigma_j`.

    Shape: ``[..., N, d] -> [...]``; between 1 and min(N, d), 0 for a zero matrix.

    Example:
        >>> effective_rank(torch.eye(3, 5))
        tensor(3.)

    Source: Roy & Vetterli, *The Effective Rank: a Measure of Effective Dimensionality*, EUSIPCO 2007.
    """
    values = torch.linalg.svdvals(upcast(w))
    total = values.sum(-1, keepdim=True)
    p = values / total.clamp_min(torch.finfo(values.dtype).tiny)
    return torch.where(total[..., 0] > 0, torch.special.entr(p).sum(-1).exp(), 0)
