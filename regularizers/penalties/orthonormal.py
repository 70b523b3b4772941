from torch import Tensor

from comhe.regularizers.energies.gram import pair_cosines
from comhe.regularizers.registry import register_regularizer


@register_regularizer("orthonormal", default_weight=1e-3, ordered=False)
def orthonormal(w: Tensor) -> Tensor:
    r"""Orthonormal regularization: squared deviation of the cosines from the identity, whatever the neurons' norms.

    .. math:: \|U U^\top - I\|_F^2, \qquad u_i = w_i / |w_i|

    Example:
        >>> import torch
        >>> orthonormal(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        tensor(0.7200)

    Shape: ``[..., N, d] -> [...]``. A zero neuron has no direction and adds nothing.
    Source: Xie et al., *All You Need is Beyond a Good Init*, CVPR 2017.
    """
    c = pair_cosines(w)
    return c.square().sum((-2, -1)) - c.diagonal(dim1=-2, dim2=-1).square().sum(-1)
