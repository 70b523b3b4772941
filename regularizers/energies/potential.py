"""Potentials: the energy of one pair of neurons as a function of the cosine between them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from comhe.errors import UsageError

GEODESIC_OFFSET = 1e-4  # the released code's; keeps 1/angle finite at angle 0


@dataclass(frozen=True)
class Potential:
    r"""Energy :math:`\phi(c)` of an unordered pair with cosine :math:`c`, and its derivative.

    With :math:`f` the potential of one pair of points,

    .. math::
        f(c) &= (2 - 2c)^{-s/2} \ (s > 0), \qquad -\log(2 - 2c) \ (s = 0) \\
        f(c) &= a^{-s} \ (s > 0), \qquad -\log a \ (s = 0), \qquad a = \arccos(c)/\pi + 10^{-4} \ \text{(geodesic)}

    the full space has :math:`\phi(c) = f(c)`. In the half space every neuron brings its negative along, so a pair of
    neurons stands for four pairs of points: :math:`\phi(c) = 2 f(c) + 2 f(-c)`, for s = 2 just :math:`2 / (1 - c^2)`.

    Squared distances below :meth:`floor` count as the floor in the value *and* in the derivative, which is therefore
    not zero there but the largest there is: the pairs that matter most keep being pushed apart.
    """

    s: float = 2.0
    geodesic: bool = False
    half_space: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.s, int | float) and math.isfinite(self.s) and self.s >= 0):
            raise UsageError(f"s must be a finite number >= 0, not {self.s!r}; the usual choices are 0, 1 and 2")

    def floor(self, dtype: torch.dtype) -> float:
        """Smallest squared distance that counts: the rounding of 2 - 2c, more where derivatives would overflow."""
        limits = torch.finfo(dtype)
        return max(8 * limits.eps, limits.max ** (-0.5 / (self.s / 2 + 1)))

    def pairs(self, neurons: int) -> int:
        """Number of unordered pairs that the mean runs over."""
        return neurons * (2 * neurons - 1) if self.half_space else neurons * (neurons - 1) // 2

    def value(self, c: Tensor) -> Tensor:
        """phi(c), elementwise."""
        if not self.half_space:
            return self.point(c)
        if self.geodesic or self.s not in (0, 2):
            return 2 * (self.point(c) + self.point(-c))
        q = (1 - c * c).clamp_min(self.floor(c.dtype))
        return 2 / q if self.s == 2 else -2 * (4 * q).log()

    def slope(self, c: Tensor) -> Tensor:
        """d phi / d c, elementwise; differentiable once more away from the floor."""
        if not self.half_space:
            return self.point_slope(c)
        if self.geodesic or self.s not in (0, 2):
            return 2 * (self.point_slope(c) - self.point_slope(-c))
        q = (1 - c * c).clamp_min(self.floor(c.dtype))
        return 4 * c / (q * q) if self.s == 2 else 4 * c / q

    def sum_and_slope(
        self, c: Tensor, out: Tensor | None = None, with_gradient: bool = True
    ) -> tuple[Tensor, Tensor | None, float]:
        """Sums of phi over matrices of cosines, and d phi / d c as a matrix and a factor; not differentiable.

        For s = 2 in few passes over the matrix, which is where the time goes, and in ``out`` if that is given.
        """
        if not with_gradient:
            return self.value(c).sum((-2, -1)), None, 1.0
        if self.s != 2 or self.geodesic:
            return self.value(c).sum((-2, -1)), self.slope(c), 1.0
        floor = self.floor(c.dtype)
        if self.half_space:  # phi = 2 / (1 - c^2), slope = 4 c / (1 - c^2)^2
            inverse = torch.addcmul(c.new_ones(()), c, c, value=-1, out=out).clamp_min_(floor).reciprocal_()
            return inverse.sum((-2, -1)).mul_(2), inverse.square_().mul_(c), 4.0
        inverse = torch.mul(c, -2, out=out).add_(2).clamp_min_(floor).reciprocal_()
        return inverse.sum((-2, -1)), inverse.square_(), 2.0

    @property
    def orthogonal(self) -> float:
        """phi(0): the energy of two orthogonal neurons."""
        return (4 if self.half_space else 1) * self._constant(0.5 if self.geodesic else 2.0)

    @property
    def antipodal(self) -> float:
        """f(-1): the energy of a point and its negative."""
        return self._constant(1.0 if self.geodesic else 4.0)

    def _constant(self, distance: float) -> float:
        """f at an angle in units of pi (geodesic) or a squared distance."""
        distance, power = (distance + GEODESIC_OFFSET, self.s) if self.geodesic else (distance, self.s / 2)
        return -math.log(distance) if self.s == 0 else distance**-power

    def point(self, c: Tensor) -> Tensor:
        """f(c): one pair of points."""
        floor = self.floor(c.dtype)
        if self.geodesic:
            edge = 1 - floor / 2
            a = self._angle(c.clamp(-1, edge))
            return -a.log() if self.s == 0 else a.pow(-self.s)
        squared = (2 - 2 * c).clamp_min(floor)
        return -squared.log() if self.s == 0 else squared.pow(-self.s / 2)

    def point_slope(self, c: Tensor) -> Tensor:
        """d f / d c: one pair of points."""
        floor = self.floor(c.dtype)
        if self.geodesic:
            edge = 1 - floor / 2
            c = c.clamp(-edge, edge)
            a = self._angle(c)
            da = -1 / (math.pi * (1 - c * c).sqrt())
            return -da / a if self.s == 0 else -self.s * a.pow(-self.s - 1) * da
        squared = (2 - 2 * c).clamp_min(floor)
        return 2 / squared if self.s == 0 else self.s * squared.pow(-self.s / 2 - 1)

    def _angle(self, c: Tensor) -> Tensor:
        """Angle in units of pi plus the released code's offset, and more only where a^-(s+1) would overflow."""
        return (c.acos() / math.pi + GEODESIC_OFFSET).clamp_min(torch.finfo(c.dtype).max ** (-1 / (self.s + 4)))
