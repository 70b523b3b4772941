"""Random masks of dropout, drawn faster than a Bernoulli number per element."""

import math

import torch
from torch import Tensor

_INT64_MIN = -(2**63)  # random_(min, None) fills all 64 bits; random_() leaves the sign bit zero


def _drop_level(p: float) -> tuple[int, int]:
    """Return the word width in bits, and how many of the 2^width words mean "drop"."""
    if (p * 256).is_integer():
        return 8, int(p * 256)  # 0.5, 0.25, 0.75, ... need half the random bits
    return 16, min(round(p * 65536), 65535)


def keep_probability(p: float) -> float:
    """Return 1 - p with p as :func:`keep_mask` rounds it; dividing by it keeps the expectation exact."""
    width, level = _drop_level(float(p))
    return 1.0 - level / 2**width


def keep_mask(shape: tuple[int, ...], p: float, device: torch.device | str = "cpu") -> Tensor:
    """Draw a small-integer mask: 1 with probability 1 - p, else 0; faster than a Bernoulli draw per element.

    One int64 of the device's default generator (``torch.manual_seed``) is cut into four 16-bit words that are compared
    with a threshold, so p is rounded to a multiple of 2^-16; where p is a multiple of 2^-8, eight 8-bit words do. In a
    compiled program the mask is a comparison of uniform numbers, which the compiler fuses with its use.
    """
    if torch.compiler.is_compiling():
        return (torch.rand(shape, device=device) < keep_probability(p)).to(torch.int8)
    width, level = _drop_level(float(p))
    bits = torch.empty((math.prod(shape) * width + 63) // 64, dtype=torch.int64, device=device)
    words = bits.random_(_INT64_MIN, None).view(torch.int8 if width == 8 else torch.int16)
    # In place, and so in the integer type: torch vectorizes this comparison, but not one that returns bool.
    return words[: math.prod(shape)].view(shape).ge_(level - 2 ** (width - 1))
