"""Random matrices that are a function of (seed, number of the draw, purpose) and of nothing else."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import torch
from torch import Tensor

Distribution = Literal["gaussian", "ternary"]
DISTRIBUTIONS = ("gaussian", "ternary")


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator seeded by a hash of the key: nothing has to be stored to draw the same numbers again.

    Ranks that share the key share the numbers, and a restarted run needs no generator state. The numbers depend on the
    kind of device (CPU or CUDA), as torch's generators do.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def random_order(count: int, device: torch.device | str, *key: int | str) -> Tensor:
    """A random order of 0 ... count - 1."""
    if torch.device(device).type == "meta":
        return torch.empty(count, dtype=torch.int64, device=device)
    return torch.randperm(count, generator=generator(device, *key), device=device)


def random_matrix(
    shape: tuple[int, ...], distribution: Distribution, device: torch.device | str, *key: int | str
) -> Tensor:
    r"""Independent entries of mean 0 and variance 1, float32.

    ``"gaussian"`` draws N(0, 1). ``"ternary"`` draws :math:`\pm\sqrt 3` with probability 1/6 each and 0 with 2/3, the
    sparse projection of Achlioptas (*Database-friendly random projections*, 2003); its probabilities are exact to
    :math:`2^{-16}`.
    """
    if torch.device(device).type == "meta":
        return torch.empty(shape, device=device)
    source = generator(device, *key)
    if distribution == "gaussian":
        return torch.randn(shape, generator=source, device=device)
    count = math.prod(shape)
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=device)
    words.random_(-(2**63), 2**63 - 1, generator=source)  # one word makes four entries
    sixteen = words.view(torch.int16)[:count].view(shape)
    third = round(2**15 / 3)
    sign = (sixteen < -(2**15) + third).to(torch.float32).neg_().add_(sixteen >= 2**15 - third)
    return sign.mul_(math.sqrt(3))
