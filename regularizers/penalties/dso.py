from torch import Tensor

from comhe.regularizers.registry import register_regularizer

from .so import so


@register_regularizer("dso", default_weight=1e-2, ordered=False)
def dso(w: Tensor) -> Tensor:
    r"""Double soft orthogonality (DSO): squared deviations of both Gram matrices from the identity.

    .. math:: \|W^\top W - I\|_F^2 + \|W W^\top - I\|_F^2

    Shape: ``[..., N, d] -> [...]``. Default weight: the one with which the authors' code starts ``srip``; DSO itself is
    not in that code.

    Example:
        >>> import torch
        >>> dso(torch.eye(2, 3))
        tensor(1.)

    Source: Bansal et al., NeurIPS 2018.
    """
    # |W^T W|_F = |W W^T|_F and the traces agree, so the two squares differ by the difference of the identities' sizes
    # and the larger Gram matrix is not needed.
    return 2 * so(w) + abs(w.shape[-1] - w.shape[-2])
