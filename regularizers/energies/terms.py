"""Which pairs are summed, and which length a neuron counts with."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import Precision
from .cosines import inverse_norms
from .potential import Potential


@dataclass(frozen=True)
class Terms:
    r"""The potential of a pair, and the lengths :math:`n_i = \max(\sqrt{|w_i|^2 + \mathrm{eps}}, \mathrm{min\_norm})`.

    ``rows`` is the type whose rounding the neurons have, if they were converted to a wider one since; ``parallel`` a
    squared distance that their own computation may have made of nothing.
    """

    potential: Potential
    eps: float = 0.0
    min_norm: float = 0.0
    rows: torch.dtype | None = None
    parallel: float = 0.0
    precision: Precision = "fp32"

    def dtype(self, w: Tensor) -> torch.dtype:
        """The type whose rounding the neurons have."""
        return self.rows or w.dtype

    def parallel_below(self, w: Tensor) -> float:
        """The squared distance below which neurons count as parallel."""
        return max(self.potential.parallel(self.dtype(w)), self.parallel)

    def lengths(self, squared: Tensor, branching: bool = True) -> "Lengths":
        """From squared norms [..., N]; ``branching``: whether to look if there is anything to do for short neurons."""
        lengthened = squared + self.eps if self.eps else squared
        inverse = inverse_norms(lengthened, self.rows)
        short = lengthened < self.min_norm**2
        if not (self.min_norm and (not branching or bool(short.any()))):
            lack = self.eps * inverse * inverse if self.eps else None
            return Lengths(inverse, None, lack if lack is None else lack.where(inverse > 0, 1.0))
        inverse = inverse.masked_fill(short, 1 / self.min_norm)
        lack = torch.where(short, 1 - squared * inverse * inverse, self.eps * inverse * inverse)
        return Lengths(inverse, (~short).to(inverse.dtype), lack.where(inverse > 0, 1.0))


def projection_error(w: Tensor) -> float:
    """The squared distance that the rounding of a product makes of that of parallel rows, in the precision of ``w``."""
    return ((256 if w.dtype == torch.float64 else 32) * torch.finfo(w.dtype).eps) ** 2


class Lengths(NamedTuple):
    """Of neurons [..., N]: with :math:`u_i = w_i / n_i`, what their derivatives need.

    ``inverse`` 1 / n_i, 0 for a neuron without direction; ``radial`` 1 where n_i goes with the length, 0 where it is
    min_norm, None for all ones; ``lack`` 1 - \\|u_i\\|^2, None for all zeros.
    """

    inverse: Tensor
    radial: Tensor | None
    lack: Tensor | None

    def along(self, x: Tensor) -> Tensor:
        """x [..., N] where the length of the neuron counts, else 0."""
        return x if self.radial is None else x * self.radial

    def rest(self, c: Tensor) -> Tensor:
        """1 - radial c."""
        return 1 - c if self.radial is None else 1 - self.radial * c


def antipodes(lengths: Lengths, potential: Potential, dtype: torch.dtype, order: int) -> list[Tensor]:
    r"""f(-|u_i|^2) less its value at length 1, and its derivatives in -|u_i|^2, [..., N]; 0 at length 1.

    A neuron of length 1 is opposite to its negative. That of a short one is nearer to it.
    """
    assert lengths.lack is not None
    away = lengths.lack > 0
    found = potential.point(4 - 2 * lengths.lack, dtype, order)
    found[0] = found[0] - potential.antipodal
    return [(d * (-2) ** n).where(away, 0.0) for n, d in enumerate(found)]
