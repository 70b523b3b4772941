from torch import Tensor
from torch.nn.functional import softplus

from comhe.regularizers.energies.gram import pair_cosines
from comhe.regularizers.registry import register_regularizer


@register_regularizer("orthoreg", default_weight=0.001, ordered=False)
def orthoreg(w: Tensor) -> Tensor:
    r"""Local orthogonality (OrthoReg): a penalty on positive correlations only: neurons that point apart add little.

    .. math:: \sum_{i \ne j} \log(1 + e^{\lambda (c_{ij} - 1)}), \qquad \lambda = 10

    Example:
        >>> import torch
        >>> orthoreg(torch.eye(2)) < orthoreg(torch.ones(2, 2))
        tensor(True)

    Shape: ``[..., N, d] -> [...]``. Default weight: the authors' code.
    Source: Rodriguez et al., *Regularizing CNNs with Locally Constrained Decorrelations*, ICLR 2017.
    """
    terms = softplus(10 * (pair_cosines(w) - 1))
    return terms.sum((-2, -1)) - terms.diagonal(dim1=-2, dim2=-1).sum(-1)
