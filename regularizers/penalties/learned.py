"""CoMHE with learned projections: angle-preserving and adversarial."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from comhe.regularizers.draws import random_matrix
from comhe.regularizers.energies.cosines import gram, inverse_norms, normalised, scale_pairs, weighted_gram
from comhe.regularizers.energies.energy import energy_slope, exact, single
from comhe.regularizers.registry import register_regularizer
from comhe.regularizers.selection import Layer

from .mhe import EnergyRegularizer

Rate = float | Callable[[int], float]


class LearnedProjection(EnergyRegularizer):
    r"""A projection P [k, d] for each hidden layer, trained by gradient descent on an objective L of V = W P^T.

    ``"alternating"`` makes ``steps`` descent steps on P with the neurons held fixed, then takes the energy of P W.
    ``"unrolled"`` makes one step P' = P - rate dL/dP inside the loss instead, so that the gradient for W also flows
    through it, and carries P' on. ``"both"``, the released code, does the first and then takes the energy after a step
    of the second kind, which is not carried on. Layers with d <= k are not projected, nor is the output layer.

    With the gradient D = dL/dV from :meth:`push`, a step is :math:`P' = P - \eta (D^\top W + \gamma P)`, and what is
    seen through it is :math:`V' = (1 - \eta\gamma) V - \eta\, W W^\top D`. So once V and the Gram matrix are made, any
    number of steps, and the way back through the unrolled one, happen on N x N and N x k numbers; W is read again
    only for the new P and for its own gradient. Neither the steps nor the energy change with the neurons' lengths, so
    in V and the Gram matrix all neurons have length 1, unless ``eps`` gives their lengths a meaning.

    Args:
        dim: k.
        mode: ``"alternating"``, ``"unrolled"`` or ``"both"``.
        steps: descent steps on P per call.
        rate: learning rate of P, a number > 0 or a function of the step; the released code takes the network's.
        decay: weight decay on P in the alternating steps.
    """

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
        self._seen: dict[str, tuple[Tensor, Tensor | None]] = {}  # of the step under way
        self._rate_tensor: Tensor | None = None
        for layer in self.layers:
            if layer.role == "hidden" and layer.shape[-1] > dim:
                self.register_buffer(_key(layer), self._start(layer))

    def target(self, products: Tensor) -> Tensor | None:
        """What the objective compares V with, from the Gram matrix."""
        return None

    def push(self, v: Tensor, target: Tensor | None) -> Tensor:
        """Gradient D [..., N, k] of the objective with respect to V, differentiable with respect to both arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define push()")

    def takes_gram(self, w: Tensor) -> bool:
        """Whether the Gram matrix of neurons [..., N, d] is worth making."""
        return w.dim() == 2 and w.shape[0] <= w.shape[1]

    def projection(self, layer: Layer) -> Tensor | None:
        """The layer's P [k, d], None where the layer is not projected."""
        return self._buffers.get(_key(layer))

    def prepare(self) -> None:
        if self.mode != "unrolled":
            self._train(self.steps, self.decay)

    def finish(self) -> None:
        if self.mode == "unrolled":
            self._train(1, 0.0)  # the step that was unrolled in the loss, on the same neurons
        self._seen.clear()

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        projection = self.projection(layer)
        if projection is None:
            return self.energy(w, self.half_space)
        w = single(w)
        projection = layer.aligned(projection)
        if self.mode == "alternating":
            return self.energy(w @ projection.mT, self.half_space)
        if self.static and self.mode == "unrolled":
            projection = projection.clone()  # the step that follows is made in place, before the way back reads this
        scale, products = self._scaled(layer, w)
        products, v = _Seen.apply(w, projection, scale, products)
        push = self.push(v, self.target(products))
        return self.energy(v - self._rate() * _turned(w, scale, products, push), self.half_space)

    def _scaled(self, layer: Layer, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """What brings each neuron to length 1, [..., N, 1], or a bad one to 0; the Gram matrix of what it makes."""
        if layer.name in self._seen:
            return self._seen[layer.name]
        w = w.detach()
        products = gram(w) if self.takes_gram(w) else None
        squared = (w * w).sum(-1) if products is None else products.diagonal(dim1=-2, dim2=-1)
        if self.eps:
            most = torch.finfo(w.dtype).max ** 0.5  # slopes of slopes go with the third power of the length
            scale = ((squared > 1 / most) & (squared < most)).to(w.dtype)
        else:
            scale = inverse_norms(squared)
        if products is not None:
            scale_pairs(products, scale)
        return scale[..., None], products

    def _start(self, layer: Layer) -> Tensor:
        w = layer.neurons().detach()
        start = random_matrix((self.dim, w.shape[-1]), "gaussian", "cpu", self.seed, layer.name)
        return start.to(w.device, single(w[..., :0, :0]).dtype)

    def _train(self, steps: int, decay: float) -> None:
        for layer in self.own:
            projection = self.projection(layer)
            if projection is None:
                continue
            w = single(self.neurons(layer)).detach()
            with exact(w), torch.no_grad():
                # A model that was on the meta device when the regularizer was attached has its weights only now.
                projection = self._start(layer) if projection.is_meta else projection.to(w.device)
                projection = layer.aligned(projection)
                scale, products = self._seen[layer.name] = self._scaled(layer, w)
                target, rate = self.target(products), self._rate()
                keep, v, pushes = 1 - rate * decay, _projected(w, projection, scale), 0.0
                for _ in range(steps):
                    push = self.push(v, target)
                    pushes = keep * pushes + push
                    v = keep * v - rate * _turned(w, scale, products, push)
                projection = keep**steps * projection - rate * _over_sets((pushes * scale).mT @ w)
            self.carry(_key(layer), layer.aligned(projection, back=True))

    def draw(self) -> None:
        super().draw()
        if self.static:
            if self._rate_tensor is None:
                self._rate_tensor = torch.zeros((), device=self.device)
            self._rate_tensor.fill_(self.rate(self.step) if callable(self.rate) else self.rate)

    def _rate(self) -> float | Tensor:
        if self.static and self._rate_tensor is not None:
            return self._rate_tensor
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

    def takes_gram(self, w: Tensor) -> bool:
        return True

    def target(self, products: Tensor) -> Tensor:
        return normalised(products)

    def push(self, v: Tensor, target: Tensor) -> Tensor:
        """Gradient of L = |C(V) - C(W)|_F: with S = 2 dL/dC(V), it is M V, see weighted_gram."""
        products = v @ v.mT
        inverse = inverse_norms(products.diagonal(dim1=-2, dim2=-1))
        c = products * inverse[..., :, None] * inverse[..., None, :]
        if self.loss == "cosine":
            change, rate = c - target, 1.0
        else:
            angles, rate = _angles(c)
            change = angles - _angles(target)[0]
        norm = (change.square().sum() + torch.finfo(v.dtype).tiny).sqrt()  # the root has a slope at 0 too
        return weighted_gram(2 * change * rate / norm, c, inverse) @ v


@register_regularizer("adv-comhe")
class AdversarialProjection(LearnedProjection):
    r"""CoMHE with adversarial projections: P looks for the space in which the neurons crowd most.

    .. math:: \min_W \max_P E_s(P W)

    As in the released code P ascends the full-space energy while W descends the half-space one.

    Source: Lin et al., CVPR 2020.
    """

    def __init__(self, model: nn.Module, *, steps: int = 10, **options) -> None:
        super().__init__(model, steps=steps, **options)

    def push(self, v: Tensor, target: None) -> Tensor:
        """Gradient of -E(V) in the full space."""
        return -energy_slope(v, self.s, eps=self.eps, **self._options)


class _Seen(torch.autograd.Function):
    """The Gram matrix, handed in where it is known, and V, with one accumulated gradient for W; the scale is given."""

    @staticmethod
    def forward(w: Tensor, projection: Tensor, scale: Tensor, products: Tensor | None) -> tuple[Tensor | None, Tensor]:
        return None if products is None else products.view_as(products), _projected(w, projection, scale)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_products: Tensor | None, grad_v: Tensor) -> tuple[Tensor, None, None, None]:
        w, projection, scale = ctx.saved_tensors
        with exact(w):
            grad = (grad_v * scale) @ projection
            if grad_products is not None:
                weights = (grad_products + grad_products.mT) * (scale * scale.mT)
                bound = torch.finfo(w.dtype).max / 4
                weights.clamp_(-bound, bound)  # duplicates of small length: no infinities to cancel
                if w.dim() == 2:
                    grad.addmm_(weights, w)  # saves a pass over the neurons
                else:
                    grad += weights @ w
        return grad, None, None, None


def _projected(w: Tensor, projection: Tensor, scale: Tensor) -> Tensor:
    return (w @ projection.mT * scale).masked_fill(scale == 0, 0)


def _turned(w: Tensor, scale: Tensor, products: Tensor | None, push: Tensor) -> Tensor:
    r"""What the change of P, :math:`\sum W^\top D` over the sets that share it, does to V."""
    if products is None or w.dim() > 2:
        return w @ _over_sets((push * scale).mT @ w).mT * scale
    return products @ push


def _over_sets(changes: Tensor) -> Tensor:
    """[..., k, d] -> [k, d]: the sets of neurons of a layer (groups, gates) share its projection."""
    return changes.sum(tuple(range(changes.dim() - 2))) if changes.dim() > 2 else changes


def _angles(c: Tensor) -> tuple[Tensor, Tensor]:
    """Angles in radians off the diagonal, 0 on it, and their slope in the cosine; finite at parallel pairs."""
    edge = 1 - 8 * torch.finfo(c.dtype).eps
    off_diagonal = 1 - torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)
    c = (c * off_diagonal).clamp(-edge, edge)
    return c.acos() * off_diagonal, -(1 - c * c).rsqrt()


def _key(layer: Layer) -> str:
    return f"projection:{layer.name.replace('.', '/')}"
