import torch
from torch import Tensor

from comhe.regularizers.energies.gram import pair_cosines
from comhe.regularizers.registry import register_regularizer


@register_regularizer("mgd", ordered=False)
def mgd(w: Tensor) -> Tensor:
    r"""Maximum Gram determinant (MGD): minus the log-determinant of a Gaussian kernel of the directions.

    .. math:: -\log\det(e^{-(2 - 2C)} + 10^{-6} I)

    Example:
        >>> mgd(torch.eye(2)) > 0
        tensor(True)

    Shape: ``[..., N, d] -> [...]``.
    Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    kernel = (2 * pair_cosines(w) - 2).exp()
    ridge = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    return -torch.linalg.slogdet(kernel + 1e-6 * ridge).logabsdet
