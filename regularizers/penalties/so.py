from torch import Tensor

from comhe.regularizers.energies.gram import excess
from comhe.regularizers.registry import register_regularizer


@register_regularizer("so", default_weight=1e-2, ordered=False)
def so(w: Tensor) -> Tensor:
    r"""Soft orthogonality (SO): squared deviation of the smaller Gram matrix from the identity.

    .. math:: \|G - I\|_F^2, \qquad G = W W^\top \ (N \le d) \ \text{or} \ W^\top W

    Example:
        >>> import torch
        >>> so(torch.eye(2, 3))
        tensor(0.)

    Shape: ``[..., N, d] -> [...]``. Default weight: where the authors' code starts; it lowers it as training goes on.
    Source: Bansal et al., *Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?*, NeurIPS 2018.
    """
    return excess(w, smaller=True).square().sum((-2, -1))
