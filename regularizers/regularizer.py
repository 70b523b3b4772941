"""The plug: a penalty attached to the layers of a model."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from comhe.errors import UsageError

from .diagnostics import diagnose
from .draws import Draws, Memory
from .energies.checks import autocast_disabled, upcast
from .neurons import parametrizations_in_evaluation
from .penalties.penalty import Member, Penalty
from .report import LayerReport, Report
from .selection import FROZEN, Layer, Skipped, select
from .weights import Weight, check_number, check_weights


class Regularizer(nn.Module):
    r"""A penalty on the neurons of a model's layers; call it once per optimizer step and add the result to the loss.

    .. math:: \lambda_\mathrm{hidden} \sum_{l\ \mathrm{hidden}} P(W_l) + \lambda_\mathrm{output} P(W_\mathrm{output})

    The model's parameters are not the regularizer's. Its state is the number of steps and what the penalty learns;
    random tensors are functions of the seed and that number alone, hence equal on every rank and after a restart.

    A loop that records a CUDA graph sets ``capturable`` before the first step, so that tensors stay where they are in
    memory. It calls :meth:`draw` on the host, :meth:`value_and_grad` on the device, and counts ``step`` itself.

    Args:
        model: any module; see :func:`comhe.regularizers.neurons` for the layers that are understood.
        weight: a number >= 0 or a function of the step; None means the penalty's default.
        output_weight: the same; None means ``weight``, ``"default"`` the penalty's default.
        selection: see :func:`comhe.regularizers.selection.select`.

    Example:
        >>> from comhe.regularizers import MHE
        >>> regularizer = Regularizer(nn.Linear(4, 3), MHE(s=1), output_weight=0.1)
        >>> loss = 1.0 + regularizer()
        >>> regularizer
        mhe(s=1, half_space=False, weight=1.0, output_weight=0.1, 0 hidden and 1 output layers)
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: Penalty,
        *,
        weight: Weight | None = None,
        output_weight: Weight | Literal["default"] | None = "default",
        seed: int = 0,
        capturable: bool = False,
        **selection: Any,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        self.penalty = penalty
        self.weight, self.output_weight = check_weights(penalty, weight, output_weight)
        self.seed, self.step, self.capturable = int(seed), 0, capturable
        self._model = (model,)  # in a tuple, it does not become a submodule
        self._owners: list[int] = []  # the rank of each layer, once they are sharded
        self._rank, self._ranks = 0, 1
        self._memory: Memory = {}
        found = select(model, **selection)
        self.layers = [layer for layer in found.layers if layer.trainable]
        self.skipped = found.skipped + [Skipped(layer.name, FROZEN) for layer in found.layers if not layer.trainable]
        if not self.layers and penalty.needs_layers:
            reasons = "; ".join(f"{item.name or '(the model)'}: {item.reason}" for item in self.skipped)
            reasons = reasons or "none of its modules has a weight matrix"
            raise UsageError(f"{type(model).__name__} has no layer to regularize: {reasons}")
        for layer in self.layers:
            state = self._initial_state(layer)
            if state is not None:
                self.register_buffer(self._state_name(layer), state)

    @property
    def name(self) -> str:
        """The penalty's name in the registry, or its class."""
        return self.penalty.name or type(self.penalty).__name__

    @property
    def device(self) -> torch.device:
        """Where the first layer's weights are."""
        return self.layers[0].device

    @property
    def local_layers(self) -> list[Layer]:
        """The layers whose penalties are computed on this rank: all of them, unless they are sharded."""
        owners = self._owners or [self._rank] * len(self.layers)
        return [layer for layer, owner in zip(self.layers, owners, strict=True) if owner == self._rank]

    def forward(self, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The weighted penalty, a scalar; advances the step by one. ``parameters`` replace the model's by name."""
        if torch.compiler.is_compiling():  # One clean graph break: seeds, schedules and the step are Python.
            return torch.compiler.disable(Regularizer._step)(self, parameters)  # not at import: that takes seconds
        return self._step(parameters)

    def draw(self) -> Draws:
        """All that the present step needs of the host: its random tensors, scheduled numbers and weights."""
        draws = self._new_draws(self._memory, self.capturable)
        counted = self._counted(draws)
        layers = [layer for layer in self.local_layers if layer in counted or self.state_of(layer) is not None]
        self.penalty.draw(layers, draws)
        return draws

    def total(self, draws: Draws) -> Tensor:
        """The weighted penalty of the step of ``draws``; moves what is learned on by one step."""
        counted = self._counted(draws)
        terms: list[Tensor] = []
        rest = [self._member(layer, draws) for layer in counted]
        if rest:
            with autocast_disabled(rest[0].w):
                terms, rest = self.penalty.batched(rest, draws)
                for member, (value, state) in zip(rest, self.penalty.values(rest, draws), strict=True):
                    terms.append(draws.weight(member.layer) * value.mean())  # over sets: groups, gates
                    self._update_state(member.layer, state)
        for layer in self.local_layers:  # a layer whose weight is zero for now learns all the same
            if layer not in counted and self.state_of(layer) is not None:
                member = self._member(layer, draws)
                with autocast_disabled(member.w):
                    self._update_state(layer, self.penalty.following_state(member, draws))
        if not terms:
            return torch.zeros((), device=self.device if self.layers else None)
        total = sum(terms[1:], terms[0])
        return total if self._ranks == 1 else self._ranks * total

    def value_and_grad(self, parameters: Sequence[Tensor], draws: Draws) -> tuple[Tensor, list[Tensor | None]]:
        """:meth:`total` and its gradient in each of the parameters, None for those that it does not depend on."""
        total = self.total(draws)
        if not total.requires_grad:
            return total, [None] * len(parameters)
        return total.detach(), list(torch.autograd.grad(total, parameters, allow_unused=True))

    @torch.no_grad()
    def layer_penalties(self, draws: Draws) -> list[tuple[Layer, float | Tensor, Tensor]]:
        """Each layer on this rank that counts in :meth:`total`, its weight and its penalty; changes no state."""
        found = []
        with parametrizations_in_evaluation(layer.module for layer in self.layers):
            for layer in self._counted(draws):
                member = self._member(layer, draws)
                with autocast_disabled(member.w):
                    ((value, _),) = self.penalty.values([member], draws)
                found.append((layer, draws.weight(layer), value.mean()))
        return found

    def shard(self, rank: int, ranks: int) -> None:
        """Compute only this rank's layers from now on; the others are other ranks' work.

        The value becomes ``ranks`` times the sum over the local layers: its mean over all ranks is the penalty, and so
        is the gradient that DistributedDataParallel averages. What is learned is synchronized by :meth:`sync_state`.
        """
        if not 0 <= rank < ranks:
            raise UsageError(f"rank must be 0 to {ranks - 1}, not {rank}")
        self._owners = balance([self.penalty.cost(layer) for layer in self.layers], ranks)
        self._rank, self._ranks = rank, ranks

    def sync_state(self) -> None:
        """Bring the learned state of all layers to every rank of the default group; all ranks call it at once."""
        if self._ranks == 1:
            return
        for layer, owner in zip(self.layers, self._owners, strict=True):
            buffer = self.state_of(layer)
            if buffer is not None:
                if buffer.device != self.device:  # another rank's layer, whose state has not moved yet
                    self._buffers[self._state_name(layer)] = buffer = torch.empty_like(buffer, device=self.device)
                distributed.broadcast(buffer, owner)

    def report(self) -> Report:
        """What is regularized with which energies, what is skipped and why; changes nothing."""
        with torch.no_grad(), parametrizations_in_evaluation(layer.module for layer in self.layers):
            draws = self._new_draws(dict(self._memory), capturable=False)
            self.penalty.draw(self.layers, draws)
            rows = tuple(self._row(layer, draws) for layer in self.layers)
        return Report(repr(self), rows, tuple(self.skipped))

    def weight_of(self, layer: Layer) -> float:
        """The layer's factor at the present step."""
        weight = self.weight if layer.role == "hidden" else self.output_weight
        what = f"the schedule's weight at step {self.step}"
        return check_number(weight(self.step), what) if callable(weight) else weight

    def state_of(self, layer: Layer) -> Tensor | None:
        """What the penalty has learned for the layer, such as a projection; None if it learns nothing for it."""
        return self._buffers.get(self._state_name(layer))

    def get_extra_state(self) -> dict[str, int]:
        return {"step": self.step, "seed": self.seed}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.step, self.seed = state["step"], state["seed"]

    def extra_repr(self) -> str:
        hidden = sum(layer.role == "hidden" for layer in self.layers)
        weights = f"weight={self.weight}, output_weight={self.output_weight}"
        counts = f"{hidden} hidden and {len(self.layers) - hidden} output layers"
        return ", ".join(filter(None, (self.penalty.extra_repr(), weights, counts)))

    def __repr__(self) -> str:
        return f"{self.name}({self.extra_repr()})"

    def _step(self, parameters: Mapping[str, Tensor] | None) -> Tensor:
        if parameters is not None:
            named = {f"model.{name}": tensor for name, tensor in parameters.items()}
            return torch.func.functional_call(_Substituted(self._model[0], self), named, ())
        total = self.total(self.draw())
        self.step += 1
        return total

    def _new_draws(self, memory: Memory, capturable: bool) -> Draws:
        weights = [self.weight_of(layer) for layer in self.layers]
        device = self.device if self.layers else "cpu"
        return Draws(self.seed, self.step, self.layers, weights, device, capturable, memory)

    def _counted(self, draws: Draws) -> list[Layer]:
        """The layers on this rank whose weight is not zero, or may not be zero when a recorded step is replayed."""
        weights = {"hidden": self.weight, "output": self.output_weight}
        scheduled = {role for role, weight in weights.items() if draws.capturable and callable(weight)}
        return [layer for layer in self.local_layers if draws.is_weighted(layer) or layer.role in scheduled]

    def _member(self, layer: Layer, draws: Draws) -> Member:
        w = upcast(self.penalty.select(layer.neurons(self.penalty.ordered), layer, draws))
        state = self.state_of(layer)
        if state is not None and state.is_meta and not w.is_meta:  # the model had no weights yet
            state = self._initial_state(layer)
        elif state is not None:
            # What is learned is written in place at the end of the step, before the backward pass reads this.
            state = state.to(w.device, copy=draws.capturable)
        return Member(layer, w, state)

    def _update_state(self, layer: Layer, state: Tensor | None) -> None:
        """Keep a state for the next step, in the memory that a captured graph reads if need be."""
        before = self.state_of(layer)
        if state is not None and before is not None and self.capturable and before.device == state.device:
            before.copy_(state.detach())
        elif state is not None:
            self._buffers[self._state_name(layer)] = state.detach()

    def _initial_state(self, layer: Layer) -> Tensor | None:
        if type(self.penalty).init is Penalty.init:
            return None
        with torch.no_grad():
            state = self.penalty.init(upcast(layer.neurons().detach()), layer, self.seed)
        if not isinstance(state, Tensor | None):
            raise TypeError(f"{self.name}: init must return one tensor or None, not a {type(state).__name__}")
        return state

    def _state_name(self, layer: Layer) -> str:
        return f"{self.penalty.state_name}:{layer.name.replace('.', '/')}"

    def _row(self, layer: Layer, draws: Draws) -> LayerReport:
        member = self._member(layer, draws)
        with autocast_disabled(member.w):
            value = self.penalty.value(member.w, layer, member.state, draws).mean()
        weight = self.weight_of(layer)
        found = diagnose(layer.neurons())
        return LayerReport(layer.name, layer.role, layer.shape, weight, float(value), found, layer.found)


class _Substituted(nn.Module):
    """A model as a submodule, so that functional_call can replace what the regularizer reads from it."""

    def __init__(self, model: nn.Module, regularizer: Regularizer) -> None:
        super().__init__()
        self.model, self._regularizer = model, (regularizer,)

    def forward(self) -> Tensor:
        return self._regularizer[0]()


def balance(costs: Sequence[float], ranks: int) -> list[int]:
    """A rank for each cost: the largest first, each to the rank with the least so far, the lowest among equals.

    No rank gets more than 4/3 - 1/(3 ranks) times what the busiest one has in the best division.

    Source: Graham, *Bounds on Multiprocessing Timing Anomalies*, 1969.
    """
    load, owners = [0.0] * ranks, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        owners[index] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[owners[index]] += costs[index]
    return owners
