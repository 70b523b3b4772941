from torch import Tensor

from comhe.regularizers.energies.gram import excess
from comhe.regularizers.registry import register_regularizer


@register_regularizer("mc", default_weight=1e-2, ordered=False)
def mc(w: Tensor) -> Tensor:
    r"""Mutual coherence (MC): the largest deviation of the Gram matrix from the identity.

    .. math:: \max_{ij} |G - I|_{ij}, \qquad G = W W^\top

    Example:
        >>> import torch
        >>> mc(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        tensor(0.6000)

    Shape: ``[..., N, d] -> [...]``. Default weight: where the authors' code starts; it lowers it as training goes on.
    Source: Bansal et al., NeurIPS 2018.
    """
    return excess(w).abs().amax((-2, -1))
