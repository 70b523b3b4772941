"""Uniformity on the hypersphere."""

import math

import torch
from torch import Tensor

from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.energies.cosines import cosines
from comhe.regularizers.registry import register_regularizer


@register_regularizer("uniformity", ordered=False)
def uniformity(w: Tensor) -> Tensor:
    r"""Logarithm of the mean Gaussian potential of the pairs.

    .. math:: \log \frac{2}{N(N-1)} \sum_{i < j} e^{-2 |u_i - u_j|^2}

    Shape: ``[..., N, d] -> [...]``.

    Example:
        >>> uniformity(torch.eye(2))
        tensor(-4.)

    Source: Wang & Isola, *Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere*, ICML 2020.
    """
    check_neurons(w)
    c = cosines(upcast(w))
    n = c.shape[-1]
    eye = torch.eye(n, dtype=torch.bool, device=c.device)
    exponents = (4 * c - 4).masked_fill(eye, -torch.inf)
    return exponents.flatten(-2).logsumexp(-1) - math.log(n * (n - 1))
