from typing import Any, Literal

import torch
from torch import Tensor

from comhe.errors import check_choice
from comhe.regularizers.energies.cosines import weighted_gram
from comhe.regularizers.energies.gram import normalized
from comhe.regularizers.energies.terms import Terms
from comhe.regularizers.registry import register_regularizer

from .learned_projection import LearnedProjection

SMALL = 1e-5  # against the norm of all differences of cosines of a layer


@register_regularizer("ap-comhe")
class AnglePreservingProjection(LearnedProjection):
    r"""CoMHE with angle-preserving projections: P is trained to keep the angles between the neurons.

    .. math:: P^* = \arg\min_P \sum_{i \ne j} (\angle(u_i, u_j) - \angle(P u_i, P u_j))^2

    Args:
        loss: ``"cosine"``, the released code's surrogate :math:`\|C(PW) - C(W)\|_F` on the cosines, or ``"angle"``, the
            same norm of the differences of the angles themselves (in radians), minimal where the paper's sum is.
            ``eps`` is part of neither, though the released code's objective has it: what P has to keep are the angles,
            and ``eps`` makes others of them for short neurons. For neurons of healthy lengths nothing differs.

    Source: Lin et al., *Regularizing Neural Networks via Minimizing Hyperspherical Energy*, CVPR 2020.
    """

    always_needs_gram = True

    def __init__(self, *, loss: Literal["cosine", "angle"] = "cosine", **options: Any) -> None:
        super().__init__(**options)
        check_choice("loss", loss, ("cosine", "angle"))
        self.loss = loss

    def target(self, products: Tensor | None, terms: Terms) -> Tensor:
        assert products is not None  # always_needs_gram
        return normalized(products, terms)

    def push(self, v: Tensor, target: Tensor | None, terms: Terms) -> Tensor:
        """Gradient of L = |C(V) - C(W)|_F: with S = 2 dL/dC(V), it is M V, see weighted_gram."""
        assert target is not None
        products = v @ v.mT
        lengths = terms.lengths(products.diagonal(dim1=-2, dim2=-1), branching=False)
        c = products * lengths.inverse[..., :, None] * lengths.inverse[..., None, :]
        c = c.diagonal_scatter(torch.ones_like(c[..., 0]), dim1=-2, dim2=-1)  # of short neurons too
        if self.loss == "cosine":
            change = c - target
            weighted = 2 * change
        else:
            angles, derivative = _angles(c)
            change = angles - _angles(target)[0]
            weighted = 2 * change * derivative
        norm = (change.square().sum() + SMALL**2).sqrt()  # twice differentiable at 0 too, with bounded derivatives
        return weighted_gram(weighted / norm, c, lengths.inverse, lengths.radial) @ v


def _angles(c: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in radians off the diagonal, 0 on it, and their derivative in the cosine; finite at parallel pairs."""
    edge = 1 - 8 * torch.finfo(c.dtype).eps
    off_diagonal = 1 - torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)
    c = (c * off_diagonal).clamp(-edge, edge)
    return c.acos() * off_diagonal, -(1 - c * c).rsqrt()
