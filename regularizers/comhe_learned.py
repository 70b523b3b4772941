"""CoMHE with learned projections: angle-preserving and adversarial."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from .cosines import cosines, inverse_norms, weighted_gram
from .draws import random_matrix
from .energy import energy_slope, exact, single
from .mhe import EnergyRegularizer
from .registry import register_regularizer
from .selection import Layer

Rate = float | Callable[[int], float]


class LearnedProjection(EnergyRegularizer):
    """A projection P [k, d] for each hidden layer, trained by gradient descent along :meth:`slope`.

    ``"alternating"`` makes ``steps`` descent steps on P with the neurons held fixed, then takes the energy of P W.
    ``"unrolled"`` makes one step P' = P - rate dL/dP inside the loss instead, so that the gradient for W also flows
    through it, and carries P' on. ``"both"``, the released code, does the first and then takes the energy after a step
    of the second kind, which is not carried on. Layers with d <= k are not projected, nor is the output layer.

    Args:
        dim: k.
        mode: ``"alternating"``, ``"unrolled"`` or ``"both"``.
        steps: descent steps on P per call.
        rate: learning rate of P, a number > 0 or a function of the step; the released code takes the network's.
        decay: weight decay on P in the alternating steps.
    """

    ordered = True

    def __init__(
        self,
        model: nn.Module,
        *,
        dim: int = 30,
        mode: Literal["alternating", "unrolled", "both"] = "both",
        steps: int = 1,
        rate: Rate = 0.1,
        decay: float = 1e-3 * 5e-4,
        **options,
    ) -> None:
        super().__init__(model, **options)
        if dim < 2:
            raise ValueError(f"dim must be at least 2: a projection to {dim} dimension(s) leaves no angles")
        if mode not in ("alternating", "unrolled", "both"):
            raise ValueError(f"mode must be 'alternating', 'unrolled' or 'both', not {mode!r}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if not callable(rate) and not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"rate must be a finite number > 0 or a function of the step, not {rate!r}")
        if not decay >= 0:
            raise ValueError(f"decay must be >= 0, not {decay!r}")
        self.dim, self.mode, self.steps, self.rate, self.decay = dim, mode, steps, rate, decay
        self._targets: dict[str, Tensor | None] = {}
        for layer in self.layers:
            if layer.role == "hidden" and layer.shape[-1] > dim:
                self.register_buffer(_key(layer), self._start(layer))

    def target(self, w: Tensor) -> Tensor | None:
        """What the objective compares projections with; depends on the neurons alone, so it is made once a step."""
        return None

    def slope(self, w: Tensor, projection: Tensor, target: Tensor | None) -> Tensor:
        """Gradient [k, d] with respect to P of what P descends, differentiable with respect to w and target."""
        raise NotImplementedError(f"{type(self).__name__} must define slope()")

    def projection(self, layer: Layer) -> Tensor | None:
        """The layer's P [k, d], None where the layer is not projected."""
        return self._buffers.get(_key(layer))

    def prepare(self) -> None:
        if self.mode != "unrolled":
            self._train(self.steps, self.decay)

    def finish(self) -> None:
        if self.mode == "unrolled":
            self._train(1, 0.0)  # the step that was unrolled in the loss, on the same neurons
        self._targets.clear()

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        projection = self.projection(layer)
        if projection is None:
            return self.energy(w, self.half_space)
        w = single(w)
        if self.mode != "alternating":
            target = self._targets.get(layer.name)
            target = self.target(w) if target is None else target
            projection = projection - self._rate() * self.slope(w, projection, target)
        return self.energy(w @ projection.mT, self.half_space)

    def _start(self, layer: Layer) -> Tensor:
        w = layer.neurons().detach()
        start = random_matrix((self.dim, w.shape[-1]), "gaussian", "cpu", self.seed, layer.name)
        return start.to(w.device, single(w[..., :0, :0]).dtype)

    def _train(self, steps: int, decay: float) -> None:
        for layer in self.layers:
            projection = self.projection(layer)
            if projection is None:
                continue
            w = single(self.neurons(layer))
            with exact(w):
                with torch.set_grad_enabled(torch.is_grad_enabled() and self.mode == "both"):
                    target = self.target(w)
                self._targets[layer.name] = target  # in mode "both" the unrolled step needs it again, with its graph
                with torch.no_grad():
                    # A model that was on the meta device when the regularizer was attached has its weights only now.
                    projection = self._start(layer) if projection.is_meta else projection.to(w.device)
                    for _ in range(steps):
                        slope = self.slope(w, projection, target)
                        projection = projection - self._rate() * (slope + decay * projection)
            self._buffers[_key(layer)] = projection

    def _rate(self) -> float:
        return self.rate(self.step) if callable(self.rate) else self.rate

    def extra_repr(self) -> str:
        return f"dim={self.dim}, mode={self.mode!r}, steps={self.steps}, rate={self.rate}, {super().extra_repr()}"


@register_regularizer("ap-comhe")
class AnglePreservingProjection(LearnedProjection):
    r"""CoMHE with angle-preserving projections: P is trained to keep the angles between the neurons.

    .. math:: P^* = \arg\min_P \sum_{i \ne j} (\angle(u_i, u_j) - \angle(P u_i, P u_j))^2

    Args:
        loss: ``"cosine"``, the released code's surrogate :math:`\|C(PW) - C(W)\|_F` on the cosines, or ``"angle"``, the
            same norm of the differences of the angles themselves (in radians), minimal where the paper's sum is.

    Source: Lin et al., CVPR 2020.
    """

    def __init__(self, model: nn.Module, *, loss: Literal["cosine", "angle"] = "cosine", **options) -> None:
        super().__init__(model, **options)
        if loss not in ("cosine", "angle"):
            raise ValueError(f"loss must be 'cosine' or 'angle', not {loss!r}")
        self.loss = loss

    def target(self, w: Tensor) -> Tensor:
        return cosines(w)

    def slope(self, w: Tensor, projection: Tensor, target: Tensor) -> Tensor:
        """Gradient of L = |C(V) - C(W)|_F, V = W P^T: with S = 2 dL/dC(V), it is (M V)^T W, see weighted_gram."""
        v = w @ projection.mT
        gram = v @ v.mT
        inverse = inverse_norms(gram.diagonal(dim1=-2, dim2=-1))
        c = gram * inverse[..., :, None] * inverse[..., None, :]
        if self.loss == "cosine":
            change, rate = c - target, 1.0
        else:
            angles, rate = _angles(c)
            change = angles - _angles(target)[0]
        norm = (change.square().sum() + torch.finfo(w.dtype).tiny).sqrt()  # the root has a slope at 0 too
        push = weighted_gram(2 * change * rate / norm, c, inverse) @ v
        return _over_sets(push.mT @ w)


@register_regularizer("adv-comhe")
class AdversarialProjection(LearnedProjection):
    r"""CoMHE with adversarial projections: P looks for the space in which the neurons crowd most.

    .. math:: \min_W \max_P E_s(P W)

    As in the released code P ascends the full-space energy while W descends the half-space one.

    Source: Lin et al., CVPR 2020.
    """

    def __init__(self, model: nn.Module, *, steps: int = 10, **options) -> None:
        super().__init__(model, steps=steps, **options)

    def slope(self, w: Tensor, projection: Tensor, target: None) -> Tensor:
        """Gradient of -E(W P^T) in the full space."""
        push = energy_slope(w @ projection.mT, self.s, eps=self.eps, **self._options)
        return -_over_sets(push.mT @ w)


def _over_sets(slopes: Tensor) -> Tensor:
    """[..., k, d] -> [k, d]: the sets of neurons of a layer (groups, gates) share its projection."""
    return slopes.sum(tuple(range(slopes.dim() - 2))) if slopes.dim() > 2 else slopes


def _angles(c: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in radians off the diagonal, 0 on it, and their slope in the cosine; finite at parallel pairs."""
    edge = 1 - 8 * torch.finfo(c.dtype).eps
    off_diagonal = 1 - torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)
    c = (c * off_diagonal).clamp(-edge, edge)
    return c.acos() * off_diagonal, -(1 - c * c).rsqrt()


def _key(layer: Layer) -> str:
    return f"projection:{layer.name.replace('.', '/')}"
