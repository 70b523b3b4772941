"""MHE and half-space MHE: the energy of the neurons as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from comhe.regularizers.draws import random_order
from comhe.regularizers.energies.batched import weighted_energy
from comhe.regularizers.energies.energy import hyperspherical_energy, single
from comhe.regularizers.energies.kernels import PRECISIONS, Pool, Precision, runs_on, usable
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.regularizer import Regularizer
from comhe.regularizers.selection import Layer


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
        precision: of products on a GPU, see :func:`hyperspherical_energy`.
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
        precision: Precision = "fp32",
        **options,
    ) -> None:
        super().__init__(model, **options)
        if sample is not None and sample < 2:
            raise ValueError(f"sample must be at least 2 neurons, not {sample}")
        self.sample = sample
        Potential(float(s), geodesic)  # its error, now rather than in the first step
        for name, value, known in (("reduction", reduction, ("mean", "sum")), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, not {value!r}")
        self.s, self.half_space, self.eps = s, half_space, eps
        self._options = {"geodesic": geodesic, "reduction": reduction}
        self.precision = precision

    def neurons(self, layer: Layer) -> Tensor:
        w = super().neurons(layer)
        if self.sample is None or w.shape[-2] <= self.sample:
            return w
        return w.index_select(-2, self.random((layer.name, "sample"), lambda: self._choose(layer, w.device)))

    def _choose(self, layer: Layer, device: torch.device) -> Tensor:
        order = random_order(layer.shape[-2], device, self.seed, self.step, layer.name, "sample")
        return order[: self.sample].sort().values

    def jointly(self, places: list[int]) -> tuple[list[Tensor], list[int]]:
        """On a GPU all layers of one role go through the kernels together."""
        if self.eps or not runs_on(self.device):
            return [], places
        terms, rest = [], []
        for role in ("hidden", "output"):
            potential = Potential(self.s, self._options["geodesic"], self.half_space and role == "hidden")
            members = []
            for place in (place for place in places if self.layers[place].role == role):
                layer = self.layers[place]
                if self.joins(layer) and usable(w := single(self.neurons(layer)), potential):
                    members.append((place, w))
                else:
                    rest.append(place)
            terms += self.taken_together(members, potential)
        return terms, rest

    def joins(self, layer: Layer) -> bool:
        """Whether a layer can be taken together with others: its penalty is the plain energy."""
        return layer.role == "output" or type(self).hidden is EnergyRegularizer.hidden

    def taken_together(self, members: list[tuple[int, Tensor]], potential: Potential) -> list[Tensor]:
        """Weighted penalties of layers of one role, each given by its place and its neurons."""
        return self.summed(members, potential)

    def summed(
        self, members: list[tuple[int, Tensor]], potential: Potential, projections: Pool | None = None
    ) -> list[Tensor]:
        if not members:
            return []
        places, neurons = zip(*members, strict=True)
        reduction = self._options["reduction"]
        return [weighted_energy(neurons, self.weights(places), potential, reduction, self.precision, projections)]

    def energy(self, w: Tensor, half_space: bool) -> Tensor:
        return hyperspherical_energy(w, self.s, half_space, eps=self.eps, precision=self.precision, **self._options)

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
