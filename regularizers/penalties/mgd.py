from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from comhe.errors import UsageError, check_count
from comhe.regularizers.draws import Draws
from comhe.regularizers.energies.checks import check_neurons, float64, upcast
from comhe.regularizers.energies.cholesky import log_determinant
from comhe.regularizers.energies.gram import pair_cosines
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .directional import HalfSpaceDirectional

MOST = 8192  # neurons: a determinant takes several N x N matrices in float64, 512 MiB each at this size
RIDGE = 1e-6


def mgd(w: Tensor, *, half_space: bool = False, min_norm: float = 0.0) -> Tensor:
    r"""Maximum Gram determinant (MGD): minus the log-determinant of a Gaussian kernel of the directions.

    .. math:: -\log\det(e^{-(2 - 2C)} + 10^{-6} I)

    In the half space C are the cosines among the neurons and their negatives, and the determinant is that of
    :math:`A + B + 10^{-6} I` times that of :math:`A - B + 10^{-6} I`, :math:`A = e^{2C - 2}`,
    :math:`B = e^{-2C - 2}` with C of the neurons alone. It is computed in float64: eigenvalues fall to the ridge.

    Args:
        half_space: count every neuron's negative as well.
        min_norm: the least length that a neuron counts with.

    Shape: ``[..., N, d] -> [...]``.

    Raises:
        UsageError: more than 8,192 neurons, whose N x N determinant takes gigabytes.

    Example:
        >>> mgd(torch.eye(2)) > 0
        tensor(True)

    Source: Liu et al., *Learning with Hyperspherical Uniformity*, AISTATS 2021.
    """
    check_neurons(w)
    if w.shape[-2] > MOST:
        raise UsageError(
            f"mgd takes the determinant of an N x N matrix: at most {MOST} neurons, not {w.shape[-2]}; create the "
            "regularizer with sample=1024, or take uniformity or mhs, which go by blocks"
        )
    c = pair_cosines(float64(w), diagonal=1.0, min_norm=min_norm)
    near = (2 * c - 2).exp()
    far = (-2 * c - 2).exp() if half_space else None
    ridge = RIDGE * torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)
    kernels = (near,) if far is None else (near + far, near - far)
    values = [log_determinant(kernel + ridge) for kernel in kernels]
    return -sum(values[1:], values[0]).to(upcast(w))


@register_regularizer("mgd")
class GramDeterminant(HalfSpaceDirectional):
    """:func:`mgd` of every layer. Default weights: the authors' code.

    Args:
        sample: layers with more neurons than this are represented by that many of them, drawn in every step: their
            determinant is a principal minor of the whole one.
        options: see :class:`HalfSpaceDirectional`.
    """

    default_weight, default_output_weight = 0.01, 0.1
    formula = staticmethod(mgd)

    def __init__(self, *, sample: int = 1024, **options: Any) -> None:
        super().__init__(**options)
        check_count("sample", sample, 2)
        self.sample = sample

    def draw(self, layers: Sequence[Layer], draws: Draws) -> None:
        for layer in layers:
            if layer.shape[-2] > self.sample:
                draws.subset((layer.name, "sample"), layer.shape[-2], self.sample)

    def select(self, w: Tensor, layer: Layer, draws: Draws) -> Tensor:
        key = (layer.name, "sample")
        return w.index_select(-2, draws[key].to(w.device)) if key in draws else w
