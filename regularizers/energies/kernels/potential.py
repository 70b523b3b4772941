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

    1 - c^2 is computed as z - z^2 / 4: where z comes from differences, nothing cancels. Below the floor, phi is its
    tangent.
    """
    if HALF and (S == 2.0 or S == 0.0):
        x = tl.maximum(z, FLOOR)
        r = 1.0 / (x - 0.25 * x * x)
        if S == 2.0:
            value = 2.0 * r
            slope = 4.0 * c * r * r
        else:
            value = -2.0 * tl.log(4.0 / r)
            slope = 4.0 * c * r
        value -= 0.5 * tl.abs(slope) * (z - x)
    else:
        value, slope = point(z, FLOOR, S)
        if HALF:
            other, back = point(4.0 - z, FLOOR, S)
            value = 2.0 * (value + other)
            slope = 2.0 * (slope - back)
            slope = tl.where(c < 0, -slope, slope)
    return value, slope


@triton.jit
def point(z, FLOOR, S: tl.constexpr):
    """f and d f / d c of one pair of points, from their squared distance."""
    x = tl.maximum(z, FLOOR)
    if S == 0.0:
        value = -tl.log(x)
        slope = 2.0 / x
    else:
        value = 1.0 / x if S == 2.0 else tl.exp2(-0.5 * S * tl.log2(x))
        slope = S * value / x
    return value - 0.5 * slope * (z - x), slope


@triton.jit
def antipode(lack, FLOOR, S: tl.constexpr):
    """What a neuron of squared length 1 - lack and its negative add to f(4), and its derivative in c."""
    value, slope = point(4.0 - 2.0 * lack, FLOOR, S)
    usual, _ = point(4.0 + 0.0 * lack, FLOOR, S)
    return tl.where(lack > 0, value - usual, 0.0), tl.where(lack > 0, slope, 0.0)


@triton.jit
def lengths(squared, EPS, LEAST, LIMIT, TINY):
    """1 / n of neurons, 0 without a direction, and 1 - |u|^2; see :class:`comhe.regularizers.energies.terms.Terms`.

    LIMIT is 1 / LEAST, or 0 if that is 0. A neuron is short, so that n does not go with its length, if 1 / n is LIMIT.
    """
    longer = squared + EPS
    alive = (longer > TINY) & (longer < float("inf")) | (longer != longer)  # NaN stays NaN
    inverse = tl.where(alive, 1.0 / tl.sqrt_rn(tl.where(alive, longer, 1.0)), 0.0)
    short = longer < LEAST * LEAST
    inverse = tl.where(short, LIMIT, inverse)
    lack = tl.where(short, 1.0 - tl.where(short, squared, 0.0) * inverse * inverse, EPS * inverse * inverse)
    dead = tl.where(EPS + LEAST > 0, 1.0, 0.0)
    return inverse, tl.where(inverse > 0, lack, dead)
