"""The output layer: which layer of a model is its classifier.

``output="auto"`` asks in this order, and takes the first answer:

1. the library: timm's ``get_classifier()`` and ``default_cfg["classifier"]``, Transformers' ``get_output_embeddings()``
   and what stands outside the base model, torchvision's classification head of a detector;
2. the name: ``classifier``, ``head``, ``fc``, ``logits``, ... right below the model, and the last layer in it. A name
   decides only if no layer registered later takes its outputs, by shape;
3. the shapes: the last weight matrix whose number of outputs is no other layer's number of inputs, else the last one.

Heads side by side in one container (:func:`.branches.branch_ends`) are all output layers, and so are all matrices that
make the output of one of PyTorch Geometric's convolutions (:mod:`.views.messages`). Where other layers may be the
output as well, a warning lists them. A model that only wraps another one, as peft, Lightning and
DistributedDataParallel do, is looked into. Frozen and averaged networks beside the one that is trained
(:mod:`.copies`) and auxiliary heads (``aux...``) never count. A classifier that is a bare parameter without a view is
not replaced by another layer, nor is one that has been taken away: feature extractors have no output layer
(:mod:`.headless`), and the report says so. A frozen classifier keeps its role, and no other layer gets it.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn
from torch.nn.parameter import is_lazy

from comhe.errors import UsageError, warn

from .branches import (
    CONTAINERS,
    Matrix,
    below,
    branch_ends,
    children,
    ends,
    is_fed,
    join,
    loose_ends,
    rivals,
    side_by_side,
    together,
    twins,
    unwrapped,
)
from .computed import walk
from .copies import copies
from .headless import HEADS, headless, is_cut

_WEAK: tuple[str, ...] = ("fc", "cls", "linear", "output", "out", "decoder", "predictor", "out_proj", "prediction")
_AUXILIARY = re.compile(r"(^|\.)_?aux|auxiliary", re.IGNORECASE)
_REGRESSION = re.compile(
    r"(?<![a-z])(b?box|reg|offset|centerness|mask|keypoint|seq_relationship|distance)", re.IGNORECASE
)
_CLASSES = re.compile(r"^(cls|class|logits|classif)|classifier$|logits$")

_LAST, _OUTSIDE = "the last weight matrix", "the last layer outside the base model"
_BY_SHAPE = "by its shape: no other layer takes its outputs"
_GUESSES = (_LAST, _OUTSIDE, _BY_SHAPE)


def listed(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names or globs that were given as a sequence, or as one text with commas between.

    Example:
        >>> listed("fc,blocks.*"), listed(["fc"])
        (('fc', 'blocks.*'), ('fc',))
    """
    if isinstance(names, str):
        return tuple(filter(None, map(str.strip, re.split(r",(?![^\[]*\])", names))))  # [1,2] is part of a glob
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    for name in found:
        if not isinstance(name, str):
            raise UsageError(f"layers and kinds are given as text, one or several, not {name!r}")
    return found


class Outputs(NamedTuple):
    """The names of the output layers and how each was found; or the name of a module, and why there is none."""

    found: dict[str, str]
    missing: tuple[str, str] | None = None


def find_outputs(model: nn.Module, matrices: Sequence[Matrix], output: str | Iterable[str] | None) -> Outputs:
    """The output layers of a model.

    Args:
        matrices: every weight matrix of the model, in order of registration.
        output: globs of names, names of modules for the last layer in each, ``"auto"``, or None for no output layer.

    Raises:
        UsageError: a glob names no layer.

    Example:
        >>> model = nn.ModuleDict({"fc": nn.Linear(4, 3), "body": nn.Linear(5, 4)})
        >>> matrices = [Matrix("fc", frozenset({4}), frozenset({3})), Matrix("body", frozenset({5}), frozenset({4}))]
        >>> find_outputs(model, matrices, "auto").found
        {'fc': 'by its name'}
    """
    if output in (None, "none", "None"):
        return Outputs({})
    names = [matrix.name for matrix in matrices if matrix.role != "bare"]
    if output != "auto":
        found: dict[str, str] = {}
        for glob in listed(output):
            matching = [name for name in names if fnmatchcase(name, glob)] or _of_module(model, glob, matrices)
            bare = [m.name for m in matrices if m.role == "bare" and fnmatchcase(m.name, glob)]
            if not matching and bare:
                raise UsageError(f"output={glob!r} names {bare[0]}, which is skipped: {_to_view(model, bare[0])}")
            if not matching and names:
                there = ", ".join(name or "(the model itself)" for name in names)
                raise UsageError(f"output={glob!r} names no layer; the model has {there}")
            found |= dict.fromkeys(matching, f"named by output={glob!r}")
        return Outputs(found)
    missing = None
    prefix, core, beside = _core(model, matrices)
    matrices = [m for m in matrices if not any(below(m.name, name) for name in beside)]
    possible = [m for m in matrices if below(m.name, prefix) and m.role != "inner" and not _AUXILIARY.search(m.name)]
    for ask in itertools.chain((_library, _by_name), itertools.repeat(_by_shape)):
        if not possible:
            break
        answer = ask(core, prefix, possible, matrices)
        if answer is None:
            possible = [] if ask is _by_shape else possible
            continue
        why = next(
            filter(None, (headless(model, name, beside) for name, how in answer.items() if how in _GUESSES)), None
        )
        if why is not None:
            missing = missing or why[1:]
            possible = [m for m in possible if not below(m.name, why.owner)]  # there may be a head elsewhere
        elif answer:
            taken = [m for m in possible if m.name in answer]
            hows = {m.group: answer[m.name] for m in taken}
            answer = {m.name: answer.get(m.name, hows[m.group]) for m in together(taken, possible)}
            return Outputs(_viewed(model, answer, possible))
        else:
            return Outputs({}, (prefix, f"{type(core).__name__} has no classifier, so there is no output layer"))
    return Outputs({}, missing)


def _of_module(model: nn.Module, path: str, matrices: Sequence[Matrix]) -> list[str]:
    """The output of a module: its last layers, and all that make it together with them."""
    possible = [m for m in matrices if m.role not in ("bare", "inner")]
    lasts = _last(unwrapped(model), "", possible, path)
    return [m.name for m in together([m for m in possible if m.name in lasts], possible)]


Answer = dict[str, str] | None  # None: this question has no answer, ask the next one


def _library(core: nn.Module, prefix: str, possible: Sequence[Matrix], _: object) -> Answer:
    ask = _asked(core)
    return None if ask is None else ask(core, prefix, possible)


def _asked(core: nn.Module) -> Callable[[Any, str, Sequence[Matrix]], Answer] | None:
    """The question that fits the library that a model is from."""
    origins = [f"{base.__module__}.{base.__qualname__}" for base in type(core).__mro__]
    if callable(getattr(core, "get_classifier", None)):
        return _timm
    if "transformers.modeling_utils.PreTrainedModel" in origins:
        return _transformers
    return _detector if any(name.startswith("torchvision.models.detection.") for name in origins) else None


def _timm(core: Any, prefix: str, possible: Sequence[Matrix]) -> Answer:
    config = getattr(core, "pretrained_cfg", None) or getattr(core, "default_cfg", None)
    keys: Any = config.get("classifier") if isinstance(config, Mapping) else getattr(config, "classifier", None)
    if getattr(core, "num_classes", None) == 0:
        return {}  # a feature extractor
    keys = (keys,) if isinstance(keys, str) else keys or ()
    try:
        heads = core.get_classifier()
    except (AttributeError, NotImplementedError, TypeError):
        heads = ()
    heads = heads if isinstance(heads, (tuple, list)) else (heads,)
    names = {name for name, module in walk(core) if any(module is head for head in heads)} | set(keys)
    lasts = {name for key in names for name in _last(core, prefix, possible, join(prefix, key))}
    found = [m.name for m in possible if m.name in lasts]
    if not found and not any(isinstance(head, nn.Identity) for head in heads):
        return None
    return dict.fromkeys(found, "from get_classifier()")


def _transformers(core: Any, prefix: str, possible: Sequence[Matrix]) -> Answer:
    try:
        head = core.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        head = None
    if isinstance(head, nn.Module):
        names = [name for name, module in walk(core) if module is head]
        found = [last for name in names for last in _last(core, prefix, possible, join(prefix, name))]
        if found:
            return dict.fromkeys(found, "from get_output_embeddings()")
    base = getattr(core, "base_model_prefix", "")
    if not base or not isinstance(getattr(core, base, None), nn.Module):
        return None if _named(core) or "For" in type(core).__name__ else {}  # a base model has no classifier
    outside = [m for m in possible if not below(m.name, join(prefix, base))]
    if not outside:
        return None
    answer = _by_name(core, prefix, outside, outside)
    if answer is None:
        answer = dict.fromkeys(_by_shape(core, prefix, outside, outside) or (), _OUTSIDE)
    return answer


def _detector(core: object, prefix: str, possible: Sequence[Matrix]) -> Answer:
    """``cls_score`` of the R-CNNs, ``cls_logits`` of RetinaNet and FCOS, one layer a scale of SSD."""
    names = [m.name for m in possible]
    heads: tuple[str, ...] = (r"roi_heads\.box_predictor\.cls_score", r"head\.classification_head\.cls_logits")
    heads += (r"head\.classification_head\.module_list\.\d+",)
    for head in heads:
        found = [name for name in names if re.match(re.escape(join(prefix, "")) + head, name)]
        groups = {re.match(re.escape(join(prefix, "")) + head, name)[0]: name for name in found}  # type: ignore[index]
        if groups:
            return dict.fromkeys(groups.values(), "torchvision's classification head")
    return None


def _by_name(core: nn.Module, prefix: str, possible: Sequence[Matrix], every: Sequence[Matrix]) -> Answer:
    for known in (HEADS, _WEAK):
        found = {}
        for path, child, lasts in _heads(core, prefix, possible, known):
            last = [m for m in possible if m.name in lasts]
            if not any(_goes_on(m, path, possible, every, known is _WEAK) for m in last) and not _joined(last, every):
                found[path] = [] if is_cut(child) else lasts
                if isinstance(child, CONTAINERS) and len(lasts) == 1:
                    _warn_if_alike([m for m in possible if below(m.name, path)], lasts)
        if not found:
            continue
        taken = found[list(found)[-1]]
        alike = [last for lasts in found.values() for last in lasts]
        if known is _WEAK and len(taken) == 1:
            alike += [name for name in _next_to(core, prefix, possible, every, taken[0]) if name not in alike]
        if len(found) > 1 or len(alike) > len(taken):
            _warn_ambiguous(alike, taken)
        return dict.fromkeys(taken, "by its name")
    return None


def _heads(
    core: nn.Module, prefix: str, possible: Sequence[Matrix], known: Sequence[str]
) -> Iterator[tuple[str, nn.Module, list[str]]]:
    """The children with a name of a head, and their last layers."""
    for path, child in children(core, prefix):
        name = path.rpartition(".")[2]
        if name in known and not _AUXILIARY.search(name) and (lasts := _last(core, prefix, possible, path)):
            yield path, child, lasts


def _goes_on(named: Matrix, path: str, possible: Sequence[Matrix], every: Sequence[Matrix], weak: bool) -> bool:
    """Whether another layer takes the outputs of a layer with a head's name: one after it, or the end of the model.

    One with a weak name that takes inputs of the model goes on as well, if another end does not.
    """
    others = [m for m in every if not below(m.name, path) and not _AUXILIARY.search(m.name)]
    others = [m for m in others if m.role != "bare" or m.inputs != named.inputs | named.outputs]  # centers of classes
    after = every[every.index(named) :] if named in every else ()
    if any(named.feeds(m) for m in others if m in after) or (weak and any(map(named.unfolds, after[1:2]))):
        return True
    free = ends(possible, every) if weak else []
    if weak and not is_fed(named, every) and any(is_fed(m, every) for m in free if m in others and m in after):
        return True
    return any(named.feeds(m, flattened=False) for m in others if m in free)


def _joined(heads: Sequence[Matrix], every: Sequence[Matrix]) -> bool:
    """Whether a later layer takes the outputs of several heads side by side, or a layer of one neuron has a rival."""
    after = every[every.index(heads[-1]) + 1 :] if heads[-1] in every else ()
    if len(heads) == 1:
        return heads[0].outputs == {1} and any(m.inputs == heads[0].inputs and max(m.outputs) > 1 for m in after)
    total = sum(min(m.outputs, default=0) for m in heads)  # 0: they are lazy
    return any(total in m.inputs for m in after)


def _next_to(
    core: nn.Module, prefix: str, possible: Sequence[Matrix], every: Sequence[Matrix], taken: str
) -> list[str]:
    """What may be the output as well as a layer with a weak name, and is registered before or after it."""
    named = next(m for m in possible if m.name == taken)
    rest = [m for m in possible if m is named or not _REGRESSION.search(m.name)]
    child = next((path for path, _ in children(core, prefix) if below(taken, path)), taken)
    own = [i for i, m in enumerate(rest) if below(m.name, child)]
    near = rest[max(own[0] - 1, 0) : own[-1] + 2]
    return [m.name for m in rivals(core, prefix, named, rest, ends(rest, every)) if m in near]


def _warn_if_alike(matrices: Sequence[Matrix], taken: Sequence[str]) -> None:
    """Square layers in a list may follow each other or stand side by side."""
    first = matrices[0]
    if len(matrices) > 1 and all((m.inputs, m.outputs) == (first.inputs, first.outputs) for m in matrices):
        _warn_ambiguous([m.name for m in matrices], taken)


def _by_shape(core: nn.Module, prefix: str, possible: Sequence[Matrix], every: Sequence[Matrix]) -> Answer:
    possible = [m for m in possible if m.role != "bare" or not m.inputs or any(o.feeds(m) for o in every if o is not m)]
    if not possible:
        return None
    free = ends(possible, every)
    for_classes = [m for m in possible if not _REGRESSION.search(m.name)]
    if any(m in free for m in for_classes) or not free:
        possible = for_classes or possible
        free = [m for m in free if m in possible]
    free = [m for m in free if max(m.outputs, default=2) > 1] or free  # one neuron has no partner
    last = possible[-1]
    named = [name for _, _, lasts in _heads(core, prefix, possible, HEADS) for name in lasts]
    if last.name not in named and any(not free or last.feeds(m) for m in possible if m.name in named):
        _warn_ambiguous([*named, last.name], named)
        return dict.fromkeys(named, "by its name")
    taken = last if last in free or not free else free[-1]
    encodes = taken.feeds(every[0]) and taken.role == every[0].role
    if encodes and not is_fed(taken, every):  # registered after what it feeds
        taken = next((m for m in reversed(free) if is_fed(m, every)), taken)
    found = together(_members(core, prefix, possible, free) or side_by_side(core, prefix, taken, free), possible)
    if taken is last:
        others = rivals(core, prefix, taken, possible, free) + twins(taken, free)
        if not isinstance(core, (nn.Sequential, nn.ModuleList)):
            loose = [m for m in loose_ends(possible, every) if is_fed(m, every)]
            others += [m for m in loose if m.outputs & taken.outputs or is_fed(taken, every)]
            others += [m for m in possible if m.role == "bare" and taken.feeds(m, flattened=False)]
    else:
        others = free if last.feeds(taken) or last in found else [*free, last]
    if trained := [m for m in others if m.trained and not any(m.trained for m in found)]:
        found = trained[-1:]
    if not set(others) <= set(found):
        _warn_ambiguous([m.name for m in possible if m in others or m in found], [m.name for m in found])
    return dict.fromkeys((m.name for m in found), _LAST if taken is last else _BY_SHAPE)


def _members(core: nn.Module, prefix: str, possible: Sequence[Matrix], free: Sequence[Matrix]) -> list[Matrix]:
    """The ends of the members of an ensemble: a list of networks of the same shapes."""
    if not isinstance(core, nn.ModuleList):
        return []
    members = [[m for m in possible if below(m.name, path)] for path, _ in children(core, prefix)]
    shapes = {tuple((m.inputs, m.outputs) for m in member) for member in members}
    last = [member[-1] for member in members if member]
    return last if len(members) > 1 and len(shapes) == 1 and all(m in free for m in last) else []


def _viewed(model: nn.Module, answer: dict[str, str], possible: Sequence[Matrix]) -> dict[str, str]:
    bare = {m.name for m in possible if m.role == "bare"} & set(answer)
    for name in bare:
        warn(
            f"the output layer seems to be {name or 'the model itself'}, which is skipped (see the report): "
            f"{_to_view(model, name)}; until then all layers are hidden"
        )
    return {name: how for name, how in answer.items() if name not in bare}


def _to_view(model: nn.Module, name: str) -> str:
    """What makes a layer of a module that has no view."""
    module = dict(walk(model)).get(name)
    if module is not None and any(map(is_lazy, module.parameters())):
        return "it is lazy, so call the model once before"
    return "give it a view with register_neurons or name another one with output="


def _core(model: nn.Module, matrices: Sequence[Matrix]) -> tuple[str, nn.Module, list[str]]:
    """The model below its wrappers, as long as one child has all matrices and the model itself no answer; and what
    stands beside it."""
    prefix, core, beside = "", unwrapped(model), list[str]()
    while _asked(core) is None:
        if not isinstance(core, nn.Sequential):
            beside += copies(core, prefix, matrices, (*HEADS, *_WEAK))
        rest = [m for m in matrices if not any(below(m.name, name) for name in beside)]
        full = [(name, child) for name, child in children(core, prefix) if any(below(m.name, name) for m in rest)]
        inside = len(full) == 1 and all(below(m.name, full[0][0]) for m in rest)
        if _named(core) or not inside or isinstance(core, (nn.Sequential, nn.ModuleList)):
            break
        prefix, core = full[0]
    return prefix, core, beside


def _named(core: nn.Module) -> bool:
    return any(name in HEADS for name, _ in core.named_children())


def _last(core: nn.Module, prefix: str, possible: Sequence[Matrix], path: str) -> list[str]:
    """The last layer below a module of the core; of several branches those for classes, else all."""
    inside = [m for m in possible if below(m.name, path)]
    inside = [m for m in inside if not _REGRESSION.search(m.name[len(path) :])] or inside
    modules = dict(walk(core, prefix))
    names = _for_classes(inside, path) or {path: None}
    branches = {name: [m for m in inside if below(m.name, name)] for name in names}
    last = {
        name: branch_ends(unwrapped(modules[name]), name, part) if name in modules else part[-1:]
        for name, part in branches.items()
    }
    return [m.name for name, found in last.items() for m in found if not _enters(name, branches, last)]


def _for_classes(inside: Sequence[Matrix], path: str) -> dict[str, None]:
    """The branches below a module that are called after classes, ``cls_tower`` and ``cls_logits``, in order."""
    found = dict[str, None]()
    for m in inside:
        parts = m.name[len(path) :].removeprefix(".").split(".")
        if (end := next((i for i, part in enumerate(parts) if _CLASSES.search(part)), None)) is not None:
            found[join(path, *parts[: end + 1])] = None
    return found


def _enters(name: str, branches: dict[str, list[Matrix]], last: dict[str, list[Matrix]]) -> bool:
    """Whether another branch takes the outputs of this one, and not the other way round."""

    def leads(a: str, b: str) -> bool:
        return any(end.feeds(branches[b][0], flattened=False) for end in last[a])

    return any(leads(name, other) and not leads(other, name) for other in branches if other != name)


def _warn_ambiguous(candidates: Sequence[str], chosen: Sequence[str]) -> None:
    named, taken = (", ".join(name or "the model itself" for name in names) for names in (candidates, chosen))
    warn(f"the output layer may be any of {named}; {taken} is taken. Name it with output=")
