"""Which layers of a model are regularized, in which role, and why the others are not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from comhe.errors import UsageError

from .fused import Fused, fused
from .neurons import WEIGHT, NoNeuronsError, is_whole, kind, neurons, own_modules, views
from .output import Matrix, find_outputs
from .sources import sources

KINDS = ("conv", "linear", "attention", "recurrent", "embedding", "other")
DEFAULT_KINDS = ("conv", "linear", "attention", "recurrent", "other")
FROZEN = "frozen (requires_grad is False)"


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

    @property
    def device(self) -> torch.device:
        """Where the layer's weights are."""
        return next(self.module.parameters()).device

    @property
    def sources(self) -> tuple[nn.Parameter, ...]:
        """The parameters that the weight is computed from at present, frozen ones included."""
        return sources(self.module, self.part)

    @property
    def trainable(self) -> bool:
        """Whether any of the sources requires a gradient at present."""
        parameters = tuple(self.module.parameters())
        matrices = [p for p in parameters if p.dim() > 1]
        if parameters and not any(p.requires_grad for p in parameters):
            return False
        if matrices and all(p.requires_grad for p in matrices):
            return True
        with torch.inference_mode(False), torch.enable_grad():
            return neurons(self.module, part=self.part).requires_grad

    def neurons(self, ordered: bool = True) -> Tensor:
        """The weight as a matrix [..., N, d], differentiable."""
        w = neurons(self.module, ordered, self.part)
        return w if self.fused is None else self.fused(w)


@dataclass(frozen=True)
class Skipped:
    """A layer that is not regularized, and why."""

    name: str
    reason: str


class Selection(NamedTuple):
    """What :func:`select` finds: the layers, frozen ones included (see ``Layer.trainable``), and what is skipped."""

    layers: list[Layer]
    skipped: list[Skipped]


@dataclass(frozen=True)
class _Candidate:
    """A matrix of a module, or the reason why the module has none."""

    name: str
    module: nn.Module
    part: str = WEIGHT
    shape: tuple[int, ...] = ()
    fused: Fused | None = None
    sources: tuple[nn.Parameter, ...] = ()
    reason: str | None = None


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
        include, exclude: globs on layer names (``"blocks.*.conv?"``), one or several.
        kinds: which of ``conv linear attention recurrent embedding other``. Embeddings have to be named.
        min_neurons, max_neurons: bounds on the neurons of a set.
        output: globs of the output layers, one or several; ``"auto"`` finds the classifier, see
            :mod:`comhe.regularizers.output`; None treats every layer as hidden.

    Raises:
        UsageError: an option is out of range, or ``output`` names no layer.

    Example:
        >>> layers, skipped = select(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5), nn.Linear(5, 3)))
        >>> [(layer.name, layer.role) for layer in layers], [item.reason for item in skipped]
        ([('1', 'hidden'), ('2', 'output')], ["kind 'embedding' is not among kinds"])
    """
    include, exclude, kinds = ((x,) if isinstance(x, str) else tuple(x) for x in (include, exclude, kinds))
    for name in kinds:
        if name not in KINDS:
            raise UsageError(f"unknown kind of layer {name!r}; the kinds are {', '.join(KINDS)}")
    if min_neurons < 2:
        raise UsageError(f"min_neurons must be at least 2, since one neuron has no partner, not {min_neurons}")
    candidates, claimed = _candidates(model)
    unread = list(_unread(model, candidates, claimed))
    outputs = find_outputs(model, _matrices(model, candidates, unread), output)
    layers: list[Layer] = []
    skipped = [Skipped(name, reason) for name, reason, _ in unread]
    owners: dict[tuple[object, ...], int] = {}
    for item in candidates:
        reason = item.reason or _reason(item, include, exclude, kinds, min_neurons, max_neurons)
        identity = (item.part, frozenset(map(id, item.sources)) or id(item.module))
        if reason is None and identity in owners:
            owner = owners[identity]
            reason = f"tied to {layers[owner].name}"
            if item.name in outputs:
                layers[owner] = replace(layers[owner], role="output", found=outputs[item.name])
        if reason is None:
            owners[identity] = len(layers)
            role: Literal["hidden", "output"] = "output" if item.name in outputs else "hidden"
            found = outputs.get(item.name, "")
            layers.append(Layer(item.name, item.module, role, item.shape, item.part, item.fused, found))
        else:
            skipped.append(Skipped(item.name, reason))
    return Selection(layers, skipped)


def _candidates(model: nn.Module) -> tuple[list[_Candidate], dict[nn.Module, str]]:
    """Every module with a view, a candidate per matrix; and the submodules that belong to one, with its name."""
    modules, found, claimed = dict(model.named_modules()), list[_Candidate](), dict[nn.Module, str]()
    for name, module in own_modules(model):
        if module in claimed or kind(module) is None:
            continue
        try:
            parts = views(module)
        except NoNeuronsError as error:
            parts = {}
            found.append(_Candidate(name, module, reason=str(error)))
        parent, _, leaf = name.rpartition(".")
        read: set[int] = set()
        for part, w in parts.items():
            full = name if part == WEIGHT else f"{name}.{part}".removeprefix(".")
            behind = sources(module, part)
            read |= set(map(id, behind))
            try:
                sets = fused(leaf, modules[parent], w) if name else None
            except NoNeuronsError as error:
                found.append(_Candidate(full, module, part, tuple(w.shape), sources=behind, reason=str(error)))
                continue
            found.append(_Candidate(full, module, part, tuple((sets(w) if sets else w).shape), sets, behind))
        for child in module.modules():
            reads = any(id(p) in read for p in child.parameters(recurse=False))
            if child is not module and (reads or is_whole(module)):
                claimed[child] = name
    return found, claimed


def _unread(
    model: nn.Module, candidates: list[_Candidate], claimed: dict[nn.Module, str]
) -> Iterator[tuple[str, str, list[nn.Parameter]]]:
    """Modules with matrices that no view reads, so that a report does not pass over them in silence."""
    seen = {id(p) for item in candidates for p in item.sources}
    explained = {item.module for item in candidates if item.reason is not None and not item.sources}
    for name, module in model.named_modules():
        left: dict[str, nn.Parameter] = {}
        for key, p in module.named_parameters(recurse=False):
            if id(p) in seen or module in explained:
                continue
            seen.add(id(p))
            if isinstance(p, nn.parameter.UninitializedParameter) or p.dim() >= 2:
                left[key] = p
        kind_of = type(module).__name__
        if left and module in claimed:
            yield name, f"part of {claimed[module]}, which does not read it at present", list(left.values())
        elif left:
            lazy = (nn.parameter.UninitializedParameter,)
            shapes = (f"{kind_of}.{k} {'(lazy)' if isinstance(p, lazy) else list(p.shape)}" for k, p in left.items())
            yield name, f"no matrix view for {', '.join(shapes)}; add one with register_neurons", list(left.values())
        elif module not in claimed and (quantized := _quantized(module)):
            yield name, f"{kind_of}.{quantized} is quantized", []


def _quantized(module: nn.Module) -> str | None:
    """The name of a weight that is no parameter since it is packed or stored in integers."""
    if callable(getattr(type(module), "weight", None)) and not isinstance(type(module).weight, property):
        return WEIGHT
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.dim() >= 2 and WEIGHT in name and not buffer.is_floating_point() and not buffer.is_complex():
            return name
    return None


def _matrices(
    model: nn.Module, candidates: list[_Candidate], unread: list[tuple[str, str, list[nn.Parameter]]]
) -> list[Matrix]:
    """What the search for the output layer looks at, in order of registration."""
    found: dict[str, list[Matrix]] = {}
    for item in candidates:
        if item.shape:
            channels = getattr(item.module, "in_channels", None)
            inputs = {item.shape[-1], channels} if isinstance(channels, int) else {item.shape[-1]}
            outputs = {item.shape[-2], torch.Size(item.shape[:-1]).numel()}
            role = {"conv": "convolution", "attention": "inner", "embedding": "inner"}.get(
                kind(item.module) or "", "layer"
            )
            if kind(item.module) == "recurrent":
                outputs |= {2 * item.shape[-2]}
            if kind(item.module) == "embedding":
                outputs, inputs = {item.shape[-1]}, set()
            role = "inner" if item.fused is not None else role
            found.setdefault(item.name, []).append(Matrix(item.name, frozenset(inputs), frozenset(outputs), role))
        elif item.reason:
            found.setdefault(item.name, [])
    for name, _, parameters in unread:
        for p in parameters:
            if not isinstance(p, nn.parameter.UninitializedParameter) and p.dim() == 2:
                sizes = frozenset(p.shape)
                found.setdefault(name, []).append(Matrix(name, sizes, sizes, "bare"))
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    return [m for name in sorted(found, key=lambda name: _order(name, order)) for m in found[name]]


def _order(name: str, order: dict[str, int]) -> int:
    return order[name] if name in order else order[name.rpartition(".")[0]]


def _reason(item, include, exclude, kinds, min_neurons, max_neurons) -> str | None:
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
