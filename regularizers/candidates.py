"""Every weight matrix of a model, those without a view included."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .branches import Matrix, below, join
from .computed import attribute, walk
from .fused import Fused, split
from .heads import Heads
from .neurons import WEIGHT, NoNeuronsError, is_whole, kind, own_modules
from .sources import traced
from .views.messages import makers, placed
from .views.peft import unused_copies

_CENTERS = re.compile(r"prox(y|ies)|cent(er|re|roid)|prototype|class|^w(eights?)?$|^kernel$", re.IGNORECASE)
# Tables of positions, as Swin's relative_position_bias_table: no neurons.
_TABLES = re.compile(r"(^|_)(bias|pos(ition)?s?)(_(bias|table|emb\w*|enc\w*))*$", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A matrix of a module, or the reason why the module has none."""

    name: str
    module: nn.Module
    part: str = WEIGHT
    shape: tuple[int, ...] = ()
    rows: Fused | Heads | None = None  # how it is taken from the view
    sources: tuple[nn.Parameter, ...] = ()
    reason: str | None = None
    note: str = ""  # what a report says of it, although it is regularized


def find_candidates(model: nn.Module) -> tuple[list[Candidate], dict[nn.Module, str]]:
    """Every module with a view, a candidate per matrix; and the submodules that belong to one, with its name."""
    modules, found, claimed = dict(walk(model)), list[Candidate](), dict[nn.Module, str]()
    for name, module in own_modules(model):
        if module in claimed or kind(module) is None:
            continue
        try:
            parts = traced(module)
        except NoNeuronsError as error:
            parts = {}
            found.append(Candidate(name, module, reason=str(error)))
        for part, (w, read) in parts.items():
            full = name if part == WEIGHT else f"{name}.{part}".removeprefix(".")
            taken = split(name, modules, w)
            for ending, rows in taken.layers.items():
                shape = tuple((rows(w) if rows else w).shape)
                whole = f"{full}{ending}".removeprefix(".")
                found.append(Candidate(whole, module, part, shape, rows, read, note=taken.note))
        known = {id(p) for _, read in parts.values() for p in read}
        for _, child in walk(module):
            reads = any(id(p) in known for p in child._parameters.values())
            if child is not module and (reads or is_whole(module)):
                claimed[child] = name
    return found, claimed


def find_unread(
    model: nn.Module, candidates: list[Candidate], claimed: dict[nn.Module, str]
) -> Iterator[tuple[str, str, list[nn.Parameter]]]:
    """Modules with matrices that no view reads, so that a report does not pass over them in silence.

    The name, the reason, and the matrices; none of them if they belong to a layer, as an inactive adapter's do.
    """
    seen = {id(p) for item in candidates for p in item.sources}
    reasons = {item.name: item.module for item in candidates if item.reason is not None and not item.sources}
    explained = {*reasons.values(), *(module for module, owner in claimed.items() if owner in reasons)}
    modules = dict(walk(model))
    for name, module in modules.items():
        left: dict[str, nn.Parameter] = {}
        for key, p in module.named_parameters(recurse=False):
            is_scale = isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and key in ("weight", "bias")  # of single values
            if id(p) in seen or module in explained or is_scale:
                continue
            seen.add(id(p))
            if is_lazy(p) or p.numel() > max(p.shape, default=1):  # a scale [C, 1, 1] is a vector
                left[key] = p
        kind_of = type(module).__name__
        if left and module in claimed:
            yield name, f"part of {claimed[module]}, which does not read it at present", []
        elif left and isinstance(module, torch.jit.ScriptModule):
            yield (
                name,
                f"{kind_of} is compiled by torch.jit; attach the regularizer to the model before that",
                list(left.values()),
            )
        elif left:
            owner, weight = _parametrized(name)
            module = modules[owner]
            kind_of = type(module).__name__
            shapes = (f"{kind_of}.{weight or k} {'(lazy)' if is_lazy(p) else list(p.shape)}" for k, p in left.items())
            listed = ", ".join(shapes)
            reason = f"no matrix view for {listed}; add one with register_neurons"
            if type(module) is nn.Module:
                reason = f"{listed} is of no class, as after torch.export; attach the regularizer before"
            elif kind(module) is not None:
                reason = f"the view of {kind_of} does not read {listed}; one for a subclass can (register_neurons)"
            yield owner, reason, list(left.values())
        elif module not in claimed and (quantized := _quantized(module)):
            yield name, f"{kind_of}.{quantized} is quantized", []


def _parametrized(name: str) -> tuple[str, str]:
    """The module that a name below ``parametrizations`` belongs to, and the weight that is computed there.

    Of any other name it is the module of that name, and no weight.
    """
    owner, found, rest = f".{name}".partition(".parametrizations.")
    return (owner.removeprefix("."), rest.split(".")[0]) if found else (name, "")


def _quantized(module: nn.Module) -> str | None:
    """The name of a weight that is no parameter since it is packed or stored in integers."""
    if callable(getattr(type(module), WEIGHT, None)):
        return WEIGHT
    if type(module).__module__.startswith("torch.ao.nn.quantized") and hasattr(module, "_all_weight_values"):
        return "weights"
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.dim() >= 2 and WEIGHT in name and not buffer.is_floating_point() and not buffer.is_complex():
            return name
    return None


def output_matrices(
    model: nn.Module, candidates: list[Candidate], unread: list[tuple[str, str, list[nn.Parameter]]]
) -> list[Matrix]:
    """What the search for the output layer looks at, in order of registration. Class centers come after all
    layers of their module, although its parameters are registered before its children."""
    modules = dict(walk(model))
    order = {name: place for place, name in enumerate(modules)}
    found = [(order.get(item.name, order.get(item.name.rpartition(".")[0], 0)), _matrix(item)) for item in candidates]
    viewed = {item.name for item in candidates}
    for name, _, parameters in unread:
        for key, p in modules[name].named_parameters() if name not in viewed else ():  # else a bias or recurrent
            if any(p is other for other in parameters) and _is_matrix(p) and not _TABLES.search(key):
                key = _parametrized(key)[1] or key
                place = max(order[path] for path in order if below(path, name)) if _CENTERS.search(key) else order[name]
                sizes = frozenset(p.shape)
                found.append((place, Matrix(name, sizes, sizes, "bare", p.requires_grad)))
    unused = [join(name, copy) for name, module in walk(model) for copy in unused_copies(module)]
    matrices = [matrix for _, matrix in sorted(found, key=itemgetter(0))]
    convolutions = {name: globs for name, module in walk(model) if (globs := makers(module))}
    matrices = [placed(m, convolutions) for m in matrices]
    # A PixelShuffle may follow any convolution, and leaves a part of its maps.
    parts = {module.upscale_factor**2 for module in modules.values() if isinstance(module, nn.PixelShuffle)} | {1}
    left = {m.name: {n // k for n in m.outputs for k in parts if n % k == 0} for m in matrices}
    matrices = [replace(m, outputs=frozenset(left[m.name])) if m.role == "convolution" else m for m in matrices]
    return [replace(m, role="inner") if any(below(m.name, name) for name in unused) else m for m in matrices]


def _is_matrix(p: nn.Parameter) -> bool:
    return not is_lazy(p) and p.dim() == 2 and min(p.shape) > 1


def _matrix(item: Candidate) -> Matrix:
    trained = any(p.requires_grad for p in item.sources or item.module.parameters())
    if not item.shape:
        return Matrix(item.name, frozenset(), frozenset(), "bare", trained)
    inputs, outputs = {item.shape[-1]}, {item.shape[-2], torch.Size(item.shape[:-1]).numel()}
    what = kind(item.module)
    if isinstance(channels := attribute(item.module, "in_channels"), int):
        inputs |= {channels}
    if what == "recurrent":
        outputs |= {2 * item.shape[-2]}  # both directions
    if what == "embedding":
        inputs, outputs = set(), {item.shape[-1]}
    role = {"conv": "convolution", "attention": "inner", "embedding": "inner"}.get(what or "", "layer")
    role = "inner" if isinstance(item.rows, Fused) or item.note or item.reason is not None else role
    return Matrix(item.name, frozenset(inputs), frozenset(outputs), role, trained)
