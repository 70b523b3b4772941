"""Maximum hyperspherical separation (MHS)."""

from __future__ import annotations

import torch
from torch import Tensor

from comhe.regularizers.energies.cosines import cosines
from comhe.regularizers.energies.energy import check_neurons, single
from comhe.regularizers.registry import register_regularizer

from .penalty import PenaltyRegularizer


def mhs(w: Tensor) -> Tensor:
    r"""Minus the smallest squared distance between two neurons' directions.

    .. math:: -\min_{i < j} (2 - 2 c_{ij})

    Shapes: ``[..., N, d] -> [...]``. Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    check_neurons(w)
    c = cosines(single(w))
    eye = torch.eye(c.shape[-1], dtype=torch.bool, device=c.device)
    return 2 * c.masked_fill(eye, -torch.inf).amax((-2, -1)) - 2


@register_regularizer("mhs")
class Separation(PenaltyRegularizer):
    """:func:`mhs` of every layer. Weight: ours."""

    default_weight = 1.0
    function = staticmethod(mhs)
