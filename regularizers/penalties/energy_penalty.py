"""What the energy regularizers share."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from comhe.errors import UsageError, check_at_least, check_choice, check_count
from comhe.regularizers.draws import Draws
from comhe.regularizers.energies.batched import batched_energies
from comhe.regularizers.energies.checks import PRECISIONS, Precision
from comhe.regularizers.energies.energy import energies
from comhe.regularizers.energies.kernels import runs_on, usable
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.sums import can_branch
from comhe.regularizers.energies.terms import Terms, projection_error
from comhe.regularizers.energies.transforms import is_transformed
from comhe.regularizers.selection import Layer

from .penalty import MIN_NORM, Member, Penalty

MANY = 5e11  # multiplications for the energy of a layer: seconds of a core


class EnergyPenalty(Penalty):
    """Hidden layers have one energy, which a subclass may take through projections; the output layer the plain one.

    Args:
        s, geodesic, reduction, eps, precision: see :func:`hyperspherical_energy`.
            The weights 1 and 10 are the released code's for all but geodesic s = 1 and 2, where it has 0.1 and 1.
        min_norm: the least length that a neuron counts with, 0 for none; of a projected neuron, times the root of the
            projection's mean square. Layers of longer neurons do not change. It also bounds what a step does to a set
            with neurons of nearly no length, such as a zeroed head; see :mod:`comhe.regularizers.bound`.
        half_space: whether the *hidden* layers count every neuron's negative. The output layer never does: classes
            that point opposite ways are as they should be.
        sample: layers with more neurons than this are represented by that many of them, drawn in every step: an
            unbiased estimate of the mean over pairs in the full space; in the half space antipodal pairs weigh more.
    """

    default_output_weight = 10.0
    ordered = False
    dim = sys.maxsize  # of the space that hidden layers are projected to

    def __init__(
        self,
        *,
        s: float = 2,
        geodesic: bool = False,
        half_space: bool = True,
        reduction: Literal["mean", "sum"] = "mean",
        eps: float = 0.0,
        min_norm: float = MIN_NORM,
        sample: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        check_count("dim", self.dim, 2)  # a projection to one dimension leaves no angles
        check_count("sample", 2 if sample is None else sample, 2)
        if sample is not None and reduction == "sum":
            raise UsageError(f"sample={sample} has fewer pairs to sum over than all neurons have; use reduction='mean'")
        check_at_least("eps", eps, 0)
        check_at_least("min_norm", min_norm, 0)
        check_choice("reduction", reduction, ("mean", "sum"))
        check_choice("precision", precision, PRECISIONS)
        self.s, self.geodesic = Potential(s, geodesic).s, geodesic  # raises its error now rather than in the first step
        self.half_space, self.reduction = half_space, reduction
        self.eps, self.min_norm, self.sample, self.precision = float(eps), float(min_norm), sample, precision

    def is_projected(self, layer: Layer) -> bool:
        return layer.role == "hidden" and layer.shape[-1] > self.dim

    def doubts(self, layers: Sequence[Layer]) -> Iterator[str]:
        yield from super().doubts(layers)
        hidden = [layer for layer in layers if layer.role == "hidden"]
        if self.projects and hidden and not any(map(self.is_projected, hidden)):
            width = max(layer.shape[-1] for layer in hidden)
            small = "groups" if self.dim == sys.maxsize else f"dim={self.dim}"
            yield f"no layer is projected, as no neuron has more than {width} inputs, too few for {small}"
        for layer in layers if self.sample is None else ():
            if self.cost(layer) > MANY:
                n, d = layer.shape[-2:]
                yield (
                    f"{layer.name} has {n:,} neurons of {d:,} inputs, and each step takes all their pairs; sample=1024 "
                    f"takes that many neurons a step, exclude={layer.name!r} none"
                )

    def projected_value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        """The energy of a layer that is seen through projections."""
        raise NotImplementedError

    def terms(self, half_space: bool | None = None, stretch: float = 1.0) -> Terms:
        """What the energy is made of, in the hidden layers' space unless told otherwise.

        ``stretch`` is how much longer projected neurons are, in the root mean square.
        """
        half_space = self.half_space if half_space is None else half_space
        potential = Potential(self.s, self.geodesic, half_space)
        return Terms(potential, self.eps, stretch * self.min_norm, precision=self.precision)

    def energy(self, w: Tensor, half_space: bool | None = None, stretch: float = 1.0) -> Tensor:
        """The energy of neurons [..., N, d] -> [...]; see :meth:`terms`."""
        return energies(w, self.terms(half_space, stretch), self.reduction)[0]

    def projected_terms(self, w: Tensor, stretch: float) -> Terms:
        """What the energy of projected neurons w is made of: within their rounding they count as parallel."""
        return replace(self.terms(stretch=stretch), parallel=projection_error(w))

    def projected_energy(self, project: Callable[[Tensor], Tensor], w: Tensor, stretch: float) -> Tensor:
        """The energy of ``project(w)``, in float64 if any neurons are near each other: then nothing is lost on the way.

        On a GPU, where nothing may depend on that, projected neurons within their rounding count as parallel.
        """
        terms = self.projected_terms(w, stretch)
        if not can_branch(w) or w.dtype == torch.float64:
            return energies(project(w), terms, self.reduction)[0]
        value, near = energies(project(w), terms, self.reduction)
        if not near:
            return value
        exact = replace(terms, rows=w.dtype, parallel=0.0)
        return energies(project(w.double()), exact, self.reduction)[0].to(w.dtype)

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        if self.is_projected(layer):
            return self.projected_value(w, layer, state, draws)
        return self.energy(w, self.half_space and layer.role == "hidden")

    def draw(self, layers: Sequence[Layer], draws: Draws) -> None:
        for layer in layers:
            if self.sample is not None and layer.shape[-2] > self.sample:
                draws.subset((layer.name, "sample"), layer.shape[-2], self.sample)

    def select(self, w: Tensor, layer: Layer, draws: Draws) -> Tensor:
        key = (layer.name, "sample")
        return w.index_select(-2, draws[key].to(w.device)) if key in draws else w

    def sampled_shape(self, layer: Layer) -> tuple[int, int]:
        """Neurons of a set that are looked at, and their dimensions."""
        n, d = layer.shape[-2:]
        return min(n, self.sample or n), d

    def projected(self, w: Tensor, layer: Layer, draws: Draws) -> tuple[Tensor, Terms] | None:
        """Neurons [..., C, N, k] and the terms of their energies, if the layer's value is the mean of these."""
        return None

    def on_kernels(self, members: Sequence[Member], draws: Draws) -> list[Member]:
        """Those that the kernels may take together: float32 on the step's GPU; none if a transform sees any."""
        if not runs_on(draws.device) or any(is_transformed(member.w) for member in members):
            return []
        return [member for member in members if member.w.device == draws.device and member.w.dtype == torch.float32]

    def batched(self, members: Sequence[Member], draws: Draws) -> tuple[list[Tensor], list[Member]]:
        """On a GPU the kernels take all layers together that have the same terms."""
        alike: dict[Terms, list[tuple[Layer, Tensor]]] = {}
        for layer, w, _ in [] if self.geodesic else self.on_kernels(members, draws):
            seen: tuple[Tensor, Terms] | None = w, self.terms(self.half_space and layer.role == "hidden")
            if self.is_projected(layer):
                seen = self.projected(w, layer, draws)
            if seen is not None and usable(seen[0], seen[1].potential):
                alike.setdefault(seen[1], []).append((layer, seen[0]))
        values = [
            batched_energies([w for _, w in some], draws.weights([layer for layer, _ in some]), terms, self.reduction)
            for terms, some in alike.items()
        ]
        done = {layer.name for some in alike.values() for layer, _ in some}
        return values, [member for member in members if member.layer.name not in done]

    def scale(self, layer: Layer) -> float:
        return 1.0 if self.reduction == "mean" else 2.0 * self.terms().potential.pairs(layer.shape[-2])

    def extra_repr(self) -> str:
        return f"s={self.s:g}, half_space={self.half_space}"
