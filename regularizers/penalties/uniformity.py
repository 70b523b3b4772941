import math

import torch
from torch import Tensor

from comhe.regularizers.energies.gram import pair_cosines
from comhe.regularizers.registry import register_regularizer


@register_regularizer("uniformity", ordered=False)
def uniformity(w: Tensor) -> Tensor:
    r"""Uniformity on the hypersphere: the logarithm of the mean Gaussian potential of the pairs.

    .. math:: \log \frac{2}{N(N-1)} \sum_{i < j} e^{-2 |u_i - u_j|^2}

    Example:
        >>> uniformity(torch.eye(2))
        tensor(-4.)

    Shape: ``[..., N, d] -> [...]``.
    Source: Wang & Isola, *Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere*, ICML 2020.
    """
    c = pair_cosines(w, diagonal=-torch.inf)
    return (4 * c - 4).flatten(-2).logsumexp(-1) - math.log(c.shape[-1] * (c.shape[-1] - 1))
