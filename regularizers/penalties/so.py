from torch import Tensor

from comhe.regularizers.energies.gram import excess
from comhe.regularizers.registry import register_regularizer


@register_regularizer("so", default_weight=1e-2, ordered=False)
def so(w: Tensor) -> Tensor:
    r"""Soft orthogonality (SO): squared deviation of the smaller Gram matrix from the identity.

    .. math:: \|G - I\|_F^2, \qquad G = W W^\top \ (N \le d) \ \text{or} \ W^\top W

    Shape: ``[..., N, d] -> [...]``. Default weight: the one with which the authors' code starts ``srip``; SO itself is
    not in that code.

    Example:
        >>> import torch
        >>> so(torch.eye(2, 3))
        tensor(0.)

    Source: Bansal et al., *Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?*, NeurIPS 2018.
    """
    return excess(w).square().sum((-2, -1))
