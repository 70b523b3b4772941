"""The plug: a penalty attached to the layers of a model."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Self, SupportsIndex

import torch
from torch import Tensor, distributed, nn

from comhe.errors import UsageError, few, warn

from .attachment import Attachment
from .bound import bound_gradient, bound_gradients, bounds_together
from .diagnostics import diagnose
from .draws import Draws, Memory
from .energies.checks import autocast_disabled, upcast
from .energies.transforms import is_transformed
from .neurons import parametrizations_in_evaluation
from .penalties.penalty import Member, Penalty
from .report import LayerReport, Report
from .selection import Layer, Skipped, called
from .states import States
from .structure import RegularizerWarning
from .weights import Weight, Weights, check_globs, check_number, check_weights, match, unmatched


class Regularizer(States):
    r"""A penalty on the neurons of a model's layers; call it once per optimizer step and add the result to the loss.

    .. math:: \lambda_\mathrm{hidden} \sum_{l\ \mathrm{hidden}} P(W_l) + \lambda_\mathrm{output} P(W_\mathrm{output})

    The model's parameters are not the regularizer's. Its state is the number of steps and what the penalty learns;
    random tensors are functions of the seed and that number alone, hence equal on every rank and after a restart.

    It regularizes the model as it is at each call. Frozen layers count again once they are thawed. If modules have been
    added, removed or replaced since the last call, it warns, selects anew and keeps the state of the layers that
    stayed. A copy of the regularizer alone has a model of its own; copy both at once to keep them together:
    ``copy.deepcopy((model, regularizer))``.

    In any loop it counts once an optimizer step:

    - accumulated batches: add it to the loss of one of them, undivided, or call ``regularizer().backward()`` once;
    - a gradient scaler: ``scaler.scale(loss + regularizer()).backward()``; within autocast it stays in float32;
    - DistributedDataParallel: add it to the loss on every rank, or :meth:`shard` it and do the same;
    - FSDP2: attach it after ``fully_shard`` or before, and add it to the loss on every rank. Every rank has to create
      it and call :meth:`report`, which gather weights.

    Neurons that are copies of each other do not push each other. Once they differ a little, their true gradient throws
    them: give copies noise of a few percent, or clip the gradient. Neurons that start at zero need neither; see
    :mod:`comhe.regularizers.bound`.

    A loop that records a CUDA graph sets ``capturable`` before the first step, so that tensors stay where they are in
    memory. It calls :meth:`draw` on the host, :meth:`value_and_grad` on the device, and counts ``step`` itself.

    Args:
        model: any module; see :func:`comhe.regularizers.neurons` for the layers that are understood.
        weight: a number >= 0 or a function of the step; None means the penalty's default. Or one for each layer,
            ``{"blocks.*.attn*": 0.1, "head": 10.0}``: the first glob that matches the layer's name counts, and a layer
            that none matches has the penalty's default, or ``output_weight``.
        output_weight: a number or a function for the output layer; None means ``weight``, ``"default"`` the penalty's.
        penalty: what is added for each layer, such as ``MHE(s=1)``.
        seed: seed of random projections, poles and samples; with the step it decides all that is drawn.
        capturable: whether tensors stay where they are in memory, for a loop that records a CUDA graph.
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
        weight: Weights | None = None,
        output_weight: Weight | Literal["default"] | None = "default",
        seed: int = 0,
        capturable: bool = False,
        **selection: Any,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model must be a torch.nn.Module, not {type(model).__name__}; for the energy of a matrix call "
                "hyperspherical_energy, or give it a module of its own and a view (register_neurons)"
            )
        if not isinstance(penalty, Penalty):
            given = f"the class {penalty.__name__}" if isinstance(penalty, type) else repr(penalty)
            raise TypeError(f"penalty must be a Penalty such as MHE(), not {given}; by name: create_regularizer")
        self.penalty = penalty
        self._weights = check_weights(penalty, weight, output_weight)
        self._follows = self._is_weight(output_weight)
        self.seed, self.step, self.capturable = _whole(seed), 0, capturable
        self._attached = Attachment(model, selection)
        self._memory: Memory = {}
        self._warned: set[str] = set()
        if not self._attached.layers and penalty.needs_layers:
            reasons = "; ".join(f"{called(item.name)}: {item.reason}" for item in self._attached.skipped)
            reasons = reasons or "none of its modules has a weight matrix"
            raise UsageError(f"{type(model).__name__} has no layer to regularize: {reasons}")
        check_globs(self.weight, (layer.name for layer in self._attached.layers))
        for option, hint in self._attached.idle_globs():
            warn(f"{option} matches no layer of {type(model).__name__}; {hint}", RegularizerWarning)
        for doubt in penalty.doubts(self._attached.layers):
            warn(f"{self.name}: {doubt}", RegularizerWarning)
        self.renew_states()

    @property
    def weight(self) -> Weights:
        """The factor of the hidden layers, or a table by layer; it may be set between steps."""
        return self._weights[0]

    @weight.setter
    def weight(self, weight: Weights | None) -> None:
        checked = check_weights(self.penalty, weight, None if self._follows else self.output_weight)
        check_globs(checked[0], (layer.name for layer in self._attached.layers))
        self._weights = checked

    @property
    def output_weight(self) -> Weight:
        """The factor of the output layer; it may be set between steps."""
        return self._weights[1]

    @output_weight.setter
    def output_weight(self, output_weight: Weight | Literal["default"] | None) -> None:
        self._weights = check_weights(self.penalty, self.weight, output_weight)
        self._follows = self._is_weight(output_weight)

    @property
    def layers(self) -> list[Layer]:
        """The layers that are regularized now: those of the selection that are not frozen."""
        return list(self._look().trainable)

    @property
    def skipped(self) -> list[Skipped]:
        """What is not regularized now, and why."""
        return self._look().skipped

    @property
    def device(self) -> torch.device:
        """Where the first layer's weights are."""
        return self._attached.layers[0].device if self._attached.layers else torch.device("cpu")

    @property
    def local_layers(self) -> list[Layer]:
        """Those of :attr:`layers` whose penalties are computed on this rank: all, unless they are sharded."""
        return self._attached.local(self.layers)

    def refresh(self) -> Self:
        """Select the model's layers anew. A layer of the same name and shape keeps its state, others start with none.

        Each call of the regularizer does so where the structure of the model has changed, and warns. What it does not
        see is a matrix view that was registered later.

        Example:
            >>> from comhe.regularizers import MHE
            >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
            >>> regularizer = Regularizer(model, MHE())
            >>> model[1] = nn.Linear(3, 7)
            >>> [layer.shape for layer in regularizer.refresh().layers]
            [(3, 4), (7, 3)]
        """
        self._attached.select()
        self._follow()
        return self

    def forward(self, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The weighted penalty, a scalar; advances the step by one. ``parameters`` replace the model's by name.

        Where it is constant, since all weights are zero or all layers frozen, its backward pass does nothing.
        """
        if torch.compiler.is_compiling():  # One clean graph break: seeds, schedules and the step are Python.
            return torch.compiler.disable(Regularizer._step)(self, parameters)  # not at import: that takes seconds
        return self._step(parameters)

    def draw(self, layers: Collection[Layer] | None = None) -> Draws:
        """All that the present step needs of the host: its layers, random tensors, scheduled numbers and weights.

        A step of some ``layers`` alone is for loops whose optimizers take turns within one step.
        """
        trainable = self._look().trainable
        return self._draw(trainable if layers is None else [layer for layer in trainable if layer in layers])

    def total(self, draws: Draws) -> Tensor:
        """The weighted penalty of the step of ``draws``; moves what is learned on by one step."""
        counted = self._counted(draws)
        terms: list[Tensor] = []
        rest = [self._member(layer, draws) for layer in counted]
        trained = self.penalty.needs_layers and any(member.w.requires_grad for member in rest)
        if rest:
            with autocast_disabled(rest[0].w):
                rest, bounds = self._bounded(rest, draws)
                terms, rest = self.penalty.batched(rest, draws)
                terms += bounds
                for member, (value, state) in zip(rest, self.penalty.values(rest, draws), strict=True):
                    if not (isinstance(value, Tensor) and value.is_floating_point()):
                        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
                        raise TypeError(f"{self.name} must return a floating-point tensor, not {found}")
                    if value.dim() and value.shape != member.w.shape[:-2]:
                        shapes = f"{list(member.w.shape)} -> {list(value.shape)}"
                        raise UsageError(f"{self.name} must return one value for each set of neurons, not {shapes}")
                    terms.append(draws.weight(member.layer) * value.mean())  # over sets: groups, gates
                    self.update_state(member.layer, state)
        for layer in self._attached.local(draws.active):  # a layer whose weight is zero for now learns all the same
            if layer not in counted and self.state_of(layer) is not None:
                member = self._member(layer, draws)
                with autocast_disabled(member.w):
                    self.update_state(layer, self.penalty.following_state(member, draws))
        if not terms:
            return torch.zeros((), device=draws.device)
        total = sum(terms[1:], terms[0])
        if not total.requires_grad and trained and torch.is_grad_enabled() and not is_transformed(total):
            how = "compute it from the neurons that it is given, without detach(), NumPy or no_grad()"
            self._warn_once(f"{self.name} has no gradient and trains nothing: {how}")
        return total if self._attached.ranks == 1 else self._attached.ranks * total

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
        with parametrizations_in_evaluation(layer.module for layer in draws.active):
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
        self._look().share_out(self.penalty, rank, ranks)

    def sync_state(self) -> None:
        """Bring the learned state of all layers to every rank of the default group; all ranks call it at once."""
        if self._attached.ranks == 1:
            return
        for layer in self._attached.layers:
            buffer = self.state_of(layer)
            if buffer is not None:
                if buffer.device != self.device:  # another rank's layer, whose state has not moved yet
                    self._buffers[self.state_name(layer)] = buffer = torch.empty_like(buffer, device=self.device)
                distributed.broadcast(buffer, self._attached.owner(layer))

    def report(self) -> Report:
        """What is regularized with which energies, what is skipped and why; changes nothing."""
        layers = self.layers
        if meta := [called(layer.name) for layer in layers if layer.device.type == "meta"]:
            hint = "model.to_empty(device='cpu'), then load its weights"
            raise UsageError(f"{few(meta)} on the meta device: there are no numbers to report yet; {hint}")
        with torch.no_grad(), parametrizations_in_evaluation(layer.module for layer in layers):
            draws = self._new_draws(dict(self._memory), capturable=False)
            self.penalty.draw(layers, draws)
            rows = tuple(self._row(layer, draws) for layer in layers)
        return Report(repr(self), rows, tuple(self.skipped))

    def weight_of(self, layer: Layer) -> float:
        """The layer's factor at the present step."""
        weight = self._weight(layer)
        what = f"the schedule's weight at step {self.step}"
        return check_number(weight(self.step), what) if callable(weight) else weight

    def extra_repr(self) -> str:
        layers = self._attached.trainable
        hidden = sum(layer.role == "hidden" for layer in layers)
        weights = f"weight={self.weight}, output_weight={self.output_weight}"
        counts = f"{hidden} hidden and {len(layers) - hidden} output layers"
        return ", ".join(filter(None, (self.penalty.extra_repr(), weights, counts)))

    def __repr__(self) -> str:
        return f"{self.name}({self.extra_repr()})"

    def _step(self, parameters: Mapping[str, Tensor] | None) -> Tensor:
        if not isinstance(parameters, Mapping | None):
            raise TypeError(
                "a regularizer is called without arguments, or with a dictionary of its model's parameters by name, "
                f"not {type(parameters).__name__}"
            )
        if torch._C._current_graph_task_id() >= 0:
            raise UsageError(
                f"{self.name} is called in a backward pass, one step too late for the forward pass that "
                "torch.utils.checkpoint repeats: add the penalty to the loss outside of the checkpointed function"
            )
        if parameters is None:
            total = self.total(self.draw())
        else:
            given = next((tensor.device for tensor in parameters.values()), None)
            draws = self._draw(self._look().trained_with(parameters), given)
            total = self._attached.call_with(parameters, lambda: self.total(draws))
        self.step += 1
        if total.requires_grad or not torch.is_grad_enabled():
            return total
        return total + torch.zeros((), dtype=total.dtype, device=total.device, requires_grad=True)

    def _look(self) -> Attachment:
        """See the model as it is now; if it has changed, follow it and say so."""
        said = self._attached.look()
        if said is not None:
            self._follow()
            if said:
                warn(f"{self.name} follows its model, which has changed: {said}", RegularizerWarning)
        return self._attached

    def _follow(self) -> None:
        """Keep the states of a new selection, and say which weights of a table are left without a layer."""
        self.renew_states()
        globs = unmatched(self.weight, (layer.name for layer in self._attached.layers))
        for glob in [glob for glob in globs if glob not in self._warned]:
            self._warned.add(glob)
            warn(
                f"weight[{glob!r}] of {self.name} names no layer any more, since the model has changed",
                RegularizerWarning,
            )
        self._warned -= set(self.weight if isinstance(self.weight, Mapping) else ()) - set(globs)

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warn(message, RegularizerWarning)

    def _is_weight(self, output_weight: Weight | Literal["default"] | None) -> bool:
        """Whether the output layer has the weight of the others, also when that is set anew."""
        return (self.penalty.default_output_weight if output_weight == "default" else output_weight) is None

    def _weight(self, layer: Layer) -> Weight:
        """The layer's factor, or the function that gives it."""
        default: Weight = self.penalty.default_weight if isinstance(self.weight, Mapping) else self.weight
        found = match(self.weight, layer.name) if isinstance(self.weight, Mapping) else None
        if found is not None:
            return found
        return default if layer.role == "hidden" else self.output_weight

    def _draw(self, layers: Sequence[Layer], device: torch.device | None = None) -> Draws:
        """What the step of some layers needs, on the model's device or on that of the parameters that replace its."""
        draws = self._new_draws(self._memory, self.capturable, device)
        draws.active = tuple(layers)
        counted = set(self._counted(draws))
        if not layers and self.penalty.needs_layers:
            reason = "all its layers are frozen" if self._attached.layers else "its model has no layer left"
            self._warn_once(f"{self.name} is 0: {reason}")
        local = self._attached.local(layers)
        self.penalty.draw([layer for layer in local if layer in counted or self.state_of(layer) is not None], draws)
        return draws

    def _new_draws(self, memory: Memory, capturable: bool, device: torch.device | None = None) -> Draws:
        layers = self._attached.layers
        weights = [self.weight_of(layer) for layer in layers]
        return Draws(self.seed, self.step, layers, weights, device or self.device, capturable, memory)

    def _counted(self, draws: Draws) -> list[Layer]:
        """The layers on this rank whose weight is not zero, or may not be zero when a recorded step is replayed."""
        local = self._attached.local(draws.active)
        return [x for x in local if draws.is_weighted(x) or (draws.capturable and callable(self._weight(x)))]

    def _member(self, layer: Layer, draws: Draws) -> Member:
        w = upcast(self.penalty.select(layer.neurons(self.penalty.ordered), layer, draws))
        state = self.state_of(layer)
        if state is not None and state.is_meta and not w.is_meta:  # the model had no weights yet
            state = self.initial_state(layer)
        elif state is not None:
            # What is learned is written in place at the end of the step, before the backward pass reads this.
            state = state.to(w.device, w.dtype, copy=draws.capturable)
        return Member(layer, w, state)

    def _bounded(self, members: list[Member], draws: Draws) -> tuple[list[Member], list[Tensor]]:
        """The members with bounded gradients, and the terms of the total, all zero, that the bounds need."""
        if not self.penalty.min_norm:
            return members, []
        least, scale = self.penalty.min_norm, self.penalty.scale
        if bounds_together(neurons := [member.w for member in members], draws.device):
            layers = [member.layer for member in members]
            rows, zero = bound_gradients(neurons, draws.weights(layers), least, [scale(layer) for layer in layers])
            return [member._replace(w=w) for member, w in zip(members, rows, strict=True)], [zero]
        found = [(member, *bound_gradient(member.w, least, scale(member.layer))) for member in members]
        terms = [draws.weight(member.layer) * zeros.mean() for member, _, zeros in found]
        return [member._replace(w=w) for member, w, _ in found], terms

    def _row(self, layer: Layer, draws: Draws) -> LayerReport:
        member = self._member(layer, draws)
        with autocast_disabled(member.w):
            value = self.penalty.value(member.w, layer, member.state, draws).mean()
        weight = self.weight_of(layer)
        found = diagnose(layer.neurons())
        projected = self.penalty.is_projected(layer) if self.penalty.projects else None
        return LayerReport(
            layer.name, layer.role, layer.shape, weight, float(value), found, layer.found, projected=projected
        )


def _whole(seed: SupportsIndex) -> int:
    if not isinstance(seed, SupportsIndex):
        raise UsageError(f"seed must be a whole number, not {seed!r}")
    return int(seed)
