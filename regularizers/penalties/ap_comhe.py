from functools import partial
from typing import Any, Literal

from torch import Tensor

from comhe.errors import check_choice
from comhe.regularizers.energies.gram import normalized
from comhe.regularizers.energies.matching import match_angles, match_cosines, match_matrix, unit_rows
from comhe.regularizers.energies.terms import Terms
from comhe.regularizers.registry import register_regularizer

from .learned_projection import Compare, LearnedProjection

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

    compares = True

    def __init__(self, *, loss: Literal["cosine", "angle"] = "cosine", **options: Any) -> None:
        super().__init__(**options)
        check_choice("loss", loss, ("cosine", "angle"))
        self.loss = loss

    def target(self, w: Tensor, scale: Tensor, products: Tensor | None, terms: Terms) -> Compare:
        angles = self.loss == "angle"
        if products is not None:
            return partial(match_matrix, target=normalized(products, terms), angles=angles)
        rows = unit_rows(w, scale, terms)
        return partial(match_angles if angles else match_cosines, x=rows)

    def push(self, v: Tensor, target: Compare | None, terms: Terms) -> Tensor:
        """Gradient of :math:`L = |C(V) - C(W)|_F`."""
        assert target is not None
        lengths = terms.lengths((v * v).sum(-1), branching=False)
        u = v * lengths.inverse[..., None]
        pull, squared = target(u)
        turning = pull - u * lengths.along((u * pull).sum(-1))[..., None]
        norm = (squared.sum() + SMALL**2).sqrt()  # twice differentiable at 0 too, with bounded derivatives
        return turning * lengths.inverse[..., None] / norm
