"""CoMHE with group projections."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.regularizers.draws import random_order
from comhe.regularizers.energies.energy import single
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .mhe import EnergyRegularizer


@register_regularizer("group-comhe")
class GroupProjection(EnergyRegularizer):
    r"""CoMHE with group projections: the input dimensions are split into groups, each with an energy of its own.

    .. math:: E = \frac{1}{m} \sum_{g=1}^{m} E_s(W P_g), \qquad P_g = \mathrm{diag}(0/1), \quad \sum_g P_g = I

    Groups differ in size by at most one. A layer with d < 2 m is not split, nor is the output layer.

    Args:
        groups: m.
        partition: ``"contiguous"`` runs of dimensions, or ``"random"`` ones, drawn anew every ``redraw`` steps.
        redraw: steps between two draws.

    Source: Lin et al., arXiv 1906.04892, the abstract of an earlier version; the number of groups is not given there.
    """

    ordered = True

    def __init__(
        self,
        model: nn.Module,
        *,
        groups: int = 8,
        partition: Literal["contiguous", "random"] = "contiguous",
        redraw: int = 1,
        **options,
    ) -> None:
        super().__init__(model, **options)
        if groups < 1 or redraw < 1:
            raise ValueError(f"groups and redraw must be at least 1, not {groups} and {redraw}")
        if partition not in ("contiguous", "random"):
            raise ValueError(f"partition must be 'contiguous' or 'random', not {partition!r}")
        self.groups, self.partition, self.redraw = groups, partition, redraw

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        d = w.shape[-1]
        if d < 2 * self.groups:
            return self.energy(w, self.half_space)
        w = single(w)
        if self.partition == "random":
            w = w.index_select(-1, self.random((layer.name, "groups"), lambda: self._order(layer, d, w.device)))
        # Zero columns change no inner product, so unequal groups can be stacked once the shorter ones are filled up.
        short = -d % self.groups
        long, rest = w.split([(self.groups - short) * -(-d // self.groups), short * (d // self.groups)], dim=-1)
        parts = [long.unflatten(-1, (self.groups - short, -1))]
        if short:
            parts.append(F.pad(rest.unflatten(-1, (short, -1)), (0, 1)))
        return self.energy(torch.cat(parts, dim=-2).transpose(-2, -3), self.half_space).mean(-1)

    def _order(self, layer: Layer, d: int, device: torch.device) -> Tensor:
        return random_order(d, device, self.seed, self.step // self.redraw, layer.name)

    def extra_repr(self) -> str:
        return f"groups={self.groups}, partition={self.partition!r}, {super().extra_repr()}"
