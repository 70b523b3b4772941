from torch import Tensor

from comhe.regularizers.energies.blocks import pair_sum
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.energies.cosines import directions
from comhe.regularizers.registry import register_regularizer

from .directional import Directional


def uniformity(w: Tensor, *, min_norm: float = 0.0) -> Tensor:
    r"""Uniformity on the hypersphere: the logarithm of the mean Gaussian potential of the pairs.

    .. math:: \log \frac{2}{N(N-1)} \sum_{i < j} e^{-2 |u_i - u_j|^2}

    Args:
        min_norm: the least length that a neuron counts with.

    Shape: ``[..., N, d] -> [...]``.

    Example:
        >>> import torch
        >>> uniformity(torch.eye(2))
        tensor(-4.)

    Source: Wang & Isola, *Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere*, ICML 2020.
    """
    check_neurons(w)
    n = w.shape[-2]
    total = pair_sum(directions(upcast(w), min_norm), lambda c: (4 * c - 4).exp())  # terms from e^-8 to 1
    return (total * (2 / (n * (n - 1)))).log()


@register_regularizer("uniformity")
class Uniformity(Directional):
    """:func:`uniformity` of every layer. Weight: ours; the source uses it on features, not on neurons."""

    formula = staticmethod(uniformity)
