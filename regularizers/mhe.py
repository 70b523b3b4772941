"""MHE and half-space MHE: the energy of the neurons as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .draws import generator
from .energy import hyperspherical_energy
from .potential import Potential
from .registry import register_regularizer
from .regularizer import Regularizer
from .selection import Layer


class EnergyRegularizer(Regularizer):
    """What all energy regularizers share: hidden layers have one energy, the output layer the plain full-space one.

    Args:
        s: power of the inverse distance.
        geodesic: angles instead of chords.
        half_space: whether the *hidden* layers count every neuron's negative. The output layer never does: classes
            that point opposite ways are as they should be.
        reduction: mean over pairs or sum.
        eps: added to squared norms, see :func:`hyperspherical_energy`.
        sample: layers with more neurons than this are seen through that many of them, drawn anew in every step: an
            unbiased estimate of the mean over pairs in the full space; in the half space antipodal pairs weigh more.
    """

    ordered = False

    def __init__(
        self,
        model: nn.Module,
        *,
        s: float = 2,
        geodesic: bool = False,
        half_space: bool = True,
        reduction: str = "mean",
        eps: float = 0.0,
        sample: int | None = None,
        **options,
    ) -> None:
        super().__init__(model, **options)
        if sample is not None and sample < 2:
            raise ValueError(f"sample must be at least 2 neurons, not {sample}")
        self.sample = sample
        Potential(float(s), geodesic)  # its error, now rather than in the first step
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', not {reduction!r}")
        self.s, self.half_space, self.eps = s, half_space, eps
        self._options = {"geodesic": geodesic, "reduction": reduction}

    def neurons(self, layer: Layer) -> Tensor:
        w = super().neurons(layer)
        if self.sample is None or w.shape[-2] <= self.sample:
            return w
        source = generator("cpu", self.seed, self.step, layer.name, "sample")
        chosen = torch.randperm(w.shape[-2], generator=source)[: self.sample].sort().values
        return w.index_select(-2, chosen.to(w.device))

    def energy(self, w: Tensor, half_space: bool) -> Tensor:
        return hyperspherical_energy(w, self.s, half_space, eps=self.eps, **self._options)

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        return self.energy(w, self.half_space)

    def output(self, layer: Layer, w: Tensor) -> Tensor:
        return self.energy(w, half_space=False)

    def extra_repr(self) -> str:
        return f"s={self.s:g}, half_space={self.half_space}, {super().extra_repr()}"


@register_regularizer("none")
class NoRegularizer(Regularizer):
    """No penalty: the baseline, with the same interface. Accepts any model, also one without neurons."""

    needs_layers = False

    def __init__(self, model: nn.Module, *, weight: float = 0.0, output_weight: float = 0.0, **options) -> None:
        super().__init__(model, weight=weight, output_weight=output_weight, **options)

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        return w.new_zeros(())


@register_regularizer("mhe")
class MHE(EnergyRegularizer):
    r"""Minimum hyperspherical energy: hidden layers in the full space.

    .. math:: \mathrm{weight} \sum_{l\ \mathrm{hidden}} E_s(W_l) + \mathrm{output\_weight}\, E_s(W_\mathrm{output})

    Source: Liu et al., NeurIPS 2018.
    """

    def __init__(self, model: nn.Module, *, half_space: bool = False, **options) -> None:
        super().__init__(model, half_space=half_space, **options)


@register_regularizer("hs-mhe")
class HalfSpaceMHE(EnergyRegularizer):
    """Half-space MHE: hidden layers with their negatives, so that lines rather than directions spread out.

    Source: Liu et al., NeurIPS 2018.
    """
