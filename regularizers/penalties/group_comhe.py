from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from comhe.errors import check_choice, check_count
from comhe.regularizers.draws import Draws
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .energy_penalty import EnergyPenalty

Partition = Literal["contiguous", "random"]
GROUPS, LEAST = 8, 8  # groups, and dimensions of the smallest one, unless their number is given


@register_regularizer("group-comhe")
class GroupProjection(EnergyPenalty):
    r"""CoMHE with group projections: the input dimensions are split into groups, each with an energy of its own.

    .. math:: E = \frac{1}{m} \sum_{g=1}^{m} E_s(W P_g), \qquad P_g = \mathrm{diag}(0/1), \quad \sum_g P_g = I

    Groups differ in size by at most one. A layer with d < 2 m is not split, nor is the output layer.

    Args:
        groups: their number m. None means 8, but no more than leave 8 dimensions to a group, and so none for d < 16:
            among random neurons in fewer than eight dimensions the gradient of an energy with s = 2 has no finite
            variance, and a layer's first step may throw it.
        partition: ``"contiguous"`` runs of dimensions, or ``"random"`` ones, drawn again every ``redraw`` steps.
        redraw: steps between two draws.

    Source: Lin et al., arXiv 1906.04892, the abstract of an earlier version; the number of groups is not given there.
    """

    ordered = True
    projects = True

    def __init__(
        self, *, groups: int | None = None, partition: Partition = "contiguous", redraw: int = 1, **options: Any
    ) -> None:
        super().__init__(**options)
        check_count("groups", 1 if groups is None else groups, 1)
        check_count("redraw", redraw, 1)
        check_choice("partition", partition, ("contiguous", "random"))
        self.groups, self.partition, self.redraw = groups, partition, redraw

    def is_projected(self, layer: Layer) -> bool:
        least = 2 * LEAST if self.groups is None else 2 * self.groups
        return layer.role == "hidden" and layer.shape[-1] >= least

    def draw(self, layers: Sequence[Layer], draws: Draws) -> None:
        super().draw(layers, draws)
        for layer in layers if self.partition == "random" else ():
            if self.is_projected(layer):
                draws.permutation(layer.name, layer.shape[-1], self.redraw)

    def projected_value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        d = w.shape[-1]
        m = self.groups or min(GROUPS, d // LEAST)
        if self.partition == "random":
            w = w.index_select(-1, draws[layer.name].to(w.device))
        # Zero columns change no inner product, so unequal groups can be stacked once the shorter ones are filled up.
        short = -d % m
        long, rest = w.split([(m - short) * -(-d // m), short * (d // m)], dim=-1)
        groups = [long.unflatten(-1, (m - short, -1))]
        if short:
            groups.append(F.pad(rest.unflatten(-1, (short, -1)), (0, 1)))
        return self.energy(torch.cat(groups, dim=-2).transpose(-2, -3), stretch=m**-0.5).mean(-1)

    def extra_repr(self) -> str:
        return f"groups={self.groups}, partition={self.partition!r}, {super().extra_repr()}"
