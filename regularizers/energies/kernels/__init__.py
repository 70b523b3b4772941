"""Energies on a GPU, in Triton: chosen automatically for float32 tensors there, never required.

:mod:`.pairs` computes the energies of narrow neurons and their gradients in one pass over tiles of cosines that never
reach memory; :mod:`.wide` those of wide neurons from tiles of their Gram matrix. Each takes a ragged batch of layers in
a handful of launches, adds up in a fixed order and allocates nothing whose size depends on data: results repeat bit for
bit, and it all may be captured in a CUDA graph. :mod:`.pairs` states the error.
:mod:`.cholesky` factorizes matrices where the library's solvers might not be captured.
"""

import itertools
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from comhe.regularizers.energies.checks import Layers
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms

NARROW = 128  # dimensions for which a block of neurons and its gradient stay in registers
MATRIX = 4096  # the most neurons whose Gram matrix is kept where it is larger than the neurons
BLOCK = 128  # neurons that sets are padded to a multiple of, at most
OFFSETS = 2**31  # numbers that the kernels can address from the beginning of a set, or of the padded rows


@cache
def runs_on(device: torch.device) -> bool:
    """Whether the device is an NVIDIA GPU with tensor-float-32 (Ampere or later) and Triton is installed."""
    if device.type != "cuda" or torch.version.hip is not None or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def usable(w: Tensor, potential: Potential) -> bool:
    """Whether the kernels take these neurons: float32 on a GPU, chords and not angles, outside of torch.compile.

    And not so many numbers that 32 bits could not count them.
    """
    if torch.compiler.is_compiling() or not runs_on(w.device):
        return False
    n, d = w.shape[-2:]
    is_square = n <= max(d, MATRIX) and n * max(n, d) < OFFSETS
    fits = _padded([w]) < OFFSETS if d <= NARROW else is_square
    return fits and w.dtype == torch.float32 and not potential.geodesic and w.numel() > 0


def energy_sums(
    neurons: Layers, terms: Terms, factors: Tensor | None = None, *, with_gradient: bool = True
) -> tuple[list[Tensor], list[Tensor]]:
    """Sums of phi over the pairs i < j of every set of every layer, and the sums' gradients.

    In the half space they include what the antipodes of short neurons differ by; see :func:`.terms.antipodes`.

    Shape: layers [B_l, N_l, d_l], all :func:`usable`; factors [layers], which multiply the gradients -> sums [B_l] of
    each layer, gradients like the neurons, or None for each.
    """
    from .pairs import pair_sums
    from .wide import gram_sums

    sums: list[Any] = [None] * len(neurons)
    gradients: list[Any] = [None] * len(neurons)
    for compute, kind in ((pair_sums, "narrow"), (gram_sums, "wide"), (gram_sums, "wide, unaligned")):
        for chosen in _batches(neurons, kind):
            some = [neurons[i] for i in chosen]
            scale = factors
            if factors is not None and len(chosen) < len(neurons):
                scale = torch.stack([factors[i] for i in chosen])
            totals, slopes = compute(some, terms, scale, with_gradient)
            split = totals.split([len(w) for w in some])
            for i, total, slope in itertools.zip_longest(chosen, split, slopes):
                sums[i], gradients[i] = total, slope
    return sums, gradients


def _batches(neurons: Layers, kind: str) -> list[list[int]]:
    """Which layers are computed together: all of one kind, as long as their numbers can be addressed."""
    batches: list[list[int]] = []
    for i, w in enumerate(neurons):
        if _kind(w) == kind:
            if batches and (kind != "narrow" or _padded([neurons[j] for j in (*batches[-1], i)]) < OFFSETS):
                batches[-1].append(i)
            else:
                batches.append([i])
    return batches


def _kind(w: Tensor) -> str:
    """Of wide layers, those whose rows and matrices begin at multiples of 16 bytes are read four numbers at a time."""
    n, d = w.shape[-2:]
    return "narrow" if d <= NARROW else "wide" if n % 4 == d % 4 == 0 else "wide, unaligned"


def _padded(neurons: Layers) -> int:
    """Numbers of narrow layers whose sets and dimensions are padded alike."""
    rows = sum(w.shape[:-2].numel() * -(-w.shape[-2] // BLOCK) * BLOCK for w in neurons)
    return rows << max(4, (max(w.shape[-1] for w in neurons) - 1).bit_length())
