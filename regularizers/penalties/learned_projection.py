"""What CoMHE's learned projections share."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, SupportsFloat

import torch
from torch import Tensor

from comhe.autograd import Operation
from comhe.errors import UsageError, check_at_least, check_choice, check_count
from comhe.regularizers.draws import Draws, random_matrix
from comhe.regularizers.energies.checks import autocast_disabled
from comhe.regularizers.energies.cosines import gram, inverse_norms, scale_pairs
from comhe.regularizers.energies.energy import KEEP, energies
from comhe.regularizers.energies.near import any_near, near_pairs
from comhe.regularizers.energies.span import LONG
from comhe.regularizers.energies.sums import can_branch
from comhe.regularizers.energies.terms import Terms, projection_error
from comhe.regularizers.selection import Layer

from .energy_penalty import EnergyPenalty
from .penalty import Member

Compare = Callable[[Tensor], tuple[Tensor, Tensor]]  # see comhe.regularizers.energies.matching
Rate = float | Callable[[int], float]
RATE = "learning rate"  # the key of the step's rate


class View(NamedTuple):
    """A layer's neurons and P in one precision, the neurons' scale and Gram matrix, and what counts of V."""

    w: Tensor
    projection: Tensor
    scale: Tensor
    products: Tensor | None
    terms: Terms


class LearnedProjection(EnergyPenalty):
    r"""A projection P [k, d] for each hidden layer, trained by gradient descent on an objective L of V = W P^T.

    ``"alternating"`` makes ``steps`` descent steps on P with the neurons held fixed, then takes the energy of W P^T.
    ``"unrolled"`` makes one step P' = P - rate dL/dP inside the loss instead, so that the gradient for W also flows
    through it, and keeps P' for the next step. ``"both"``, the released code, does the first and then takes the energy
    after a step of the second kind, which is not kept. Layers with d <= k are not projected, nor is the output layer.

    With the gradient D = dL/dV from :meth:`push`, a step is :math:`P' = P - \eta (D^\top W + \gamma P)`, and what is
    seen through it is :math:`V' = (1 - \eta\gamma) V - \eta\, W W^\top D`. So once V and the Gram matrix are known,
    any number of steps happen on N x N and N x k numbers; with more than 1,024 neurons there is no such matrix, and
    pairs are looked at by blocks. Neither they nor the energy change with the neurons' lengths, so in V and the Gram
    matrix these are in units of ``min_norm`` and at most 16 (without ``min_norm``, all are 1), unless ``eps`` gives
    them another meaning. A layer in which neurons are nearly parallel is computed in float64.

    P lives in all d dimensions, and not in the span of the neurons as a random projection may. For fixed neurons the
    energies have the same distribution there, and their gradients a seventh to a tenth of the noise. But P is kept: as
    the neurons move, so does their span, and P known by its action on it is another process. It disperses crowded
    neurons in fewer steps, at about the same cost, but raises the energy of random ones, which P in all dimensions
    lowers or leaves as it is (``benchmarks/span_estimator.csv``).

    Args:
        dim: dimensions k of the projection.
        mode: ``"alternating"``, ``"unrolled"`` or ``"both"``, see above.
        steps: descent steps on P for each of the neurons.
        rate: learning rate of P, a number > 0 or a function of the step; the released code takes the network's.
        decay: weight decay on P in the alternating steps.
    """

    state_name = "projection"
    projects = True
    ordered = True  # as the columns of P are
    follows_lr = "rate"
    compares: ClassVar[bool] = False  # whether the objective looks at the pairs of unprojected neurons

    def __init__(
        self,
        *,
        dim: int = 30,
        mode: Literal["alternating", "unrolled", "both"] = "both",
        steps: int = 1,
        rate: Rate = 0.1,
        decay: float = 1e-3 * 5e-4,
        **options: Any,
    ) -> None:
        self.dim = dim
        super().__init__(**options)
        check_choice("mode", mode, ("alternating", "unrolled", "both"))
        check_count("steps", steps, 1)
        check_at_least("decay", decay, 0)
        if not callable(rate) and not (isinstance(rate, SupportsFloat) and 0 < float(rate) < math.inf):
            raise UsageError(f"rate must be a finite number > 0 or a function of the step, not {rate!r}")
        self.mode, self.steps, self.rate, self.decay = mode, steps, rate, decay

    def target(self, w: Tensor, scale: Tensor, products: Tensor | None, terms: Terms) -> Compare | None:
        """What compares V with the scaled neurons, given their Gram matrix if it is small, and their lengths' terms."""
        return None

    def push(self, v: Tensor, target: Compare | None, terms: Terms) -> Tensor:
        """Gradient D [..., N, k] of the objective with respect to V, differentiable in V and in the neurons."""
        raise NotImplementedError

    def draw(self, layers: Sequence[Layer], draws: Draws) -> None:
        super().draw(layers, draws)
        draws.scalar(RATE, self.rate(draws.step) if callable(self.rate) else self.rate)

    def init(self, w: Tensor, layer: Layer, seed: int) -> Tensor | None:
        if not self.is_projected(layer):
            return None
        return random_matrix((self.dim, w.shape[-1]), "gaussian", "cpu", seed, layer.name).to(w)

    def update(self, w: Tensor, layer: Layer, state: Tensor, draws: Draws) -> Tensor:
        return self._trained(self._view(w, state), draws[RATE]).to(state.dtype)

    def projected_value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        assert state is not None  # init() has one for every projected layer
        view = self._view(w, state)
        return self._energy_through(view, view.projection, draws[RATE]).to(w.dtype)

    def values(self, members: Sequence[Member], draws: Draws) -> list[tuple[Tensor, Tensor | None]]:
        return [self._value_and_state(member, draws) for member in members]

    def extra_repr(self) -> str:
        return f"dim={self.dim}, mode={self.mode!r}, steps={self.steps}, rate={self.rate}, {super().extra_repr()}"

    def _value_and_state(self, member: Member, draws: Draws) -> tuple[Tensor, Tensor | None]:
        """One Gram matrix serves the steps on P, the energy and its gradient."""
        layer, w, state = member
        if state is None:
            return self.value(w, layer, None, draws), None
        view, rate = self._view(w, state), draws[RATE]
        with torch.no_grad():
            trained = self._trained(view, rate)
        value = self._energy_through(view, view.projection if self.mode == "unrolled" else trained, rate)
        return value.to(w.dtype), trained.to(state.dtype)

    def _energy_through(self, view: View, projection: Tensor, rate: float | Tensor) -> Tensor:
        """The energy seen through P, or after an unrolled step on it."""
        scale, products, terms = view.scale, view.products, view.terms
        if self.mode == "alternating":
            terms = replace(terms, min_norm=math.sqrt(self.dim) * self.min_norm)
            return energies(view.w @ projection.mT, terms, self.reduction)[0]
        products, v = _Projected.apply(view.w, projection, scale, products)
        push = self.push(v, self.target(view.w, scale, products, self._units(view)), terms)
        return energies(v - rate * _moved(view.w, scale, products, push), terms, self.reduction)[0]

    def _trained(self, view: View, rate: float | Tensor) -> Tensor:
        """P after its descent steps; with ``"unrolled"`` after the one that is unrolled in the loss."""
        steps, decay = (1, 0.0) if self.mode == "unrolled" else (self.steps, self.decay)
        w, projection, scale, products, terms = view
        w = w.detach()
        target = self.target(w, scale, products, self._units(view))
        keep, v = 1 - rate * decay, _project(w, projection, scale)
        pushes: float | Tensor = 0.0
        for _ in range(steps):
            push = self.push(v, target, terms)
            pushes = keep * pushes + push
            v = keep * v - rate * _moved(w, scale, products, push)
        return keep**steps * projection - rate * _over_sets((pushes * scale).mT @ w)

    @torch.no_grad()
    def _view(self, w: Tensor, projection: Tensor) -> View:
        """The layer as it is seen through P; in float64 if that is needed."""
        scale, products, near = self._scaled(w.detach())
        terms = replace(self.terms(), parallel=projection_error(w))
        if near:
            with torch.enable_grad():
                wide = w.double()
            scale, products, _ = self._scaled(wide.detach())
            terms, w, projection = replace(terms, rows=w.dtype, parallel=0.0), wide, projection.double()
        least = (self.min_norm if self.eps else 1.0) if self.min_norm else 0.0
        return View(w, projection, scale, products, replace(terms, min_norm=math.sqrt(self.dim) * least))

    def _units(self, view: View) -> Terms:
        """The lengths that the neurons of the Gram matrix count with, and not those of V."""
        return replace(view.terms, min_norm=view.terms.min_norm / math.sqrt(self.dim))

    def _scaled(self, w: Tensor) -> tuple[Tensor, Tensor | None, bool]:
        """What brings the neurons to their lengths here, [..., N, 1], or a bad one to 0; their Gram matrix after that.

        And whether any are so near each other that float64 is needed.
        """
        few = math.prod(w.shape[:-2]) * w.shape[-2] ** 2 <= KEEP**2
        products = gram(w) if few and (self.compares or (w.dim() == 2 and w.shape[0] <= w.shape[1])) else None
        squared = (w * w).sum(-1) if products is None else products.diagonal(dim1=-2, dim2=-1)
        inverse = inverse_norms(squared)
        if self.eps:
            most = torch.finfo(w.dtype).max ** 0.5  # second derivatives go with the third power of the length
            scale = ((squared <= 1 / most) | (squared >= most)).logical_not().to(w.dtype)  # of NaN, 1
        elif self.min_norm:
            scale = torch.where(inverse > 0, inverse * LONG, torch.inf).clamp_max(1 / self.min_norm)
            scale = scale.masked_fill(squared == torch.inf, 0.0)
        else:
            scale = inverse
        potential, looks = self.terms().potential, w.dtype != torch.float64 and can_branch(w)
        if products is None:
            return scale[..., None], None, looks and any_near(w, potential)
        scale_pairs(products, scale)
        near = False
        if looks:  # at the cosines, but for the diagonal
            sizes = torch.where(scale > 0, inverse / scale, 0.0)
            c = products * sizes[..., :, None] * sizes[..., None, :]
            c.diagonal(dim1=-2, dim2=-1).zero_()
            near = near_pairs(c, potential) is not None
        return scale[..., None], products, near


class _Projected(Operation):
    """The Gram matrix, computed before, and V; both gradients are accumulated into one for W. The scale is constant."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, projection: Tensor, scale: Tensor, products: Tensor | None) -> tuple[Tensor | None, Tensor]:
        return None if products is None else products.view_as(products), _project(w, projection, scale)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.save_for_forward(*inputs[:3])
        ctx.has_products = output[0] is not None
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad_products: Tensor | None, grad_v: Tensor) -> tuple[Tensor, None, None, None]:
        w, projection, scale = ctx.saved_tensors
        with autocast_disabled(w):
            grad = (grad_v * scale) @ projection
            if grad_products is not None:
                bound = torch.finfo(w.dtype).max / 4  # duplicates of small length: no infinities to cancel
                weights = ((grad_products + grad_products.mT) * (scale * scale.mT)).clamp(-bound, bound)
                if w.dim() == 2 and not torch.is_grad_enabled():
                    grad.addmm_(weights, w)  # saves a pass over the neurons
                else:
                    grad = grad + weights @ w
        return grad, None, None, None

    @staticmethod
    def jvp(ctx, change: Tensor, *_) -> tuple[Tensor | None, Tensor]:
        w, projection, scale = ctx.saved_tensors
        products = (change * scale) @ (w * scale).mT if ctx.has_products else None
        return None if products is None else products + products.mT, _project(change, projection, scale)


def _project(w: Tensor, projection: Tensor, scale: Tensor) -> Tensor:
    return (w @ projection.mT * scale).masked_fill(scale == 0, 0)


def _moved(w: Tensor, scale: Tensor, products: Tensor | None, push: Tensor) -> Tensor:
    r"""What the change of P, :math:`\sum W^\top D` over the sets that share it, does to V."""
    if products is None or w.dim() > 2:
        return w @ _over_sets((push * scale).mT @ w).mT * scale
    return products @ push


def _over_sets(changes: Tensor) -> Tensor:
    """[..., k, d] -> [k, d]: the sets of neurons of a layer (groups, gates) share its projection."""
    return changes.sum(tuple(range(changes.dim() - 2))) if changes.dim() > 2 else changes
