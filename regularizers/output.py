"""The output layer: which layer of a model is its classifier.

``output="auto"`` asks in this order, and takes the first answer:

1. the library: timm's ``get_classifier()`` and ``default_cfg["classifier"]``, Transformers' ``get_output_embeddings()``
   and what stands outside the base model, torchvision's classification head of a detector;
2. the name: ``classifier``, ``head``, ``fc``, ``logits``, ... right below the model, and the last layer in it;
3. the shapes: the last weight matrix whose number of outputs is no other layer's number of inputs, else the last one.

A model that only wraps another one, as peft, Lightning and DistributedDataParallel do, is looked into. Auxiliary heads
(``aux...``) never count. A classifier that is a bare parameter without a view is not replaced by another layer, nor is
one that has been taken away: feature extractors have no output layer (:mod:`.headless`), and the report says so.
"""

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn

from comhe.errors import UsageError

from .computed import walk
from .headless import HEADS, headless, is_cut

_WEAK: tuple[str, ...] = ("fc", "cls", "linear", "output", "out", "decoder", "predictor", "out_proj", "prediction")
_AUXILIARY = re.compile(r"(^|\.)_?aux|auxiliary", re.IGNORECASE)
_REGRESSION = re.compile(r"box|reg|offset|centerness|mask|keypoint|seq_relationship|distance")
_CLASSES = re.compile(r"^(cls|class|logits|classif)|classifier$|logits$")

_LAST, _OUTSIDE = "the last weight matrix", "the last layer outside the base model"
_BY_SHAPE = "by its shape: no other layer takes its outputs"
_GUESSES = (_LAST, _OUTSIDE, _BY_SHAPE)


@dataclass(frozen=True)
class Matrix:
    """A candidate: a weight with its number of outputs and inputs, or (without a view) both of them in any order."""

    name: str
    inputs: frozenset[int]
    outputs: frozenset[int]
    role: str = "layer"  # or "convolution", which may be flattened; "inner", never the output; "bare", without a view

    def feeds(self, other: "Matrix") -> bool:
        """Whether the other one may take this one's outputs for its inputs."""
        flattened = self.role == "convolution" and other.role != "convolution"
        return any(n == m or (flattened and m % n == 0) for n in self.outputs for m in other.inputs)


class Outputs(NamedTuple):
    """The names of the output layers and how each was found; or the name of a module, and why there is none."""

    found: dict[str, str]
    missing: tuple[str, str] | None = None


def find_outputs(model: nn.Module, matrices: Sequence[Matrix], output: str | Iterable[str] | None) -> Outputs:
    """The output layers of a model.

    Args:
        matrices: every weight matrix of the model, in order of registration.
        output: globs of names, ``"auto"``, or None for no output layer.

    Raises:
        UsageError: a glob names no layer.

    Example:
        >>> model = nn.ModuleDict({"fc": nn.Linear(4, 3), "body": nn.Linear(5, 4)})
        >>> matrices = [Matrix("fc", frozenset({4}), frozenset({3})), Matrix("body", frozenset({5}), frozenset({4}))]
        >>> find_outputs(model, matrices, "auto").found
        {'fc': 'by its name'}
    """
    if output is None:
        return Outputs({})
    names = [matrix.name for matrix in matrices if matrix.role != "bare"]
    if output != "auto":
        found: dict[str, str] = {}
        for glob in (output,) if isinstance(output, str) else tuple(output):
            matching = [name for name in names if fnmatchcase(name, glob)]
            if not matching and names:
                listed = ", ".join(name or "(the model itself)" for name in names)
                raise UsageError(f"output={glob!r} names no layer; the model has {listed}")
            found |= dict.fromkeys(matching, f"named by output={glob!r}")
        return Outputs(found)
    missing = None
    prefix, core = _core(model, matrices)
    possible = [m for m in matrices if _below(m.name, prefix) and m.role != "inner" and not _AUXILIARY.search(m.name)]
    for ask in itertools.chain((_library, _by_name), itertools.repeat(_by_shape)):
        if not possible:
            break
        answer = ask(core, prefix, possible, matrices)
        if answer is None:
            possible = [] if ask is _by_shape else possible
            continue
        why = next(filter(None, (headless(model, name) for name, how in answer.items() if how in _GUESSES)), None)
        if why is not None:
            missing = missing or why[1:]
            possible = [m for m in possible if not _below(m.name, why.owner)]  # there may be a head elsewhere
        elif answer:
            return Outputs(_viewed(answer, possible))
        else:
            return Outputs({}, (prefix, f"{type(core).__name__} has no classifier, so there is no output layer"))
    return Outputs({}, missing)


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
    lasts = {name for key in names for name in _last(possible, _join(prefix, key))}
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
        found = [last for name in names for last in _last(possible, _join(prefix, name))]
        if found:
            return dict.fromkeys(found, "from get_output_embeddings()")
    base = getattr(core, "base_model_prefix", "")
    if not base or not isinstance(getattr(core, base, None), nn.Module):
        return None if _named(core) or "For" in type(core).__name__ else {}  # a base model has no classifier
    outside = [m for m in possible if not _below(m.name, _join(prefix, base))]
    if not outside:
        return None
    answer = _by_name(core, prefix, outside, ())
    return answer if answer is not None else {outside[-1].name: _OUTSIDE}


def _detector(core: object, prefix: str, possible: Sequence[Matrix]) -> Answer:
    """``cls_score`` of the R-CNNs, ``cls_logits`` of RetinaNet and FCOS, one layer a scale of SSD."""
    names = [m.name for m in possible]
    heads: tuple[str, ...] = (r"roi_heads\.box_predictor\.cls_score", r"head\.classification_head\.cls_logits")
    heads += (r"head\.classification_head\.module_list\.\d+",)
    for head in heads:
        found = [name for name in names if re.match(re.escape(_join(prefix, "")) + head, name)]
        groups = {re.match(re.escape(_join(prefix, "")) + head, name)[0]: name for name in found}  # type: ignore[index]
        if groups:
            return dict.fromkeys(groups.values(), "torchvision's classification head")
    return None


def _by_name(core: nn.Module, prefix: str, possible: Sequence[Matrix], _: object) -> Answer:
    for known in (HEADS, _WEAK):
        found = {}
        for name in (name for name, _ in core.named_children() if name in known and not _AUXILIARY.search(name)):
            if lasts := _last(possible, _join(prefix, name)):
                found[name] = [] if is_cut(core.get_submodule(name)) else lasts
        if len(found) > 1:
            _warn_ambiguous([last for lasts in found.values() for last in lasts], found[list(found)[-1]])
        if found:
            return dict.fromkeys(found[list(found)[-1]], "by its name")
    return None


def _by_shape(core: nn.Module, prefix: str, possible: Sequence[Matrix], every: Sequence[Matrix]) -> Answer:
    possible = [m for m in possible if m.role != "bare" or not m.inputs or any(o.feeds(m) for o in every if o is not m)]
    possible = [m for m in possible if not _REGRESSION.search(m.name)] or possible
    if not possible:
        return None
    ends = [m for m in possible if not any(m.feeds(other) for other in every if other is not m)]
    last = possible[-1]
    if last in ends or not ends:
        heads = {_join(prefix, name) for name, _ in core.named_children()}  # deeper ones are parts of one layer
        equals = [m for m in ends if m.inputs == last.inputs and {m.name, last.name} <= heads]
        if len(equals) > 1:
            _warn_ambiguous([m.name for m in equals], [last.name])
        return {last.name: _LAST}
    if len(ends) > 1:
        _warn_ambiguous([m.name for m in ends], [ends[-1].name])
    return {ends[-1].name: _BY_SHAPE}


def _viewed(answer: dict[str, str], possible: Sequence[Matrix]) -> dict[str, str]:
    bare = {m.name for m in possible if m.role == "bare"} & set(answer)
    for name in bare:
        warnings.warn(
            f"the output layer seems to be {name or 'the model itself'}, which is skipped (see the report): give it a "
            "view with register_neurons or name another one with output=; until then all layers are hidden",
            stacklevel=2,
        )
    return {name: how for name, how in answer.items() if name not in bare}


def _core(model: nn.Module, matrices: Sequence[Matrix]) -> tuple[str, nn.Module]:
    """The model below its wrappers: as long as one child has all matrices, and the model itself no answer."""
    prefix, core = "", model
    while _asked(core) is None and not _named(core):
        children = [(name, child) for name, child in core.named_children()]
        full = [(name, c) for name, c in children if any(_below(m.name, _join(prefix, name)) for m in matrices)]
        inside = all(_below(m.name, _join(prefix, full[0][0])) for m in matrices) if full else False
        if len(full) != 1 or not inside or isinstance(core, (nn.Sequential, nn.ModuleList)):
            break
        prefix, core = _join(prefix, full[0][0]), full[0][1]
    return prefix, core


def _named(core: nn.Module) -> bool:
    return any(name in HEADS for name, _ in core.named_children())


def _last(possible: Sequence[Matrix], prefix: str) -> list[str]:
    """The last layer below a module; of several branches those for classes."""
    names = [m.name for m in possible if _below(m.name, prefix)]
    names = [name for name in names if not _REGRESSION.search(name[len(prefix) :])] or names
    for_classes = [name for name in names if any(map(_CLASSES.search, name[len(prefix) :].split(".")[1:]))]
    return for_classes or names[-1:]


def _below(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix + ".")


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _warn_ambiguous(candidates: Sequence[str], chosen: Sequence[str]) -> None:
    warnings.warn(
        f"the output layer may be any of {', '.join(candidates)}; {', '.join(chosen)} is taken. Name it with output=",
        stacklevel=2,
    )
