from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from comhe.errors import check_at_least, check_choice
from comhe.regularizers.draws import Draws
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .energy_penalty import EnergyPenalty

Partition = Literal["contiguous", "random"]


@register_regularizer("group-comhe")
class GroupProjection(EnergyPenalty):
    r"""CoMHE with group projections: the input dimensions are split into groups, each with an energy of its own.

    .. math:: E = \frac{1}{m} \sum_{g=1}^{m} E_s(W P_g), \qquad P_g = \mathrm{diag}(0/1), \quad \sum_g P_g = I

    Groups differ in size by at most one. A layer with d < 2 m is not split, nor is the output layer.

    Args:
        groups: m.
        partition: ``"contiguous"`` runs of dimensions, or ``"random"`` ones, drawn again every ``redraw`` steps.
        redraw: steps between two draws.

    Source: Lin et al., arXiv 1906.04892, the abstract of an earlier version; the number of groups is not given there.
    """

    ordered = True

    def __init__(
        self, *, groups: int = 8, partition: Partition = "contiguous", redraw: int = 1, **options: Any
    ) -> None:
        super().__init__(**options)
        check_at_least("groups", groups, 1)
        check_at_least("redraw", redraw, 1)
        check_choice("partition", partition, ("contiguous", "random"))
        self.groups, self.partition, self.redraw = groups, partition, redraw

    def is_projected(self, layer: Layer) -> bool:
        return layer.role == "hidden" and layer.shape[-1] >= 2 * self.groups

    def draw(self, layers: Sequence[Layer], draws: Draws) -> None:
        super().draw(layers, draws)
        for layer in layers if self.partition == "random" else ():
            if self.is_projected(layer):
                draws.permutation(layer.name, layer.shape[-1], self.redraw)

    def projected_value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        d = w.shape[-1]
        if self.partition == "random":
            w = w.index_select(-1, draws[layer.name].to(w.device))
        # Zero columns change no inner product, so unequal groups can be stacked once the shorter ones are filled up.
        short = -d % self.groups
        long, rest = w.split([(self.groups - short) * -(-d // self.groups), short * (d // self.groups)], dim=-1)
        groups = [long.unflatten(-1, (self.groups - short, -1))]
        if short:
            groups.append(F.pad(rest.unflatten(-1, (short, -1)), (0, 1)))
        return self.energy(torch.cat(groups, dim=-2).transpose(-2, -3), stretch=self.groups**-0.5).mean(-1)

    def extra_repr(self) -> str:
        return f"groups={self.groups}, partition={self.partition!r}, {super().extra_repr()}"
