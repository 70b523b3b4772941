"""The plug: a penalty attached to the layers of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.utils.parametrize import ParametrizationList

from .diagnostics import diagnose
from .energies.energy import exact
from .report import LayerReport, Report
from .selection import Layer, Skipped, select
from .sharding import balance

Weight = float | Callable[[int], float]


class Regularizer(nn.Module):
    """A penalty on the neurons of a model's layers; call it once per optimizer step and add the result to the loss.

    The value is ``sum over hidden layers of weight * hidden(layer) + sum over output layers of output_weight *
    output(layer)``. Subclasses say what the two penalties are.

    The model is referred to, not owned: its parameters appear neither in ``parameters()`` nor in ``state_dict()``. The
    state is the number of steps made and whatever the penalty learns; random projections are a function of the seed and
    that number alone, hence equal on every rank and after a restart.

    Args:
        model: any module; see :func:`comhe.regularizers.neurons` for the layers that are understood.
        weight: factor of each hidden layer's penalty, a number >= 0 or a function of the step.
        output_weight: the same for the output layer; None means ``weight``.
        seed: of everything random.
        selection: ``include, exclude, kinds, min_neurons, max_neurons, output``, see
            :func:`comhe.regularizers.selection.select`.

    Raises:
        ValueError: a negative weight, or a model without a layer to regularize (the message lists what was skipped).
    """

    name = "regularizer"  # set by the registry
    needs_layers = True
    static = False  # whether each step's tensors stay where they are in memory: for a loop that captures :meth:`total`
    ordered = True  # whether it matters in which order the dimensions of a neuron come
    singly = False  # whether :meth:`terms` takes the layers one after the other, never several together

    def __init__(
        self,
        model: nn.Module,
        *,
        weight: Weight = 1.0,
        output_weight: Weight | None = 10.0,
        seed: int = 0,
        **selection,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        self.weight = _checked(weight, "weight")
        self.output_weight = self.weight if output_weight is None else _checked(output_weight, "output_weight")
        self.seed = int(seed)
        self.step = 0
        self._model = (model,)  # in a tuple it is no submodule of ours
        self._owners: list[int] = []  # the rank that computes each layer, if they are divided
        self._rank, self._ranks = 0, 1
        self._weights: tuple[float, ...] = ()  # of the layers, in the step under way
        self._weight_tensor: Tensor | None = None
        self._random: dict[tuple[str, ...], tuple[Callable[[], Tensor], Tensor]] = {}
        self.layers: list[Layer]
        self.skipped: list[Skipped]
        self.layers, self.skipped = select(model, **selection)
        if not self.layers and self.needs_layers:
            reasons = "; ".join(f"{item.name or '(the model)'}: {item.reason}" for item in self.skipped)
            raise ValueError(
                f"{type(model).__name__} has no layer to regularize"
                + (f": {reasons}" if reasons else ": none of its modules has a weight matrix")
            )

    def hidden(self, layer: Layer, w: Tensor) -> Tensor:
        """Penalty of a hidden layer's neurons [..., N, d] -> [...]."""
        raise NotImplementedError(f"{type(self).__name__} must define hidden()")

    def output(self, layer: Layer, w: Tensor) -> Tensor:
        """Penalty of an output layer's neurons; the hidden layers' unless a subclass says otherwise."""
        return self.hidden(layer, w)

    def draw(self) -> None:
        """What a step needs of the host: its random numbers and scheduled values. Comes before :meth:`total`."""
        before, self._weights = self._weights, tuple(self.weight_of(layer) for layer in self.layers)
        if self.static:
            if self._weight_tensor is None:
                before, self._weight_tensor = self._weights, torch.tensor(self._weights, device=self.device)
            for place, (old, new) in enumerate(zip(before, self._weights, strict=True)):
                if old != new:
                    self._weight_tensor[place].fill_(new)  # a number travels with the launch; a copy would wait
            for make, tensor in self._random.values():
                tensor.copy_(make())

    def random(self, key: tuple[str, ...], make: Callable[[], Tensor]) -> Tensor:
        """``make()``, a tensor that is another in each step; if ``static``, :meth:`draw` makes it, in one place."""
        if not self.static:
            return make()
        if key not in self._random:
            self._random[key] = make, make()
        return self._random[key][1]

    def shard(self, rank: int, ranks: int) -> None:
        """From now on compute only this rank's layers here; the others are other ranks' work.

        The value becomes ``ranks`` times the sum over the own layers: its mean over all ranks is the whole penalty, and
        so is the gradient that DistributedDataParallel averages. Layers are divided by :meth:`cost`, on every rank
        alike. What a penalty learns, each rank learns for its own layers: see :meth:`complete`.

        Errors: ValueError for a rank that is not one of 0 to ``ranks`` - 1.
        """
        if not 0 <= rank < ranks:
            raise ValueError(f"rank must be 0 to {ranks - 1}, not {rank}")
        self._owners = balance([self.cost(layer) for layer in self.layers], ranks)
        self._rank, self._ranks = rank, ranks

    @property
    def own(self) -> list[Layer]:
        """The layers whose penalties are computed here: all of them, unless they are divided."""
        return [layer for place, layer in enumerate(self.layers) if self._is_own(place)]

    def _is_own(self, place: int) -> bool:
        return not self._owners or self._owners[place] == self._rank

    def cost(self, layer: Layer) -> float:
        """Multiplications of a layer's penalty, but for a factor that all layers share: its Gram matrix's."""
        return math.prod(layer.shape) * layer.shape[-2]

    def complete(self) -> None:
        """Bring the learned state of all layers to every rank, as before ``state_dict()``. All ranks call it at once.

        Processes are those of torch.distributed's default group.
        """
        if self._ranks == 1:
            return
        owners = {layer.name: owner for layer, owner in zip(self.layers, self._owners, strict=True)}
        for name, buffer in self._buffers.items():
            if buffer.device != self.device:  # not this rank's, so it has stayed where it was made
                self._buffers[name] = buffer = torch.empty_like(buffer, device=self.device)
            distributed.broadcast(buffer, owners[name.partition(":")[2].replace("/", ".")])

    def prepare(self) -> None:
        """What has to happen once a step before the penalties are taken, such as training a projection."""

    def finish(self) -> None:
        """What has to happen once a step after the penalties have been taken, still at the same step."""

    @torch.compiler.disable  # one clean graph break: seeds, schedules and the step are Python
    def forward(self, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The weighted penalty, a scalar. Advances the state by one step.

        ``parameters`` stand in for the model's own of the same names, as in ``torch.func.functional_call``.
        """
        if parameters is not None:
            named = {f"model.{name}": tensor for name, tensor in parameters.items()}
            return torch.func.functional_call(_Substituted(self._model[0], self), named, ())
        self.draw()
        total = self.total()
        self.step += 1
        return total

    def total(self) -> Tensor:
        """The weighted penalty of the step that was drawn for.

        Nothing here depends on the host but what is the same in every step, so a CUDA graph of it can be replayed:
        with ``static`` set before the first step, each replay after a :meth:`draw`, and ``step`` counted by the caller.
        """
        terms = list(self.terms())
        if not terms:
            return torch.zeros((), device=self.device if self.layers else None)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total if self._ranks == 1 else self._ranks * total

    def slopes(self, parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        """:meth:`total` and its gradient in each of the parameters, None for those that it does not depend on.

        With ``singly`` set no layer's matrix is needed any more when that of the next is made.
        """
        total: Tensor | None = None
        slopes: list[Tensor | None] = [None] * len(parameters)
        for term in self.terms() if self.singly else [self.total()]:
            total = term.detach() if total is None else total + term.detach()
            if term.requires_grad:
                new = torch.autograd.grad(term, parameters, allow_unused=True)
                slopes = [b if a is None else a if b is None else a + b for a, b in zip(slopes, new, strict=True)]
        if total is None:
            total = torch.zeros((), device=self.device if self.layers else None)
        return total, slopes

    def terms(self) -> Iterator[Tensor]:
        """The summands of :meth:`total`, each made when it is asked for; to be asked for all of them."""
        self.prepare()
        places = [place for place, layer in enumerate(self.layers) if self._counts(place, layer)]
        together, rest = ([], places) if self.singly else self.jointly(places)
        yield from together
        for place in rest:
            weight = self._weight_tensor[place] if self.static else self._weights[place]
            yield weight * self.penalty(self.layers[place])
        self.finish()

    def jointly(self, places: list[int]) -> tuple[list[Tensor], list[int]]:
        """Weighted penalties of those of the layers at ``places`` that are taken together, and the other places."""
        return [], places

    def weights(self, places: Sequence[int]) -> Tensor:
        """The step's factors of the layers at ``places``, on their device."""
        if self.static:
            return torch.stack([self._weight_tensor[place] for place in places])
        return torch.tensor([self._weights[place] for place in places], device=self.device)

    def _counts(self, place: int, layer: Layer) -> bool:
        scheduled = self.weight if layer.role == "hidden" else self.output_weight
        return self._is_own(place) and (self._weights[place] > 0 or (self.static and callable(scheduled)))

    @property
    def device(self) -> torch.device:
        """Where the first layer's weights are."""
        return next(self.layers[0].module.parameters()).device

    def penalty(self, layer: Layer) -> Tensor:
        """Unweighted penalty of one layer, a scalar: the mean over its sets of neurons (groups, gates)."""
        w = self.neurons(layer)
        with exact(w):
            value = self.hidden(layer, w) if layer.role == "hidden" else self.output(layer, w)
        return value.mean() if value.dim() else value

    def neurons(self, layer: Layer) -> Tensor:
        """The matrix that the layer's penalty is taken of."""
        return layer.neurons(self.ordered)

    def weight_of(self, layer: Layer) -> float:
        """The layer's factor at the present step."""
        weight = self.weight if layer.role == "hidden" else self.output_weight
        return _checked(weight(self.step), f"the schedule's weight at step {self.step}") if callable(weight) else weight

    def carry(self, name: str, value: Tensor) -> None:
        """Give a buffer its next value, in the memory that a captured graph reads if need be."""
        if self.static and self._buffers[name].device == value.device:
            self._buffers[name].copy_(value)
        else:
            self._buffers[name] = value

    def report(self) -> Report:
        """What is regularized with which energies, what is skipped and why; changes nothing."""
        with torch.no_grad(), _still(self.layers):
            return Report(repr(self), tuple(self._row(layer) for layer in self.layers), tuple(self.skipped))

    def _row(self, layer: Layer) -> LayerReport:
        penalty, weight = float(self.penalty(layer)), self.weight_of(layer)
        return LayerReport(layer.name, layer.role, layer.shape, weight, penalty, diagnose(layer.neurons()))

    def get_extra_state(self) -> dict[str, int]:
        return {"step": self.step, "seed": self.seed}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.step, self.seed = state["step"], state["seed"]

    def extra_repr(self) -> str:
        hidden = sum(layer.role == "hidden" for layer in self.layers)
        return (
            f"weight={self.weight}, output_weight={self.output_weight}, "
            f"{hidden} hidden and {len(self.layers) - hidden} output layers"
        )

    def __repr__(self) -> str:
        return f"{self.name}({self.extra_repr()})"


class _Substituted(nn.Module):
    """A model as a submodule, so that functional_call can replace what the regularizer reads from it."""

    def __init__(self, model: nn.Module, regularizer: Regularizer) -> None:
        super().__init__()
        self.model, self._regularizer = model, (regularizer,)

    def forward(self) -> Tensor:
        return self._regularizer[0]()


@contextmanager
def _still(layers: list[Layer]) -> Iterator[None]:
    """Parametrizations in evaluation mode: reading a spectrally normalised weight must not train its vectors."""
    found = [part for layer in layers for part in layer.module.modules() if isinstance(part, ParametrizationList)]
    training = [part.training for part in found]
    try:
        for part in found:
            part.eval()
        yield
    finally:
        for part, mode in zip(found, training, strict=True):
            part.train(mode)


def _checked(weight: Weight, what: str) -> Weight:
    if callable(weight):
        return weight
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"{what} must be a finite number >= 0 or a function of the step, not {weight!r}")
    return float(weight)
