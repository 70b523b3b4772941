import torch
from torch import Tensor

from comhe.regularizers.energies.blocks import pair_sum
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.registry import register_regularizer


@register_regularizer("orthogonal", default_weight=1e-4, ordered=False)
def orthogonal(w: Tensor) -> Tensor:
    r"""Orthogonal regularization with absolute values: the deviation of the Gram matrix from the identity.

    .. math:: \sum_{ij} |G - I|_{ij}, \qquad G = W W^\top

    Shape: ``[..., N, d] -> [...]``.

    Example:
        >>> orthogonal(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        tensor(1.2000)

    Source: Brock et al., *Neural Photo Editing with Introspective Adversarial Networks*, ICLR 2017.
    """
    check_neurons(w)
    w = upcast(w)
    return 2 * pair_sum(w, torch.abs) + ((w * w).sum(-1) - 1).abs().sum(-1)
