"""Potentials: the energy of one pair of neurons as a function of the squared distance between them."""

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from comhe.errors import UsageError

GEODESIC_OFFSET = 1e-4  # the released code's; keeps 1/angle finite at angle 0


@dataclass(frozen=True)
class Potential:
    r"""Energy :math:`\phi` of an unordered pair with cosine c and squared distance z = 2 - 2c, and its derivatives.

    With :math:`f` the potential of one pair of points,

    .. math::
        f(z) &= z^{-s/2} \ (s > 0), \qquad -\log z \ (s = 0) \\
        f(z) &= a^{-s} \ (s > 0), \qquad -\log a \ (s = 0), \qquad a = \arccos(1 - z/2)/\pi + 10^{-4} \
        \text{(geodesic)}

    the full space has :math:`\phi = f(z)`. In the half space every neuron brings its negative along, so a pair of
    neurons stands for four pairs of points: :math:`\phi = 2 f(z) + 2 f(4 - z)`, for s = 2 just :math:`2 / (1 - c^2)`.

    Below :meth:`floor`, f goes on along its tangent. So value and derivative agree everywhere, and the gradient of a
    pair is the true one down to that distance, where it is largest: at most :math:`s\,\mathrm{floor}^{-(s+1)/2}` (in
    the half space twice that) over the neuron's length. From there on it falls to zero in proportion to the angle. It
    *is* zero where two rows differ by no more than the rounding of their own numbers; see :meth:`parallel`. Geodesic
    potentials, whose slope in c has no limit at an angle of 180 degrees either, have a tangent at that end too.
    """

    s: float = 2.0
    geodesic: bool = False
    half_space: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.s, Real) and math.isfinite(self.s) and self.s >= 0):
            raise UsageError(f"s must be a finite number >= 0, not {self.s!r}; the usual choices are 0, 1 and 2")
        if type(self.s) not in (int, float):  # NumPy's numbers take products with tensors for their own
            object.__setattr__(self, "s", float(self.s))

    def floor(self, dtype: torch.dtype) -> float:
        """The squared distance below which f is its tangent, for rows of this type.

        About 1e-6 in float32 (an angle of 1e-3), since it bounds what a step can do; 1e-18 in float64, for those who
        want the truth; more where the slope would overflow.
        """
        most = torch.finfo(dtype).max
        least = 1e-18 if dtype == torch.float64 else 8 * torch.finfo(dtype).eps
        if self.geodesic:
            angle = max(0.0, most ** (-1 / (self.s + 4)) - GEODESIC_OFFSET)
            return max(least, 4 * math.sin(math.pi / 2 * min(angle, 0.5)) ** 2)
        return max(least, most ** (-0.5 / (self.s / 2 + 1)))

    def parallel(self, dtype: torch.dtype) -> float:
        """The squared distance below which rows of this type count as parallel.

        An angle of 4 eps, which is what a few roundings make of one row and its multiple; of 16 eps in float64, whose
        angles are computed in float64 themselves.
        """
        return ((16 if dtype == torch.float64 else 4) * torch.finfo(dtype).eps) ** 2

    def pairs(self, neurons: int) -> int:
        """Number of unordered pairs that the mean runs over."""
        return neurons * (2 * neurons - 1) if self.half_space else neurons * (neurons - 1) // 2

    def derivatives(
        self, z: Tensor, dtype: torch.dtype, order: int, *, opposite: bool = False, parallel: float = 0.0
    ) -> list[Tensor]:
        """phi and its derivatives in c = 1 - z/2 up to ``order`` (at most 2), elementwise.

        Args:
            z: squared distances, possibly computed in a higher precision than the rows have.
            dtype: of the rows, which has a floor.
            order: of the last derivative.
            opposite: z and c are those of one neuron and the negative of the other.
            parallel: closer than this to where phi has a pole, derivatives are zero.
        """
        found = self.point(z, dtype, order, opposite=opposite)
        if self.half_space:
            other = self.point(z, dtype, order, opposite=not opposite)
            found = [2 * (a + b) for a, b in zip(found, other, strict=True)]
        scaled = [d * (-2) ** n for n, d in enumerate(found)]
        if parallel:
            most = 4 - parallel if self.half_space or self.geodesic else torch.inf
            scaled[1:] = [d * ((z >= parallel) & (z <= most)) for d in scaled[1:]]
        return scaled

    def point(self, z: Tensor, dtype: torch.dtype, order: int = 0, *, opposite: bool = False) -> list[Tensor]:
        """f(z), or f(4 - z) if ``opposite``, and its derivatives in z up to ``order``."""
        floor = self.floor(dtype)
        if self.geodesic:  # neither end has a finite slope
            y, x = z, z.clamp(floor, 4 - max(floor, 64 * torch.finfo(z.dtype).eps))
            found, sign = _angular(x, self.s, max(order, 1), opposite), 1
        else:
            y = 4 - z if opposite else z
            x = y.clamp_min(floor)
            found, sign = _euclidean(x, self.s, max(order, 1)), -1 if opposite else 1
        found[0] = found[0] + found[1] * (y - x)
        found[1] = sign * found[1]
        if order > 1:
            found[2] = found[2] * (x == y)
        return found[: order + 1]

    def sum_and_slope(
        self, c: Tensor, out: Tensor | None = None, with_gradient: bool = True
    ) -> tuple[Tensor, Tensor | None, float]:
        """Sums of phi over matrices of cosines, and d phi / d c as a matrix and a factor; not differentiable.

        No pair may be near the floor. For s = 2 in few passes over the matrix, which is where the time goes, and in
        ``out`` if that is given.
        """
        if self.s != 2 or self.geodesic:
            found = self.derivatives(2 - 2 * c, c.dtype, int(with_gradient))
            return found[0].sum((-2, -1)), found[1] if with_gradient else None, 1.0
        if self.half_space:  # phi = 2 / (1 - c^2), slope = 4 c / (1 - c^2)^2
            inverse = torch.addcmul(c.new_ones(()), c, c, value=-1, out=out).reciprocal_()
            return inverse.sum((-2, -1)).mul_(2), inverse.square_().mul_(c) if with_gradient else None, 4.0
        inverse = torch.mul(c, -2, out=out).add_(2).reciprocal_()
        return inverse.sum((-2, -1)), inverse.square_() if with_gradient else None, 2.0

    @property
    def orthogonal(self) -> float:
        """phi of two orthogonal neurons."""
        return (4 if self.half_space else 1) * self._constant(0.5 if self.geodesic else 2.0)

    @property
    def antipodal(self) -> float:
        """f(4): the energy of a point and its negative."""
        return self._constant(1.0 if self.geodesic else 4.0)

    def _constant(self, distance: float) -> float:
        """f at an angle in units of pi (geodesic) or a squared distance."""
        distance, power = (distance + GEODESIC_OFFSET, self.s) if self.geodesic else (distance, self.s / 2)
        return -math.log(distance) if self.s == 0 else distance**-power


def _euclidean(x: Tensor, s: float, order: int) -> list[Tensor]:
    """f and its derivatives at squared distances within the bounds."""
    value = -x.log() if s == 0 else x.reciprocal() if s == 2 else x.pow(-s / 2)
    found = [value, -1 / x if s == 0 else -s / 2 * value / x]
    if order > 1:
        found.append(-(s / 2 + 1) * found[1] / x)
    return found


def _angular(x: Tensor, s: float, order: int, opposite: bool) -> list[Tensor]:
    """The same for geodesic f, or for f(4 - x) if ``opposite``."""
    angle = (x.sqrt() / 2).asin() * (2 / math.pi)
    a = (1 - angle if opposite else angle) + GEODESIC_OFFSET
    value = -a.log() if s == 0 else a.pow(-s)
    width = x * (4 - x)
    da = (-1 if opposite else 1) / math.pi * width.rsqrt()
    outer = -1 / a if s == 0 else -s * value / a
    found = [value, outer * da]
    if order > 1:
        found.append(-(s + 1) * outer / a * da * da - outer * da * (2 - x) / width)
    return found
