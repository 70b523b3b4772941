"""CoMHE with random projections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from comhe.regularizers.draws import DISTRIBUTIONS, Distribution, random_matrix
from comhe.regularizers.energies.energy import exact, single
from comhe.regularizers.energies.kernels import Pool, runs_on
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.span import span_energies
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .mhe import EnergyRegularizer


@register_regularizer("rp-comhe")
class RandomProjection(EnergyRegularizer):
    r"""CoMHE with random projections: the energy of the neurons seen in random low-dimensional spaces.

    .. math:: E = \frac{1}{C} \sum_{c=1}^{C} E_s(W P_c^\top), \qquad P_c \in \mathbb{R}^{k \times d}

    with independent entries of variance 1, drawn anew every ``redraw`` steps. A layer with d <= k is not projected,
    nor is the output layer. A Gaussian projection to k dimensions keeps angles: with probability at least
    :math:`(1 - 2 e^{-k\epsilon^2/8})^2`,
    :math:`(\cos t - \epsilon)/(1 + \epsilon) < \cos t_P < (\cos t + \epsilon)/(1 - \epsilon)`.

    Args:
        dim: k, the dimension projected to.
        count: C, how many projections the energy is averaged over.
        redraw: steps between two draws.
        distribution: ``"gaussian"``, or ``"ternary"`` for sparse entries of -1, 0, 1 times the square root of 3.
        shared: layers of equal input width d use the same projections, as in the released code.
        across: ``"mean"`` over the C projections, or ``"max"`` for the worst of them.
        span: draw each P only within the span of the layer's neurons (for N < d). For Gaussian entries the projected
            neurons, so the energies, have exactly the same distribution, from N k numbers instead of d k; the gradient
            is its conditional mean: what an ordinary draw adds to it is noise orthogonal to all neurons of the layer.
            What layers share then are the numbers: one with N neurons takes the first N columns of a single draw.
            Excludes ``"ternary"``.

    Source: Lin et al., *Regularizing Neural Networks via Minimizing Hyperspherical Energy*, CVPR 2020.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dim: int = 40,
        count: int = 20,
        redraw: int = 1,
        distribution: Distribution = "gaussian",
        shared: bool = True,
        across: Literal["mean", "max"] = "mean",
        span: bool = False,
        **options,
    ) -> None:
        super().__init__(model, **options)
        if dim < 2:
            raise ValueError(f"dim must be at least 2: a projection to {dim} dimension(s) leaves no angles")
        if count < 1 or redraw < 1:
            raise ValueError(f"count and redraw must be at least 1, not {count} and {redraw}")
        if distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution must be one of {', '.join(DISTRIBUTIONS)}, not {distribution!r}")
        if across not in ("mean", "max"):
            raise ValueError(f"across must be 'mean' or 'max', not {across!r}")
        if span and distribution != "gaussian":
            raise ValueError(f"span=True is exact for 'gaussian' projections only, not for {distribution!r}")
        if span and self.eps:
            raise ValueError(f"span=True drops the norms that eps={self.eps} is added to; give one of them")
        self.dim, self.count, self.redraw = dim, count, redraw
        self.distribution, self.across, self.span = distribution, across, span
        self.shared = shared
        self.ordered = not span
        shapes = [layer.shape[-2:] for layer in self.layers if layer.role == "hidden"]
        self._widest = max((n for n, d in shapes if max(n, dim) < d), default=0)
        self._drawn: tuple[tuple, dict] = ((), {})
        self._pool: Tensor | None = None  # all of them, on a GPU
        self._pooled: tuple[int, int] | None = None  # the draw that they are of
        self._made: dict[str, Tensor] = {}  # energies of the step under way

    def prepare(self) -> None:
        """Layers of equally many neurons that share their draws go together."""
        if not (self.span and self.shared) or self.singly:
            return
        together: dict[tuple, list[tuple[Layer, Tensor]]] = {}
        for layer in self.own:
            if layer.role == "hidden" and self.weight_of(layer) and self._is_inside(layer):
                w = single(self.neurons(layer))
                together.setdefault((w.shape[-2], w.dtype, w.device), []).append((layer, w))
        for members in together.values():
            layers, neurons = zip(*members, strict=True)
            with exact(neurons[0]):
                self._made |= zip((layer.name for layer in layers), self._in_span(layers[0], neurons), strict=True)

    def finish(self) -> None:
        self._made.clear()

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        if w.shape[-1] <= self.dim:
            return self.energy(w, self.half_space)
        energies = self.energies(layer, single(w))
        return energies.mean(-1) if self.across == "mean" else energies.amax(-1)

    def energies(self, layer: Layer, w: Tensor) -> Tensor:
        """Energies [..., C] of neurons [..., N, d] under the step's projections."""
        if layer.name in self._made:
            return self._made[layer.name]
        if self._is_inside(layer):
            return self._in_span(layer, [w])[0]
        projections = self.projections(layer, w.shape[-1], w.device).to(w.dtype)
        projected = projections.flatten(0, 1) @ w.mT  # all C at once, [..., C k, N], in no need of being copied
        return self.energy(projected.unflatten(-2, (self.count, self.dim)).mT, self.half_space)

    def _in_span(self, layer: Layer, neurons: Sequence[Tensor]) -> list[Tensor]:
        n = neurons[0].shape[-2]
        draws = self.projections(layer, n, neurons[0].device).to(neurons[0].dtype)
        return span_energies(neurons, draws, self.s, self.half_space, **self._options)

    def projections(self, layer: Layer, width: int, device: torch.device) -> Tensor:
        """The step's projections ``[count, dim, width]`` for a layer, a function of the seed and the draw's number."""
        if self._drawn[0] != self._draw_number():
            self._drawn = (self._draw_number(), {})
        (key, drawn), made = self._key(layer, width), self._drawn[1]
        if key not in made or made[key].device != device:
            made[key] = self._matrix(drawn, device, key)
        return made[key][..., :width]

    def draw(self) -> None:
        """On a GPU all layers' projections are made here, one after the other in memory."""
        super().draw()
        number = self._draw_number()
        if self._pooled == number or not (self.static or runs_on(self.device)):
            return
        sizes: dict[int | str, int] = {}
        for layer in self.own:
            if self._is_projected(layer):
                n, d = self._shape(layer)
                key, drawn = self._key(layer, n if self._is_inside(layer) else d)
                sizes[key] = drawn
        if not sizes:
            return
        parts = [self._matrix(width, self.device, key).flatten() for key, width in sizes.items()]
        pool = torch.cat(parts, out=self._pool if self.static else None)
        self._pool, self._pooled = pool, number
        views = pool.split([len(part) for part in parts])
        shaped = (view.view(self.count, self.dim, -1) for view in views)
        self._drawn = (number, dict(zip(sizes, shaped, strict=True)))

    def cost(self, layer: Layer) -> float:
        if not self._is_projected(layer):
            return super().cost(layer)
        n, d = self._shape(layer)
        projected = self.count * self.dim * n  # numbers
        cost = n * n * d + 2 * n * projected if self._is_inside(layer) else (d + n) * projected
        return cost * math.prod(layer.shape[:-2])

    def joins(self, layer: Layer) -> bool:
        return not self._is_projected(layer) or (self.across == "mean" and not self._is_inside(layer))

    def taken_together(self, members: list[tuple[int, Tensor]], potential: Potential) -> list[Tensor]:
        seen = [member for member in members if self._is_projected(self.layers[member[0]])]
        plain = [member for member in members if not self._is_projected(self.layers[member[0]])]
        matrices = [self.projections(self.layers[place], w.shape[-1], w.device) for place, w in seen]
        places = tuple(matrix.storage_offset() for matrix in matrices)
        pool = Pool(self._pool, places, self.count, self.dim)
        return self.summed(seen, potential, pool) + self.summed(plain, potential)

    def _draw_number(self) -> tuple[int, int]:
        return self.seed, self.step // self.redraw

    def _matrix(self, width: int, device: torch.device, key: int | str) -> Tensor:
        return random_matrix((self.count, self.dim, width), self.distribution, device, *self._draw_number(), key)

    def _key(self, layer: Layer, width: int) -> tuple[int | str, int]:
        """What a layer's projections are known by, and how many columns are drawn of them."""
        if self.span and self.shared and width <= self._widest:
            return self._widest, self._widest  # fewer neurons take the first columns: no number is drawn twice
        return (width if self.shared else layer.name), width

    def _shape(self, layer: Layer) -> tuple[int, int]:
        n, d = layer.shape[-2:]
        return min(n, self.sample or n), d

    def _is_projected(self, layer: Layer) -> bool:
        return layer.role == "hidden" and layer.shape[-1] > self.dim

    def _is_inside(self, layer: Layer) -> bool:
        n, d = self._shape(layer)
        return self.span and max(n, self.dim) < d

    def extra_repr(self) -> str:
        return f"dim={self.dim}, count={self.count}, redraw={self.redraw}, span={self.span}, {super().extra_repr()}"
