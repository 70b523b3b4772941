from torch import Tensor

from comhe.regularizers.energies.gram import excess
from comhe.regularizers.registry import register_regularizer


@register_regularizer("orthogonal", default_weight=1e-4, ordered=False)
def orthogonal(w: Tensor) -> Tensor:
    r"""Orthogonal regularization with absolute values: the deviation of the Gram matrix from the identity.

    .. math:: \sum_{ij} |G - I|_{ij}, \qquad G = W W^\top

    Example:
        >>> import torch
        >>> orthogonal(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        tensor(1.2000)

    Shape: ``[..., N, d] -> [...]``.
    Source: Brock et al., *Neural Photo Editing with Introspective Adversarial Networks*, ICLR 2017.
    """
    return excess(w).abs().sum((-2, -1))
