"""The potential of a pair of neurons, inside a kernel; see :class:`comhe.regularizers.energies.potential.Potential`."""

import triton
import triton.language as tl


@triton.jit
def squared_distance(c, HALF: tl.constexpr):
    """2 - 2 c, in the half space of the nearer one of a neuron and its negative."""
    return 2.0 - 2.0 * tl.abs(c) if HALF else 2.0 - 2.0 * c


@triton.jit
def potential(z, c, FLOOR, S: tl.constexpr, HALF: tl.constexpr):
    """phi and d phi / d c, from the squared distance z of :func:`squared_distance` and the cosine c.

    1 - c^2 is computed as z - z^2 / 4: where z comes from differences, nothing cancels.
    """
    if HALF and (S == 2.0 or S == 0.0):
        q = tl.maximum(z - 0.25 * z * z, FLOOR)
        r = 1.0 / q
        if S == 2.0:
            value = 2.0 * r
            slope = 4.0 * c * r * r
        else:
            value = -2.0 * tl.log(4.0 * q)
            slope = 4.0 * c * r
    else:
        value, slope = _point(z, FLOOR, S)
        if HALF:
            other, back = _point(4.0 - z, FLOOR, S)
            value = 2.0 * (value + other)
            slope = 2.0 * (slope - back)
            slope = tl.where(c < 0, -slope, slope)
    return value, slope


@triton.jit
def _point(z, FLOOR, S: tl.constexpr):
    z = tl.maximum(z, FLOOR)
    if S == 0.0:
        value = -tl.log(z)
        slope = 2.0 / z
    else:
        value = 1.0 / z if S == 2.0 else tl.exp2(-0.5 * S * tl.log2(z))
        slope = S * value / z
    return value, slope
