"""Several regularizers on one model that are called as one."""

import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from comhe.errors import UsageError, warn

from .draws import Draws
from .regularizer import Regularizer
from .report import Report
from .selection import Layer, Skipped, called
from .structure import RegularizerWarning

StepDraws = tuple[Draws, ...]


def combine(*regularizers: "Regularizer | CombinedRegularizer") -> "CombinedRegularizer":
    """The sum of several regularizers as one regularizer, such as a different penalty for each group of layers.

    Combined regularizers among them are taken apart.

    Raises:
        TypeError: one is something else, such as a name or a list.
        UsageError: there is none, or they have made different numbers of steps.

    Example:
        >>> from comhe.regularizers import create_regularizer
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 16), nn.Linear(16, 5))
        >>> regularizer = combine(
        ...     create_regularizer("ocnn", model, include="0", output=None),
        ...     create_regularizer("hs-mhe", model, exclude="0", weight={"3": 10.0}),
        ... )
        >>> loss = 1.0 + regularizer()  # once per optimizer step
        >>> [(row.name, row.regularizer) for row in regularizer.report().layers]
        [('0', 'ocnn'), ('2', 'hs-mhe'), ('3', 'hs-mhe')]
    """
    parts: list[Regularizer] = []
    for each in regularizers:
        if not isinstance(each, Regularizer | CombinedRegularizer):
            raise TypeError(f"combine takes regularizers, one after another, not a {type(each).__name__}")
        parts += each._parts() if isinstance(each, CombinedRegularizer) else [each]
    return CombinedRegularizer(parts)


class CombinedRegularizer(nn.Module):
    """What :func:`combine` returns; it is used as a :class:`Regularizer` is. ``parts`` are the regularizers."""

    def __init__(self, regularizers: Sequence[Regularizer]) -> None:
        super().__init__()
        if not regularizers or len({part.step for part in regularizers}) > 1:
            said = f"steps {', '.join(str(part.step) for part in regularizers)}" if regularizers else "nothing"
            raise UsageError(f"combine needs one or more regularizers that are at the same step, not {said}")
        self.parts = nn.ModuleList(regularizers)
        count = Counter((layer.name, layer.module) for layer in self.layers)
        twice = [called(name) for (name, _), times in count.items() if times > 1]
        if twice:
            message = f"{', '.join(twice)}: penalized by several of the combined regularizers; include and exclude part"
            warn(f"{message} them", RegularizerWarning)

    def _parts(self) -> list[Regularizer]:
        return [part for part in self.parts if isinstance(part, Regularizer)]

    @property
    def name(self) -> str:
        """The names of the parts."""
        return " + ".join(part.name for part in self._parts())

    @property
    def layers(self) -> list[Layer]:
        """The layers of all parts."""
        return [layer for part in self._parts() for layer in part.layers]

    @property
    def local_layers(self) -> list[Layer]:
        """Those of them whose penalties are computed on this rank."""
        return [layer for part in self._parts() for layer in part.local_layers]

    @property
    def skipped(self) -> list[Skipped]:
        """What no part regularizes, with the reason of the first part; and notes on layers that one does."""
        names = {layer.name for layer in self.layers}
        left = [item for item in self._parts()[0].skipped if item.name not in names]
        regularized = [(part.skipped, {layer.name for layer in part.layers}) for part in self._parts()]
        return left + [item for skipped, own in regularized for item in skipped if item.name in own]

    @property
    def device(self) -> torch.device:
        """Where the first layer's weights are."""
        return self._parts()[0].device

    @property
    def weight(self) -> list[Any]:
        """The weights of the parts, each of which has its own: set ``parts[0].weight``."""
        return [part.weight for part in self._parts()]

    @weight.setter
    def weight(self, weight: Any) -> None:
        raise UsageError(f"each of the combined regularizers has a weight: set parts[0].weight, not {weight!r} for all")

    @property
    def output_weight(self) -> list[Any]:
        """The output weights of the parts, each of which has its own."""
        return [part.output_weight for part in self._parts()]

    @output_weight.setter
    def output_weight(self, weight: Any) -> None:
        what = "each of the combined regularizers has an output weight: set parts[0].output_weight"
        raise UsageError(f"{what}, not {weight!r} for all")

    @property
    def step(self) -> int:
        """The number of steps made; all parts have made as many."""
        return self._parts()[0].step

    @step.setter
    def step(self, step: int) -> None:
        for part in self._parts():
            part.step = step

    @property
    def capturable(self) -> bool:
        """Whether tensors stay where they are in memory; see :class:`Regularizer`."""
        return all(part.capturable for part in self._parts())

    @capturable.setter
    def capturable(self, capturable: bool) -> None:
        for part in self._parts():
            part.capturable = capturable

    def forward(self, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The sum of the weighted penalties; advances the step by one."""
        return _sum([part(parameters) for part in self._parts()])

    def draw(self, layers: Collection[Layer] | None = None) -> StepDraws:
        """What the present step of each part needs of the host."""
        return tuple(part.draw(layers) for part in self._parts())

    def total(self, draws: StepDraws) -> Tensor:
        """The sum of the parts' :meth:`Regularizer.total`."""
        return _sum([part.total(each) for part, each in zip(self._parts(), draws, strict=True)])

    def value_and_grad(self, parameters: Sequence[Tensor], draws: StepDraws) -> tuple[Tensor, list[Tensor | None]]:
        """:meth:`total` and its gradient in each of the parameters, None for those that it does not depend on."""
        total = self.total(draws)
        if not total.requires_grad:
            return total, [None] * len(parameters)
        return total.detach(), list(torch.autograd.grad(total, parameters, allow_unused=True))

    def layer_penalties(self, draws: StepDraws) -> list[tuple[Layer, float | Tensor, Tensor]]:
        """Each part's :meth:`Regularizer.layer_penalties`, one after another."""
        parts = zip(self._parts(), draws, strict=True)
        return list(itertools.chain(*(part.layer_penalties(each) for part, each in parts)))

    def shard(self, rank: int, ranks: int) -> None:
        """Compute only this rank's layers from now on; see :meth:`Regularizer.shard`."""
        for part in self._parts():
            part.shard(rank, ranks)

    def sync_state(self) -> None:
        """Bring the learned state of all layers to every rank; all ranks call it at once."""
        for part in self._parts():
            part.sync_state()

    def refresh(self) -> Self:
        """Select the layers of every part anew; see :meth:`Regularizer.refresh`."""
        for part in self._parts():
            part.refresh()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Restore each part; see :meth:`Regularizer.load_state_dict`.

        Raises:
            UsageError: the state has other parts. With ``strict=False`` what fits is loaded.
        """
        parts = self._parts()
        own = [_below(state_dict, f"parts.{index}.") for index in range(len(parts))]
        if strict:
            saved = {key.split(".")[1] for key in state_dict if re.match(r"parts\.\d+\.", key)}
            if saved != {str(index) for index in range(len(parts))}:
                found = f"{len(saved)} parts" if saved else "no parts, as one of combined regularizers has"
                raise UsageError(f"the state has {found}, but this regularizer has {len(parts)}: {self.name}")
            if others := [key for key in state_dict if not key.startswith("parts.")]:
                raise UsageError(f"the state has {', '.join(others)}, which are of no part of {self.name}")
            for index, (part, state) in enumerate(zip(parts, own, strict=True)):
                try:
                    part.check_state_dict(state)
                except UsageError as error:
                    raise UsageError(f"part {index}, {part.name}: {error}") from error
        before = self.step
        keys = [part.load_state_dict(state, strict, assign) for part, state in zip(parts, own, strict=True)]
        self.step = next((part.step for part, state in zip(parts, own, strict=True) if state), before)
        return type(keys[0])(
            *([f"parts.{i}.{key}" for i, k in enumerate(keys) for key in k[which]] for which in (0, 1))
        )

    def report(self) -> Report:
        """One report of all parts, whose rows say which regularizer they are of."""
        reports = [(part.name, part.report()) for part in self._parts()]
        rows = tuple(replace(row, regularizer=name) for name, report in reports for row in report.layers)
        return Report(" + ".join(report.title for _, report in reports), rows, tuple(self.skipped))

    def __repr__(self) -> str:
        return " + ".join(map(repr, self._parts()))


def _below(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}


def _sum(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0])
