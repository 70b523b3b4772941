import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from comhe.errors import UsageError, check_choice, check_count
from comhe.regularizers.draws import DISTRIBUTIONS, Distribution, Draws
from comhe.regularizers.energies.batched import weighted_energies
from comhe.regularizers.energies.span import span_energies, span_sums
from comhe.regularizers.energies.terms import Terms
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .energy_penalty import EnergyPenalty
from .penalty import Member

POOL = "all projections"  # the key of their common memory
JOINED = 2**21  # numbers of matrices of N neurons that are factorized together, with zeros added to the smaller ones


@register_regularizer("rp-comhe")
class RandomProjection(EnergyPenalty):
    r"""CoMHE with random projections: the energy of the neurons seen in random low-dimensional spaces.

    .. math:: E = \frac{1}{C} \sum_{c=1}^{C} E_s(W P_c^\top), \qquad P_c \in \mathbb{R}^{k \times d}

    with independent entries of variance 1, drawn again every ``redraw`` steps. A layer with d <= k is not projected,
    nor is the output layer. A Gaussian projection to k dimensions keeps angles: with probability at least
    :math:`(1 - 2 e^{-k\epsilon^2/8})^2`,
    :math:`(\cos t - \epsilon)/(1 + \epsilon) < \cos t_P < (\cos t + \epsilon)/(1 - \epsilon)`.

    Args:
        dim: dimensions k of a projection.
        count: number C of projections.
        redraw: steps between two draws.
        distribution: ``"gaussian"``, or ``"ternary"`` for sparse entries of -1, 0, 1 times the square root of 3.
        shared: layers of equal input width d use the same projections, as in the released code.
        across: ``"mean"`` over the C projections, or ``"max"`` for the worst of them.
        span: draw each P only within the span of the layer's neurons (for N < d). For Gaussian entries the projected
            neurons, so the energies, have exactly the same distribution, from N k numbers instead of d k; the gradient
            is its conditional mean: what an ordinary draw adds to it is noise orthogonal to all neurons of the layer.
            What layers share then are the numbers: one with N neurons takes the first N columns of a single draw.
            None, the default, does so where it is exact: for Gaussian entries, ``eps=0``. False is the released form.
            In the span a step takes less time on a CPU, and more on a GPU (``benchmarks/README.md``).

    Source: Lin et al., *Regularizing Neural Networks via Minimizing Hyperspherical Energy*, CVPR 2020.
    """

    projects = True

    def __init__(
        self,
        *,
        dim: int = 40,
        count: int = 20,
        redraw: int = 1,
        distribution: Distribution = "gaussian",
        shared: bool = True,
        across: Literal["mean", "max"] = "mean",
        span: bool | None = None,
        **options: Any,
    ) -> None:
        self.dim = dim
        super().__init__(**options)
        check_count("count", count, 1)
        check_count("redraw", redraw, 1)
        check_choice("distribution", distribution, DISTRIBUTIONS)
        check_choice("across", across, ("mean", "max"))
        if span and distribution != "gaussian":
            raise UsageError(f"span=True is exact for 'gaussian' projections only, not for {distribution!r}")
        if span and self.eps:
            raise UsageError(f"span=True drops the norms that eps={self.eps} is added to; give one of them")
        self.count, self.redraw, self.distribution, self.shared = count, redraw, distribution, shared
        self.across = across
        self.span = distribution == "gaussian" and not self.eps if span is None else span
        self.ordered = not self.span

    def draw(self, layers: Sequence[Layer], draws: Draws) -> None:
        super().draw(layers, draws)
        drawn = dict(self._key(layer, draws) for layer in layers if self.is_projected(layer))
        if drawn:
            shapes = {key: (self.count, self.dim, columns) for key, columns in drawn.items()}
            draws.pool(POOL, shapes, self.distribution, self.redraw)

    def projections(self, layer: Layer, draws: Draws) -> Tensor:
        """The step's projections of a layer, ``[count, dim, d]``, or ``[count, dim, N]`` within the neurons' span."""
        return draws[self._key(layer, draws)[0]][..., : self._width(layer)]

    def energies(self, w: Tensor, layer: Layer, draws: Draws) -> Tensor:
        """Energies [..., C] of a layer's neurons [..., N, d] under its projections."""
        if self._is_inside(layer):
            return self._energies_in_span([w], layer, draws).view(*w.shape[:-2], self.count)
        projections = self.projections(layer, draws).to(w)
        return self.projected_energy(lambda w: self._project(projections, w), w, math.sqrt(self.dim))

    def projected(self, w: Tensor, layer: Layer, draws: Draws) -> tuple[Tensor, Terms] | None:
        if self._is_inside(layer) or self.across != "mean":
            return None
        return self._project(self.projections(layer, draws), w), self.projected_terms(w, math.sqrt(self.dim))

    def projected_value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        return self._across(self.energies(w, layer, draws))

    def values(self, members: Sequence[Member], draws: Draws) -> list[tuple[Tensor, Tensor | None]]:
        """Within their spans, layers of equally many neurons that share their draws are one batch."""
        energies: dict[str, Tensor] = {}
        for batch in self._in_spans(members) if self.shared else ():
            neurons = [member.w for member in batch]
            found = self._energies_in_span(neurons, batch[0].layer, draws).split([_sets(w) for w in neurons])
            shaped = zip(batch, found, strict=True)
            energies |= {m.layer.name: one.view(*m.w.shape[:-2], self.count) for m, one in shaped}
        return [
            (self._across(energies[layer.name]) if layer.name in energies else self.value(w, layer, None, draws), None)
            for layer, w, _ in members
        ]

    def batched(self, members: Sequence[Member], draws: Draws) -> tuple[list[Tensor], list[Member]]:
        values, rest = super().batched(members, draws)
        if not self.shared or self.across != "mean":
            return values, rest
        batches = self._joined(self._in_spans(self.on_kernels(rest, draws)), draws)
        for batch in batches:
            layers, neurons = [member.layer for member in batch], [member.w for member in batch]
            coordinates = max((self.projections(layer, draws) for layer in layers), key=lambda draw: draw.shape[-1])
            sums = span_sums(neurons, coordinates, self.terms()).mean(-1)
            shapes = [(_sets(w), w.shape[-2]) for w in neurons]
            weights = draws.weights(layers)
            values.append(weighted_energies(sums, shapes, weights, self.terms().potential, self.reduction))
        done = {member.layer.name for batch in batches for member in batch}
        return values, [member for member in rest if member.layer.name not in done]

    def cost(self, layer: Layer) -> float:
        if not self.is_projected(layer):
            return super().cost(layer)
        n, d = self.sampled_shape(layer)
        numbers = self.count * self.dim * n  # of the projected neurons
        cost = n * n * d + 2 * n * numbers if self._is_inside(layer) else (d + n) * numbers
        return cost * math.prod(layer.shape[:-2])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, count={self.count}, redraw={self.redraw}, span={self.span}, {super().extra_repr()}"

    def _project(self, projections: Tensor, w: Tensor) -> Tensor:
        projected = projections.to(w).flatten(0, 1) @ w.mT  # all C at once, [..., C k, N], with no need to be copied
        return projected.unflatten(-2, (self.count, self.dim)).mT

    def _in_spans(self, members: Sequence[Member]) -> list[list[Member]]:
        """Those that are seen within their spans, by the number of neurons and what is computed with."""
        batches: dict[tuple, list[Member]] = {}
        for member in members:
            if self.is_projected(member.layer) and self._is_inside(member.layer):
                batches.setdefault((member.w.shape[-2], member.w.dtype, member.w.device), []).append(member)
        return list(batches.values())

    def _joined(self, batches: Sequence[list[Member]], draws: Draws) -> list[list[Member]]:
        """Batches of the same draws as one, as long as their matrices stay few: there are fewer launches."""
        joined: list[list[Member]] = []
        for batch in sorted(batches, key=lambda batch: -batch[0].w.shape[-2]):
            key = self._key(batch[0].layer, draws)
            if joined and key == self._key(joined[-1][0].layer, draws):
                both = [*joined[-1], *batch]
                if sum(_sets(member.w) for member in both) * both[0].w.shape[-2] ** 2 <= JOINED:
                    joined[-1] = both
                    continue
            joined.append(batch)
        return joined

    def _energies_in_span(self, neurons: Sequence[Tensor], layer: Layer, draws: Draws) -> Tensor:
        coordinates = self.projections(layer, draws).to(neurons[0])
        return span_energies(neurons, coordinates, self.terms(), self.reduction)

    def _across(self, energies: Tensor) -> Tensor:
        return energies.mean(-1) if self.across == "mean" else energies.amax(-1)

    def _is_inside(self, layer: Layer) -> bool:
        """Whether the layer's projections are drawn within the span of its neurons."""
        n, d = self.sampled_shape(layer)
        return self.span and max(n, self.dim) < d

    def _width(self, layer: Layer) -> int:
        n, d = self.sampled_shape(layer)
        return n if self._is_inside(layer) else d

    def _key(self, layer: Layer, draws: Draws) -> tuple[int | str, int]:
        """What a layer's projections are known by, and how many columns are drawn of them."""
        width = self._width(layer)
        if self.span and self.shared:
            shapes = [other.shape[-2:] for other in draws.layers if other.role == "hidden"]
            widest = max((n for n, d in shapes if max(n, self.dim) < d), default=0)
            if width <= widest:  # fewer neurons take the first columns: no number is drawn twice
                return widest, widest
        return (width if self.shared else layer.name), width


def _sets(w: Tensor) -> int:
    return w.shape[:-2].numel()
