import torch
from torch import Tensor

from comhe.regularizers.energies.blocks import nearest, products_with
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.registry import register_regularizer


@register_regularizer("mc", default_weight=1e-2, ordered=False)
def mc(w: Tensor) -> Tensor:
    r"""Mutual coherence (MC): the largest deviation of the Gram matrix from the identity.

    .. math:: \max_{ij} |G - I|_{ij}, \qquad G = W W^\top

    Shape: ``[..., N, d] -> [...]``. Default weight: the one with which the authors' code starts ``srip``; MC itself is
    not in that code.

    Example:
        >>> mc(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        tensor(0.6000)

    Source: Bansal et al., NeurIPS 2018.
    """
    check_neurons(w)
    w = upcast(w)
    between = products_with(w, nearest(w.detach(), absolute=True)).abs()
    return torch.maximum(between.amax(-1), ((w * w).sum(-1) - 1).abs().amax(-1))
