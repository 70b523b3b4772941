from typing import Any

import torch
from torch import Tensor

from comhe.regularizers.draws import Draws
from comhe.regularizers.energies.blocks import pair_sum
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.energies.cosines import directions
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .directional import Directional


def orthonormal(w: Tensor, *, normalize: bool = True, min_norm: float = 0.0) -> Tensor:
    r"""Orthonormal regularization: squared deviation of the Gram matrix of the directions from the identity.

    .. math:: \|U U^\top - I\|_F^2, \qquad u_i = w_i / |w_i| \ \text{or, without normalizing,} \ u_i = w_i

    Args:
        normalize: divide the neurons by their lengths. A zero neuron has no direction and adds nothing.
        min_norm: the least length that a neuron counts with then.

    Shape: ``[..., N, d] -> [...]``.

    Example:
        >>> orthonormal(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        tensor(0.7200)

    Source: Xie et al., *All You Need is Beyond a Good Init*, CVPR 2017, which does not normalize.
    """
    check_neurons(w)
    w = upcast(w)
    if normalize:
        return 2 * pair_sum(directions(w, min_norm), torch.square)
    return 2 * pair_sum(w, torch.square) + ((w * w).sum(-1) - 1).square().sum(-1)


@register_regularizer("orthonormal")
class Orthonormality(Directional):
    """:func:`orthonormal` of every layer. Weight: ours.

    Args:
        normalize: False is the cited paper's penalty, the neurons themselves, which also pulls their lengths to 1. The
            default leaves lengths to weight decay and batch normalization: with up to as many neurons as dimensions
            the other is ``so`` already.
        options: see :class:`Directional`.
    """

    default_weight = 1e-3

    def __init__(self, *, normalize: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.normalize = normalize

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        return orthonormal(w, normalize=self.normalize, min_norm=self.min_norm)

    def extra_repr(self) -> str:
        return f"normalize={self.normalize}"
