"""Which layers of a model are regularized, in which role, and why the others are not."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from comhe.errors import UsageError, check_count

from .branches import below
from .candidates import Candidate, find_candidates, find_unread, output_matrices
from .computed import walk
from .copies import followers
from .fused import Fused
from .globs import matches, matches_any
from .heads import Heads
from .neurons import WEIGHT, kind, neurons
from .output import find_outputs, listed
from .sharding import check_matrices
from .sources import sources

KINDS = ("conv", "linear", "attention", "recurrent", "embedding", "other")
DEFAULT_KINDS = ("conv", "linear", "attention", "recurrent", "other")
EXCLUDED = "excluded by name"
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
    rows: Fused | Heads | None = None  # how it is taken from the view
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
        return w if self.rows is None else self.rows(w)


def called(name: str) -> str:
    """Return what a layer is called in a message, which has no name if it is the model itself."""
    return name or "(the model)"


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
        include, exclude: globs on layer names, ``"blocks.*.conv?"``, or names of modules, ``"backbone"``, for all that
            is in them; several in a sequence or separated by commas, as are kinds.
        kinds: which of ``conv linear attention recurrent embedding other``. Embeddings have to be named.
        min_neurons, max_neurons: bounds on the neurons of a set.
        output: globs of the output layers, or names of modules for the last layer in each; ``"auto"`` finds the
            classifier, see :mod:`comhe.regularizers.output`; :func:`comhe.regularizers.output_layers` finds the layers
            in a forward pass; None or ``"none"`` treats every layer as hidden.

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
    check_count("min_neurons", min_neurons, 2)  # one neuron has no partner
    check_count("max_neurons", min_neurons if max_neurons is None else max_neurons, 2)
    check_matrices(model)
    candidates, claimed = find_candidates(model)
    unread = list(find_unread(model, candidates, claimed))
    matrices = output_matrices(model, candidates, unread)
    copies = dict(followers(model, matrices, include))
    matrices = [m for m in matrices if not any(below(m.name, path) for path in copies)]
    outputs, missing = find_outputs(model, matrices, output)
    reasons = [item.reason or _reason(item, include, exclude, kinds, min_neurons, max_neurons) for item in candidates]
    for i, item in enumerate(candidates):
        following = next((why for path, why in copies.items() if below(item.name, path)), None)
        reasons[i] = reasons[i] or following
    ties = _Ties(candidates)
    excluded = {i for i, reason in enumerate(reasons) if reason == EXCLUDED}
    places: dict[int, int] = {}  # of the candidates that are regularized, among the layers
    layers: list[Layer] = []
    for i, item in enumerate(candidates):
        if reasons[i] is None and (twin := ties.find(i, excluded)) is not None:
            reasons[i] = f"{EXCLUDED}: it is tied to {candidates[twin].name}"
        elif reasons[i] is None and (twin := ties.find(i, places)) is not None:
            place = places[twin]
            reasons[i] = f"tied to {layers[place].name}"
            if item.name in outputs:
                layers[place] = replace(layers[place], role="output", found=outputs[item.name])
        elif reasons[i] is None:
            places[i] = len(layers)
            role: Literal["hidden", "output"] = "output" if item.name in outputs else "hidden"
            found = outputs.get(item.name, "")
            traced = bool(item.sources)
            layers.append(Layer(item.name, item.module, role, item.shape, item.part, item.rows, found, traced))
    skipped = [Skipped(name, reason) for name, reason, _ in unread] + ([Skipped(*missing)] if missing else [])
    for i, (item, reason) in enumerate(zip(candidates, reasons, strict=True)):
        if reason is None:
            skipped += [Skipped(item.name, item.note)] if item.note else []
            continue
        if not reason.startswith("tied to") and (twin := ties.find(i, places)) is not None:
            reason += f", but it is tied to {layers[places[twin]].name}, which is regularized"
        skipped.append(Skipped(item.name, reason))
    return Selection(layers, skipped)


class _Ties:
    """Which candidates are one weight under several names."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self._alike: dict[object, list[int]] = {}
        for i, item in enumerate(candidates):
            self._alike.setdefault(self._key(item), []).append(i)

    def find(self, i: int, others: Container[int]) -> int | None:
        """The first of the others that is the same weight as candidate i."""
        item = self._candidates[i]
        alike = self._alike[self._key(item)]
        return next((j for j in alike if j != i and j in others and _is_same(item, self._candidates[j])), None)

    @staticmethod
    def _key(item: Candidate) -> object:
        return item.part, item.rows, frozenset(map(id, item.sources)) or id(item.module)


def _is_same(one: Candidate, other: Candidate) -> bool:
    """Whether two matrices of the same parameters are one. Layers that compute theirs may each take another part."""
    if all(any(p is q for q in item.module._parameters.values()) for item in (one, other) for p in item.sources):
        return True
    if one.shape != other.shape:
        return False
    with torch.no_grad():
        w, v = (neurons(item.module, part=item.part) for item in (one, other))
    return w.is_meta or torch.equal(w, v)


def idle_globs(model: nn.Module, layers: Iterable[str], globs: str | Iterable[str]) -> list[str]:
    """Those of the globs that match none of ``layers``, nor a module without any or a vector, which it is safe to name.

    Example:
        >>> model = nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
        >>> idle_globs(model, ["0.0"], "0, *.bias, 0.1, ?, 0.0.weight, 2")
        ['?', '0.0.weight', '2']
    """
    if not (wanted := listed(globs)):
        return []
    layers = list(layers)
    above = {name[:end] for name in layers for end, char in enumerate(name) if char == "."} | {*layers, ""}
    harmless = []
    for name, module in walk(model):
        harmless += [name] * (name not in above)
        harmless += [f"{name}.{key}" for key, p in module._parameters.items() if p is None or is_lazy(p) or p.dim() < 2]
    return [
        glob
        for glob in wanted
        if not any(matches(glob, name) for name in layers) and not any(fnmatchcase(name, glob) for name in harmless)
    ]


def _reason(item: Candidate, include, exclude, kinds, min_neurons, max_neurons) -> str | None:
    """Why the layer is skipped; None if it is not."""
    if not matches_any(include, item.name):
        return "not in include"
    if matches_any(exclude, item.name):
        return EXCLUDED
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
