import torch
from torch import Tensor

from comhe.regularizers.energies.gram import pair_cosines
from comhe.regularizers.registry import register_regularizer


@register_regularizer("mhs", ordered=False)
def mhs(w: Tensor) -> Tensor:
    r"""Maximum hyperspherical separation (MHS): minus the smallest squared distance between two neurons' directions.

    .. math:: -\min_{i < j} (2 - 2 c_{ij})

    Example:
        >>> mhs(torch.eye(2))
        tensor(-2.)

    Shape: ``[..., N, d] -> [...]``.
    Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    return 2 * pair_cosines(w, diagonal=-torch.inf).amax((-2, -1)) - 2
