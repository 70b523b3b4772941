"""Which layers of a model are regularized, in which role, and why the others are not."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from comhe.errors import UsageError

from .candidates import Candidate, find_candidates, find_unread, output_matrices
from .computed import walk
from .fused import Fused
from .neurons import WEIGHT, kind, neurons
from .output import find_outputs, listed
from .sources import sources

KINDS = ("conv", "linear", "attention", "recurrent", "embedding", "other")
DEFAULT_KINDS = ("conv", "linear", "attention", "recurrent", "other")
FROZEN = "frozen (requires_grad is False)"
NO_PARAMETER = "its weight is not a parameter (a buffer, a plain or a detached tensor), so nothing trains it"


@dataclass(frozen=True, eq=False)
class Layer:
    """One regularized weight: its name in the model, its module, and its role.

    The name is the module's, with that of the part appended where a module has several matrices. ``found`` says how an
    output layer was recognized.
    """

    name: str
    module: nn.Module = field(repr=False)
    role: Literal["hidden", "output"]
    shape: tuple[int, ...]
    part: str = WEIGHT
    fused: Fused | None = None
    found: str = ""
    traced: bool = True  # whether the weight is computed from parameters

    @property
    def device(self) -> torch.device:
        """Where the layer's weights are."""
        parameters = self.parameters
        return (parameters[0] if parameters else self.neurons()).device

    @property
    def sources(self) -> tuple[nn.Parameter, ...]:
        """The parameters that the weight is computed from at present, frozen ones included."""
        return sources(self.module, self.part)

    @property
    def trainable(self) -> bool:
        """Whether any of the sources requires a gradient at present."""
        parameters = self.parameters
        if parameters and not any(p.requires_grad for p in parameters):
            return False
        matrices = [p.requires_grad for p in parameters if p.dim() > 1]
        if self.traced and matrices and all(matrices):
            return True  # whichever of them the weight is computed from
        with torch.inference_mode(False), torch.enable_grad():
            return neurons(self.module, part=self.part).requires_grad

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of the module and of what is below it, read or not."""
        return [p for _, module in walk(self.module) for p in module._parameters.values() if p is not None]

    def neurons(self, ordered: bool = True) -> Tensor:
        """The weight as a matrix [..., N, d], differentiable."""
        w = neurons(self.module, ordered, self.part)
        return w if self.fused is None else self.fused(w)


@dataclass(frozen=True)
class Skipped:
    """A layer that is not regularized, and why; or what there is to say of one that is."""

    name: str
    reason: str


class Selection(NamedTuple):
    """What :func:`select` finds: the layers, frozen ones included (see ``Layer.trainable``), and what is skipped."""

    layers: list[Layer]
    skipped: list[Skipped]


def select(
    model: nn.Module,
    *,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
    kinds: str | Iterable[str] = DEFAULT_KINDS,
    min_neurons: int = 2,
    max_neurons: int | None = None,
    output: str | Iterable[str] | None = "auto",
) -> Selection:
    """Split a model's weight matrices into regularized layers and skipped ones, each skipped one with the reason.

    Args:
        include, exclude: globs on layer names, ``"blocks.*.conv?"``; several in a sequence or separated by commas, as
            are kinds.
        kinds: which of ``conv linear attention recurrent embedding other``. Embeddings have to be named.
        min_neurons, max_neurons: bounds on the neurons of a set.
        output: globs of the output layers, in the same forms; ``"auto"`` finds the classifier, see
            :mod:`comhe.regularizers.output`; None or ``"none"`` treats every layer as hidden.

    Raises:
        UsageError: an option is out of range, or ``output`` names no layer.

    Example:
        >>> layers, skipped = select(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5), nn.Linear(5, 3)))
        >>> [(layer.name, layer.role) for layer in layers], [item.reason for item in skipped]
        ([('1', 'hidden'), ('2', 'output')], ["kind 'embedding' is not among kinds"])
    """
    include, exclude, kinds = map(listed, (include, exclude, kinds))
    for name in kinds:
        if name not in KINDS:
            raise UsageError(f"unknown kind of layer {name!r}; the kinds are {', '.join(KINDS)}")
    if min_neurons < 2:
        raise UsageError(f"min_neurons must be at least 2, since one neuron has no partner, not {min_neurons}")
    candidates, claimed = find_candidates(model)
    unread = list(find_unread(model, candidates, claimed))
    outputs, missing = find_outputs(model, output_matrices(model, candidates, unread), output)
    layers: list[Layer] = []
    skipped = [Skipped(name, reason) for name, reason, _ in unread] + ([Skipped(*missing)] if missing else [])
    owners: dict[tuple[object, ...], int] = {}
    for item in candidates:
        reason = item.reason or _reason(item, include, exclude, kinds, min_neurons, max_neurons)
        identity = (item.part, item.fused, frozenset(map(id, item.sources)) or id(item.module))
        if reason is None and identity in owners:
            owner = owners[identity]
            reason = f"tied to {layers[owner].name}"
            if item.name in outputs:
                layers[owner] = replace(layers[owner], role="output", found=outputs[item.name])
        if reason is None:
            owners[identity] = len(layers)
            role: Literal["hidden", "output"] = "output" if item.name in outputs else "hidden"
            found = outputs.get(item.name, "")
            traced = bool(item.sources)
            layers.append(Layer(item.name, item.module, role, item.shape, item.part, item.fused, found, traced))
            skipped += [Skipped(item.name, item.note)] if item.note else []
        else:
            skipped.append(Skipped(item.name, reason))
    return Selection(layers, skipped)


def idle_globs(model: nn.Module, layers: Iterable[str], globs: str | Iterable[str]) -> list[str]:
    """Those of the globs that match neither one of ``layers`` nor any module or parameter of the model.

    Example:
        >>> idle_globs(nn.Sequential(nn.Linear(4, 3)), ["0"], "0, *.bias, 1")
        ['1']
    """
    if not (wanted := listed(globs)):
        return []
    names = list(layers)
    for name, module in walk(model):
        names += [name, *(f"{name}.{key}" for key in module._parameters)]
    return [glob for glob in wanted if not any(fnmatchcase(name, glob) for name in names)]


def _reason(item: Candidate, include, exclude, kinds, min_neurons, max_neurons) -> str | None:
    """Why the layer is skipped; None if it is not."""
    if not any(fnmatchcase(item.name, glob) for glob in include):
        return "not in include"
    if any(fnmatchcase(item.name, glob) for glob in exclude):
        return "excluded by name"
    if kind(item.module) not in kinds:
        return f"kind {kind(item.module)!r} is not among kinds"
    count, width = item.shape[-2:]
    if width < 2:
        return "one-dimensional neurons have no angles" if width else "neurons without inputs have no angles"
    if count < min_neurons:
        return f"{count} neuron{'s' * (count != 1)}, fewer than min_neurons={min_neurons}"
    if max_neurons is not None and count > max_neurons:
        return f"{count} neurons, more than max_neurons={max_neurons}"
    return None
