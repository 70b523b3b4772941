"""The protocol of a penalty: the mathematics of a regularizer, which knows of no model."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from comhe.regularizers.draws import Draws
from comhe.regularizers.selection import Layer

MIN_NORM = 0.01  # of a neuron: the square root of what the released code of CoMHE adds to squared norms


class Member(NamedTuple):
    """A layer in a step: its neurons [..., N, d] in float32 or float64, and what the penalty has learned for it."""

    layer: Layer
    w: Tensor
    state: Tensor | None


class Penalty:
    """A penalty on the neurons of a layer. Subclasses are registered with ``register_regularizer``.

    The keyword-only arguments of ``__init__`` are the options of the regularizer. A penalty defines ``function`` or
    ``value``; a random one ``draw`` as well, and one that learns ``init`` and ``update``:

    - ``function(w)``: neurons [..., N, d] -> [...], where nothing else is needed;
    - ``value(w, layer, state, draws)``: the same with the layer (``name``, ``role``, ``shape``), its state and draws;
    - ``draw(layers, draws)``: ask for random tensors, ``draws.normal(key, shape)``, to be read as ``draws[key]``;
    - ``init(w, layer, seed)``: the first state of a layer, one tensor (stack several quantities), or None;
    - ``update(w, layer, state, draws)``: the next state, of the same shape; called without a graph before ``value``.

    ``w`` is float32 or float64 with autocast off. Never call ``torch.randn`` in ``value``: ranks and resumed runs would
    draw other numbers. ``values`` and ``batched`` are for penalties that gain by seeing all layers at once.

    Attributes:
        default_weight, default_output_weight: of hidden layers and the output layer; None means the same weight.
        needs_layers: whether a model without any layer to regularize is an error.
        ordered: whether the order of the dimensions matters. If not, channels-last weights need no copy.
        state_name: prefix of the state's names in ``state_dict()``.
        projects: whether it sees some hidden layers through projections, those for which ``is_projected(layer)``.
        follows_lr: name of an option that `comhe train` sets to the network's learning rate on images and points, as a
            function of the step, unless it is given.
        min_norm: if not 0, what a step does to a set with neurons of nearly no length is bounded; see
            :func:`comhe.regularizers.bound.bound_gradient`.

    Example:
        >>> import torch
        >>> from comhe.regularizers import Penalty, Regularizer
        >>> class AwayFromMean(Penalty):  # @register_regularizer("away-from-mean") gives it a name
        ...     def __init__(self, *, momentum=0.9):
        ...         self.momentum = momentum
        ...     def init(self, w, layer, seed):
        ...         return w.mean(-2)
        ...     def update(self, w, layer, state, draws):
        ...         return self.momentum * state + (1 - self.momentum) * w.mean(-2)
        ...     def value(self, w, layer, state, draws):
        ...         return (w @ state[..., None]).square().mean((-2, -1))
        >>> class RandomDirection(Penalty):
        ...     def draw(self, layers, draws):
        ...         for layer in layers:
        ...             draws.normal((layer.name, "direction"), layer.shape[-1:])
        ...     def value(self, w, layer, state, draws):
        ...         return (w @ draws[layer.name, "direction"]).square().mean(-1)
        >>> model = torch.nn.Linear(4, 3)
        >>> loss = Regularizer(model, AwayFromMean(), weight=0.1)() + Regularizer(model, RandomDirection())()
    """

    name: str = ""
    default_weight: float = 1.0
    default_output_weight: float | None = None
    needs_layers: bool = True
    state_name: str = "state"
    ordered: bool = True
    projects: bool = False
    follows_lr: str | None = None
    min_norm: float = 0.0
    function: Callable[[Tensor], Tensor]

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        """The penalty of neurons [..., N, d], one value for each set of them, [...]."""
        return self.function(w)

    def draw(self, layers: Sequence[Layer], draws: Draws) -> None:
        """Ask ``draws``, by key, for the random tensors and scheduled numbers that these layers need in this step."""

    def init(self, w: Tensor, layer: Layer, seed: int) -> Tensor | None:
        """The first state of a layer, one tensor; None if it has none."""
        return None

    def update(self, w: Tensor, layer: Layer, state: Tensor, draws: Draws) -> Tensor:
        """The state that follows ``state`` in a step with these neurons."""
        return state

    def select(self, w: Tensor, layer: Layer, draws: Draws) -> Tensor:
        """Those of the layer's neurons that the penalty looks at in this step."""
        return w

    def values(self, members: Sequence[Member], draws: Draws) -> list[tuple[Tensor, Tensor | None]]:
        """Value and following state of each layer; one after another unless a subclass knows better."""
        states = [self.following_state(member, draws) for member in members]
        both = zip(members, states, strict=True)
        return [(self.value(w, layer, state, draws), state) for (layer, w, _), state in both]

    @torch.no_grad()
    def following_state(self, member: Member, draws: Draws) -> Tensor | None:
        """The member's state after :meth:`update`, if it has one."""
        layer, w, state = member
        return None if state is None else self.update(w.detach(), layer, state, draws)

    def batched(self, members: Sequence[Member], draws: Draws) -> tuple[list[Tensor], list[Member]]:
        """Weighted sums over those of the layers that one operation takes together, and the other layers."""
        return [], list(members)

    def cost(self, layer: Layer) -> float:
        """Multiplications of a layer's penalty, up to a factor that all layers share: those of its Gram matrix."""
        return math.prod(layer.shape) * layer.shape[-2]

    def is_projected(self, layer: Layer) -> bool:
        """Whether the layer is seen through projections."""
        return False

    def doubts(self, layers: Sequence[Layer]) -> Iterator[str]:
        """What to warn of before the first step on these layers."""
        for layer in layers if self.needs_layers else ():
            if getattr(layer.module, "sparse", False) is True:
                kind = type(layer.module).__name__
                yield (
                    f"{layer.name or kind} has sparse gradients, but those of the penalty are dense, which SparseAdam "
                    f"refuses; build this {kind} with sparse=False"
                )

    def scale(self, layer: Layer) -> float:
        """How large the penalty of a layer is beside a mean over pairs, whose weight is about 1."""
        return 1 / self.default_weight

    def extra_repr(self) -> str:
        """The options that identify the penalty in a report."""
        return ""


class FunctionPenalty(Penalty):
    """A penalty that is a pure function of the neurons and has no options."""

    def __init__(self, function: Callable[[Tensor], Tensor], name: str, default_weight: float, ordered: bool) -> None:
        self.function, self.name, self.default_weight, self.ordered = function, name, default_weight, ordered
