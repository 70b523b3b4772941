"""Energies on a GPU, in Triton: chosen automatically for float32 tensors there, never required.

:mod:`.pairs` computes the energies of narrow neurons and their gradients in one pass over tiles of cosines that never
reach memory; :mod:`.wide` those of wide neurons from tiles of their Gram matrix. Each takes a ragged batch of layers in
a handful of launches, adds up in a fixed order and allocates nothing whose size depends on data: results repeat bit for
bit, and it all may be captured in a CUDA graph. :mod:`.pairs` states the error.
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


@cache
def runs_on(device: torch.device) -> bool:
    """Whether the device is a GPU and Triton is installed."""
    return device.type == "cuda" and find_spec("triton") is not None


def usable(w: Tensor, potential: Potential) -> bool:
    """Whether the kernels take these neurons: float32 on a GPU, chords and not angles, outside of torch.compile."""
    if torch.compiler.is_compiling() or not runs_on(w.device):
        return False
    fits = w.shape[-1] <= NARROW or w.shape[-2] <= max(w.shape[-1], MATRIX)
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
    for compute, narrow in ((pair_sums, True), (gram_sums, False)):
        chosen = [i for i, w in enumerate(neurons) if (w.shape[-1] <= NARROW) == narrow]
        if not chosen:
            continue
        some = [neurons[i] for i in chosen]
        scale = factors if factors is None or len(chosen) == len(neurons) else torch.stack([factors[i] for i in chosen])
        totals, slopes = compute(some, terms, scale, with_gradient)
        split = totals.split([len(w) for w in some])
        for i, total, slope in itertools.zip_longest(chosen, split, slopes):
            sums[i], gradients[i] = total, slope
    return sums, gradients
